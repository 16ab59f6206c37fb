"""Where a tensor lives: checkpoint name <-> (stack, block, rest) and its part, read from the name's own words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

PARTS = ("self_attn", "cross_attn", "mlp", "router", "norms", "embeddings", "head", "other")

#: The first numbered list of blocks counts: what is numbered inside a block (T5's layers, experts) stays in `rest`.
_BLOCK = re.compile(r"^((?:.+?\.)?(?:layers|layer|h|blocks|block))\.(\d+)\.(.+)$")
#: A norm is the module that owns the tensor: dbrx's norm_attn_norm.attn.Wqkv.weight is attention.
_NORM = r"norm[^.]*(\.[^.]+)?$|(^|[._])ln(_?[^.]*)\.[^.]+$"
_INSIDE = (
    ("norms", _NORM),
    ("cross_attn", r"EncDecAttention|encoder_attn|cross_?att"),
    ("self_attn", r"att(n|ention)|(^|\.)(qkv|[qkvo]_proj)\."),
    ("router", r"(^|\.)(gate|router|\w*expert_gate)(\.|$)|score_correction"),
    ("mlp", r"mlp|ffn|feed_?forward|intermediate|DenseReluDense|expert|moe|(^|\.)(fc\d?|ff|output|w[123])\."),
)
_OUTSIDE = (
    ("norms", _NORM),
    ("head", r"lm_head|embed_out|unembed|(^|\.)(output|head|cls|classifier|score|pooler)\.|final_logits_bias"),
    ("embeddings", r"embed|(^|\.)(wte|wpe|shared)\."),
)


@dataclass(frozen=True)
class Place:
    """`stack` and `block` are None outside the blocks; `rest` is the name inside the block; `part` is one of PARTS."""

    stack: str | None
    block: int | None
    rest: str
    part: str


@lru_cache(1 << 16)
def place(name: str) -> Place:
    """The place of a tensor, e.g. model.layers.3.mlp.up_proj.weight -> (model.layers, 3, mlp.up_proj.weight, mlp)."""
    found = _BLOCK.match(name)
    if found is None:
        return Place(None, None, name, _part(name, _OUTSIDE))
    return Place(found[1], int(found[2]), found[3], _part(found[3], _INSIDE))


def _part(name: str, words: Iterable[tuple[str, str]]) -> str:
    return next((part for part, word in words if re.search(word, name, re.IGNORECASE)), "other")


def at_block(name: str, stack: str, block: int) -> str:
    """The name of the same tensor in another block."""
    return f"{stack}.{block}.{place(name).rest}"


def stacks(names: Iterable[str]) -> dict[str, int]:
    """Number of blocks of every stack, in the order the model runs them: an encoder before what it feeds."""
    depth: dict[str, int] = {}
    for where in map(place, names):
        if where.stack is not None and where.block is not None:
            depth[where.stack] = max(depth.get(where.stack, 0), where.block + 1)
    return {stack: depth[stack] for stack in sorted(depth, key=lambda s: ("encoder" not in s.split("."), s))}
