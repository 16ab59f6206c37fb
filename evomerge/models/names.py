"""Where a checkpoint's tensor lives in the live model: under its own name, under another, or as a slice of one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch

from evomerge.errors import ParentError
from evomerge.models.layout import place

#: File spelling -> live spelling: what transformers 5 renames on loading (its conversion_mapping.py).
_RENAMED = (
    (r"^embed_out\.", "lm_head."),  # gpt-neox
    (r"\.block_sparse_moe\.gate\.", ".mlp.router."),  # phimoe, before mixtral's
    (r"\.block_sparse_moe\.", ".mlp."),  # mixtral, minimax
    (r"\.block_sparse_moe\.input_linear\.weight$", ".block_sparse_moe.experts.gate_up_proj"),  # granitemoe
    (r"\.block_sparse_moe\.output_linear\.weight$", ".block_sparse_moe.experts.down_proj"),
    (r"\.block_sparse_moe\.router\.layer\.", ".block_sparse_moe.router."),
    (r"^backbone\.", "model."),  # nemotron_h
    (r"\.mlp\.moe_statics\.", ".mlp.gate.moe_statics."),  # ernie4_5_moe
    (r"\.mlp\.e_score_correction_bias$", ".mlp.gate.e_score_correction_bias"),  # exaone_moe
    (r"LayerNorm\.gamma$", "LayerNorm.weight"),  # checkpoints converted from TensorFlow
    (r"LayerNorm\.beta$", "LayerNorm.bias"),
)
_EXPERT = re.compile(r"(.+\.experts)\.(\d+)\.(\w+)\.weight")
#: An expert's matrix -> (fused live tensor of all experts, which half of its rows; None: all of them).
_FUSED = {
    **dict.fromkeys(("gate_proj", "w1"), (("gate_up_proj", 0),)),
    **dict.fromkeys(("up_proj", "w3"), (("gate_up_proj", 1), ("up_proj", None))),
    **dict.fromkeys(("down_proj", "w2"), (("down_proj", None),)),
}
#: Constants that older checkpoints carry and models no longer keep; the dot tells attn.bias from c_attn.bias.
CONSTANTS = r"rotary_emb\.inv_freq$|\.(attn|attention)\.(masked_)?bias$|(^|\.)position_ids$"
_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class Home:
    """A live tensor by name, and the box of it that a file's tensor fills; () is all of it."""

    tensor: str
    box: tuple[int | slice, ...] = ()


def homes(
    names: Iterable[str], live: Mapping[str, torch.Tensor], *, prefix: str = "", dropped: Iterable[str] = ()
) -> dict[str, Home]:
    """File name -> home, for every floating-point tensor of the files; names of a tied tensor share theirs.

    live: the live state dict, tied tensors being one object; meta tensors will do. prefix: the base model's, which a
    file may lack or have too much. dropped: patterns of file names that the model says it does not keep. Raises
    ParentError if a name has no home.
    """
    found = {name: find(name, live, prefix) for name in names}
    skip = re.compile("|".join((CONSTANTS, *dropped)))
    absent = sorted(name for name, home in found.items() if home is None and not skip.search(name))
    if absent:
        raise ParentError(
            f"transformers keeps no tensor '{absent[0]}' of this checkpoint ({len(absent)} in all): this architecture "
            "is renamed or fused on loading in a way that evomerge does not know. Choose parents of another one "
            "(README, Limits)."
        )
    return {name: home for name, home in found.items() if home and live[home.tensor].is_floating_point()}


def find(name: str, live: Mapping[str, torch.Tensor], prefix: str = "") -> Home | None:
    """The home of one file name: its own spelling first, then the renamed and the fused ones."""
    for spelling in _spellings(name, prefix):
        if spelling in live:
            return Home(spelling)
        home = _expert(spelling, live)
        if home is not None:
            return home
    return None


def _spellings(name: str, prefix: str) -> Iterator[str]:
    renamed = (re.sub(old, new, name) for old, new in _RENAMED if re.search(old, name))
    for spelling in (name, *renamed):
        yield spelling
        if prefix:
            yield f"{prefix}.{spelling}"
            yield spelling.removeprefix(f"{prefix}.")


def _expert(name: str, live: Mapping[str, torch.Tensor]) -> Home | None:
    """The slice of the fused (E, rows, columns) tensor that one expert's (rows, columns) matrix fills."""
    word = _EXPERT.fullmatch(name)
    if word is None:
        return None
    expert = int(word[2])
    for fused, half in _FUSED.get(word[3], ()):
        tensor = live.get(f"{word[1]}.{fused}")
        if tensor is not None and tensor.dim() == 3 and expert < tensor.shape[0]:
            rows = tensor.shape[1] // 2
            cut = () if half is None else (slice(half * rows, (half + 1) * rows),)
            return Home(f"{word[1]}.{fused}", (expert, *cut))
    return None


def once(found: Mapping[str, Home], live: Mapping[str, torch.Tensor]) -> dict[str, Home]:
    """The homes with one name for each: the embedding's before the head's, then the shortest, as T5's shared.weight.

    Raises ParentError if a floating-point entry of the live model is filled by no name, or by two that differ.
    """
    claims: dict[tuple[int, str], list[str]] = {}
    for name, home in found.items():
        claims.setdefault((id(live[home.tensor]), str(home.box)), []).append(name)
    chosen = {min(names, key=lambda n: (place(n).part != "embeddings", len(n), n)) for names in claims.values()}
    kept = {name: home for name, home in found.items() if name in chosen}
    _refuse_uncovered(kept, live)
    return kept


def _refuse_uncovered(kept: Mapping[str, Home], live: Mapping[str, torch.Tensor]) -> None:
    filled: dict[int, int] = {}
    for home in kept.values():
        tensor = live[home.tensor]
        filled[id(tensor)] = filled.get(id(tensor), 0) + view(tensor, home).numel()
    odd = sorted(n for n, t in live.items() if t.is_floating_point() and filled.get(id(t), 0) != t.numel())
    if odd:
        has, wanted = filled.get(id(live[odd[0]]), 0), live[odd[0]].numel()
        share = f"lacks '{odd[0]}'" if has == 0 else f"has {has} entries for the {wanted} of '{odd[0]}'"
        raise ParentError(
            f"the checkpoint {share} ({len(odd)} such), which the live model has. Wanted every entry once: load the "
            "parent with transformers and save it again with save_pretrained."
        )


def view(tensor: torch.Tensor, home: Home) -> torch.Tensor:
    """The place as a view, which can be written to."""
    return tensor[home.box] if home.box else tensor


def verify(targets: Mapping[str, torch.Tensor], read: Callable[[str], torch.Tensor]) -> None:
    """Demand that a freshly loaded model holds the checkpoint's own numbers at every target, bit for bit.

    targets: file name -> live tensor or view. read: file name -> the file's tensor, read once each and cast to the
    target's dtype. Raises ParentError at the first that differs: candidates would be written to wrong places.
    """
    for name, target in targets.items():
        own = read(name).to(target.device, target.dtype)
        if own.shape != target.shape or not torch.equal(_bits(own), _bits(target)):
            raise ParentError(
                f"transformers does not load '{name}' as it stands in the file: file {tuple(own.shape)}, live "
                f"{tuple(target.shape)}, or other numbers. This architecture is rearranged on loading and cannot be "
                "merged in place. Choose parents of another one, or save the parent again with save_pretrained."
            )


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().view(_BITS[tensor.element_size()])  # as integers: -0.0 and 0.0 differ, NaN equals itself
