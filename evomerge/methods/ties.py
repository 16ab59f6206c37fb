"""TIES: trim, elect sign, disjoint merge (Yadav et al. 2023, arXiv:2306.01708, Algorithm 1).

Unlike the paper, parents have weights, a sum of zero elects plus (the authors' code: the sign most frequent in the
model), and the trim keeps int(density n) entries where their code keeps one more. Unlike mergekit, equal magnitudes
are trimmed by a rule, and the maths is float32 whatever the checkpoints' dtype.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch

from evomerge.errors import ConfigError, unknown
from evomerge.methods import knobs
from evomerge.methods.dare import gain
from evomerge.methods.entries import Entries
from evomerge.methods.kernels import Consensus
from evomerge.methods.order import Cut, largest, mass
from evomerge.methods.rescale import fixed_factor, l1_factor
from evomerge.methods.settled import Settled
from evomerge.types import Knob, Method

SCOPES = ("tensor", "model")
#: Trims of a whole model that are kept, the last that were asked for.
KEPT = 64


def settle(
    entries: Entries,
    *,
    weight: float | Sequence[float] = 1.0,
    density: float | Sequence[float] = 1.0,
    scale: float = 1.0,
    normalize: bool = True,
    rescale: str = "none",
    scope: str = "tensor",
) -> Settled:
    """scale * (disjoint mean of the trimmed differences), or their disjoint sum without `normalize`.

    density: share kept, max(1, int(density n)) entries; the paper's is 0.2. scope: what n counts, each "tensor" by
    itself as in mergekit, or the whole "model" as in the paper. A negative weight turns a parent's vote round. `scale`
    is lambda in mergekit and in the paper. Raises MergeError for the scope "model" where there is only a tensor.
    """
    weights = knobs.per_parent("weight", weight, entries.parents)
    densities = knobs.per_parent("density", density, entries.parents)
    trim = _trims(scope)
    cuts, factors = zip(*(trim(entries, k, p, rescale) for k, p in enumerate(densities)), strict=True)
    kernel = Consensus("largest", any(c.splits for c in cuts), elect=True, normalize=normalize)
    coefficients = tuple(w * f for w, f in zip(weights, factors, strict=True))
    numbers = (coefficients, weights, (scale,) * entries.parents, *zip(*(c.numbers for c in cuts), strict=True))
    return Settled(kernel, numbers, gain=gain(kernel, coefficients, weights, scale))


def _trims(scope: str) -> Any:
    if scope not in SCOPES:
        raise ConfigError(unknown("scope", scope, SCOPES))
    return _of_tensor if scope == "tensor" else _of_model


def _of_tensor(entries: Entries, k: int, density: float, rescale: str) -> tuple[Cut, float]:
    return _trim(entries.alone(k), density, rescale)


def _trim(entries: Entries, density: float, rescale: str, exact: bool | None = None) -> tuple[Cut, float]:
    """The cut of one parent and the factor of what it keeps."""
    keep = count(density, entries.n)
    factor = fixed_factor(rescale, density)
    if rescale == "l1" and 0 < keep < entries.n:
        factor = l1_factor(mass(entries, entries.n), mass(entries, keep))
    return largest(entries, keep, exact=exact), factor


def count(density: float, n: int) -> int:
    """Entries that a trim keeps of n: at least one, unless the density is 0 or less."""
    if density >= 1 or density <= 0:
        return n if density >= 1 else 0
    return max(1, int(density * n))


# ---------------------------------------------------------------- the whole model


def _of_model(entries: Entries, k: int, density: float, rescale: str) -> tuple[Cut, float]:
    """One cut and factor for all tensors: looked up once for a candidate."""
    found = entries.model_learned.setdefault(_of_model, {})
    key = (k, density, rescale)
    if key not in found:
        if len(found) >= KEPT:
            del found[next(iter(found))]
        whole = _joined(entries.everywhere(), entries.model_learned.setdefault(_joined, tuple({} for _ in entries.own)))
        found[key] = _trim(whole.alone(k), density, rescale, exact=False)  # words belong to tensors
    return found[key]  # type: ignore[no-any-return]


def _joined(tensors: Sequence[Entries], own: tuple[dict[Any, Any], ...]) -> Entries:
    """All tensors as one long one."""
    starts = [0, *accumulate(tensor.n for tensor in tensors)]

    def read(start: int, stop: int, parents: Sequence[int]) -> list[torch.Tensor]:
        parts = []
        while start < stop:
            at = bisect_right(starts, start) - 1
            end = min(stop, starts[at + 1])
            parts.append(tensors[at].read(start - starts[at], end - starts[at], parents))
            start = end
        return [torch.cat(pieces) for pieces in zip(*parts, strict=True)]

    return Entries((starts[-1],), read, tensors[0].keys, tensors[0].device, own=own)


METHOD = Method(
    name="ties",
    settle=settle,
    knobs=(
        Knob("weight", default=1.0, low=0.0, high=1.0, per_parent=True),
        knobs.DENSITY,
        knobs.SCALE,
        knobs.normalize(True),
        knobs.rescale("none"),
        Knob("scope", default="tensor", scale="choice", values=SCOPES),
    ),
    on="deltas",
    source="Yadav et al. 2023, arXiv:2306.01708",
)
