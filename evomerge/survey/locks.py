"""Signs that a parent was rewritten so that it computes the same and merges to rubbish.

Such locks permute or rescale hidden units, rotate spaces, or put an invertible matrix between the two factors of an
attention head. Only blocks where a parent lies far from the base are looked at, and of these a few, on sampled rows.
What is not seen: a lock mixed from several of these moves in one tensor, invertible (not orthogonal) matrices in
fused attention weights, and a lock on a parent that is also heavily trained. Thresholds are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch

from evomerge.models import layout
from evomerge.models.family import Family
from evomerge.survey import figures
from evomerge.survey.nouns import Lock, Survey

FAR = 0.3  # relative norm of a tensor's change, above which it is looked at
SAME = 0.9  # cosine of two rows, or correlation of two sets of inner products, that means "the same"
TURNED = 0.8  # cosine of a whole tensor with the base's, above which it is no rotation of it
KEPT = 0.1  # relative difference of a head's product, below which its function is kept
STRETCH = 1.25  # a row longer or shorter by this factor is rescaled
SAMPLE = 64  # rows compared per tensor
BLOCKS = 4  # blocks looked at per parent

Kind = Literal["permuted", "rescaled", "rotated", "heads"]


def locks(family: Family, survey: Survey, device: torch.device) -> tuple[Lock, ...]:
    """What was found, parent by parent; nothing is read for parents near the base."""
    found: list[Lock] = []
    for i, card in enumerate(survey.parents):
        far = _far_tensors(survey, i)
        if far and card.rank is None and card.dtype != "adapter":
            found += _locks_of(family, card.name, card.digest, far, device)
    return tuple(found)


def _far_tensors(survey: Survey, parent: int) -> dict[tuple[str, int], list[str]]:
    """Block -> its matrices that lie far from the base; at most BLOCKS blocks, evenly spread."""
    far: dict[tuple[str, int], list[str]] = {}
    for name, tally in survey.tallies.items():
        where = layout.place(name)
        matrix = len(survey.shapes[name]) == 2
        if where.stack is None or where.block is None or not matrix:
            continue
        if figures.relative_norms(tally)[parent] > FAR:
            far.setdefault((where.stack, where.block), []).append(name)
    keys = sorted(far)
    kept = {keys[round(i * (len(keys) - 1) / max(BLOCKS - 1, 1))] for i in range(BLOCKS)} if keys else set()
    return {key: far[key] for key in sorted(kept)}


def _locks_of(
    family: Family, parent: str, digest: str, far: Mapping[tuple[str, int], list[str]], device: torch.device
) -> list[Lock]:
    assert family.base is not None
    seen: dict[Kind, list[str]] = {}
    tried = 0
    for names in far.values():
        pairs = {n: _pair(family, digest, n, device) for n in names}
        tried += len(names)
        for name, (base, other) in pairs.items():
            kind = disguise(base, other)
            if kind is not None:
                seen.setdefault(kind, []).append(name)
        seen.setdefault("heads", []).extend(_rewritten_heads(pairs, family.model.config))
    return [Lock(parent, kind, len(names), tried, names[0]) for kind, names in seen.items() if names]


def _pair(family: Family, digest: str, name: str, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    assert family.base is not None
    base, other = (family.read(d, name, device).float() for d in (family.base.digest, digest))
    return base, other


# ---------------------------------------------------------------- one matrix


def disguise(base: torch.Tensor, other: torch.Tensor) -> Kind | None:
    """How a float32 (m, n) matrix can be the base's in disguise: rows or columns permuted, rescaled, or rotated."""
    for one, two in ((base, other), (base.T, other.T)):
        kind = _moved(one, two)
        if kind is not None:
            return kind
    if _cosine(base.flatten(), other.flatten()) < TURNED and (_rotated(base, other) or _rotated(base.T, other.T)):
        return "rotated"
    return None


def _moved(base: torch.Tensor, other: torch.Tensor) -> Kind | None:
    """Whether most sampled rows of `other` are rows of the base at another place, or at their own but rescaled."""
    at = _sampled(len(base)).to(base.device)
    unit = torch.nn.functional.normalize(base, dim=1)
    cosines = torch.nn.functional.normalize(other[at], dim=1) @ unit.T  # (rows, m)
    best, where = cosines.abs().max(dim=1)
    same = best > SAME
    home = where == at
    stretch = other[at].norm(dim=1) / base[at].norm(dim=1).clamp_min(1e-30)
    turned = cosines[torch.arange(len(at)), at] < 0
    rescaled = (stretch > STRETCH) | (stretch < 1 / STRETCH) | turned
    if 2 * int((same & ~home).sum()) > len(at):
        return "permuted"
    return "rescaled" if 2 * int((same & home & rescaled).sum()) > len(at) else None


def _rotated(base: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether the inner products between rows are kept: then other = base R with an orthogonal R."""
    at = _sampled(len(base)).to(base.device)
    if len(at) < 8:  # too few products to tell
        return False
    off = ~torch.eye(len(at), dtype=torch.bool, device=base.device)
    one, two = ((rows[at] @ rows[at].T)[off] for rows in (base, other))
    return _cosine(one - one.mean(), two - two.mean()) > SAME


def _sampled(rows: int) -> torch.Tensor:
    return torch.linspace(0, rows - 1, min(rows, SAMPLE)).round().long()


def _cosine(one: torch.Tensor, two: torch.Tensor) -> float:
    return float(torch.dot(one.double(), two.double()) / (one.double().norm() * two.double().norm()).clamp_min(1e-30))


# ---------------------------------------------------------------- attention heads


def _rewritten_heads(pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]], config: Mapping[str, object]) -> list[str]:
    """Projections that differ from the base's while the products Q'K and OV of their heads are kept."""
    named = {key: n for n in pairs for key in ("q_proj", "k_proj", "v_proj", "o_proj") if f"{key}.weight" in n}
    heads = config.get("num_attention_heads")
    found = []
    for left, right in (("q_proj", "k_proj"), ("o_proj", "v_proj")):
        if left in named and right in named and isinstance(heads, int):
            one, two = ([w.T if left == "o_proj" else w for w in pairs[named[left]]], pairs[named[right]])
            if product_change((one[0], two[0]), (one[1], two[1]), heads) < KEPT:
                found.append(named[left])
    return found


def product_change(
    base: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor], heads: int
) -> float:
    """Relative change of the heads' products A_h' B_g, the norm over all heads.

    base and other: (A, B), float32 (heads d, hidden) and (groups d, hidden), as query and key (or output, transposed,
    and value) of grouped attention. The products (hidden, hidden) are never formed:
    <A'B, C'D> = sum of (A C') * (B D').
    """
    squared = _inner(base, base, heads)
    change = squared - 2 * _inner(base, other, heads) + _inner(other, other, heads)
    return float((max(change, 0.0) / max(squared, 1e-30)) ** 0.5)


def _inner(one: tuple[torch.Tensor, torch.Tensor], two: tuple[torch.Tensor, torch.Tensor], heads: int) -> float:
    d = len(one[0]) // heads
    a, c = (t.double().view(heads, d, -1) for t in (one[0], two[0]))
    b, e = (t.double().view(len(t) // d, d, -1) for t in (one[1], two[1]))
    right = (b @ e.transpose(1, 2)).repeat_interleave(heads // len(b), dim=0)  # (heads, d, d)
    return float(((a @ c.transpose(1, 2)) * right).sum())
