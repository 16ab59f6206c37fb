"""Where a tensor lives: checkpoint name <-> (stack, block, rest) and its part, read from the name's own words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

PARTS = ("self_attn", "mlp", "norms", "embeddings", "head", "other")

_BLOCK = re.compile(r"^((?:.+\.)?(?:layers|layer|h|blocks|block))\.(\d+)\.(.+)$")
_WORDS = (
    ("norms", r"norm|(^|\.)ln_"),
    ("self_attn", r"attn|attention"),
    ("mlp", r"mlp|ffn|feed_forward|fc[12]|intermediate|DenseReluDense"),
    ("head", r"lm_head|embed_out|(^|\.)output\."),
    ("embeddings", r"embed|(^|\.)wte|(^|\.)wpe|(^|\.)shared\."),
)


@dataclass(frozen=True)
class Place:
    """`stack` and `block` are None outside the blocks; `rest` is the name inside the block."""

    stack: str | None
    block: int | None
    rest: str
    part: str


def place(name: str) -> Place:
    """The place of a tensor, e.g. model.layers.3.mlp.up_proj.weight -> (model.layers, 3, mlp.up_proj.weight, mlp)."""
    found = _BLOCK.match(name)
    if found is None:
        return Place(None, None, name, _part(name))
    return Place(found[1], int(found[2]), found[3], _part(found[3]))


def _part(name: str) -> str:
    return next((part for part, words in _WORDS if re.search(words, name, re.IGNORECASE)), "other")


def at_block(name: str, stack: str, block: int) -> str:
    """The name of the same tensor in another block."""
    return f"{stack}.{block}.{place(name).rest}"


def stacks(names: Iterable[str]) -> dict[str, int]:
    """Number of blocks of every stack, in the order of first appearance by name."""
    depth: dict[str, int] = {}
    for where in map(place, sorted(names)):
        if where.stack is not None and where.block is not None:
            depth[where.stack] = max(depth.get(where.stack, 0), where.block + 1)
    return depth
