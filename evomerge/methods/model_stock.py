"""Model Stock: between the base and the parents' mean, as far as their angles say (Jang et al. 2024, arXiv:2403.19522).

Parents are taken for noisy copies of one centre: the more their differences agree, the nearer is their mean to it.
"""

from __future__ import annotations

import math

import torch

from evomerge.errors import ConfigError, unknown
from evomerge.methods.entries import Entries
from evomerge.methods.gram import gram, row_grams
from evomerge.methods.kernels import Sum
from evomerge.methods.settled import Settled
from evomerge.types import Knob, Method

CLAMPS = ("none", "unit")
#: Products of two norms count as no smaller than this.
SHORT = 1e-6
#: Of a denominator: below, there is no estimate, and the base is kept.
SINGULAR = 1e-6


def settle(entries: Entries, *, t_scale: float = 1.0, filter_wise: bool = False, clamp_t: str = "none") -> Settled:
    """t_scale * t * mean_k tau_k, with t = N c / (1 + (N - 1) c), N parents and c their mean cosine.

    filter_wise: a t for each row along the last dimension; a tensor of one dimension is one row. Parents that disagree,
    with c below 0, may have any t, negative or far above 1: clamp_t "unit" keeps it in [0, 1], before t_scale. Like
    mergekit we average the cosines of all pairs, and take products of two norms as 1e-6 at least: rows of tiny
    differences stay near the base. Without t_scale, our own, this is mergekit's.
    """
    if clamp_t not in CLAMPS:
        raise ConfigError(unknown("clamp_t", clamp_t, CLAMPS))
    low, high = (0.0, 1.0) if clamp_t == "unit" else (-math.inf, math.inf)
    n = entries.parents
    if not filter_wise or len(entries.shape) < 2:
        t = t_scale * min(high, max(low, entries.once(ratio)))
        return Settled(Sum(), ((t / n,) * n,), gain=abs(t))
    each = t_scale * entries.once(row_ratios).clamp(low, high)  # (rows,)
    extras = (each / n).repeat(n, 1).unsqueeze(2).unbind()
    return Settled(Sum(), (), gain=float(each.abs().max()), extras=extras, width=entries.width)


def ratio(entries: Entries) -> float:
    """t of the whole tensor."""
    return float(_ratios(torch.from_numpy(entries.once(gram))))


def row_ratios(entries: Entries) -> torch.Tensor:
    """float32 (rows,): the t of each."""
    return _ratios(row_grams(entries)).float()


def _ratios(products: torch.Tensor) -> torch.Tensor:
    """t, float64 (...), of inner products (..., N, N). Two parents or more."""
    n = products.shape[-1]
    i, j = torch.triu_indices(n, n, 1, device=products.device)
    lengths = products.diagonal(dim1=-2, dim2=-1).sqrt()
    norms = (lengths[..., i] * lengths[..., j]).clamp(min=SHORT)
    cosine = (products[..., i, j] / norms).clamp(-1, 1).mean(-1)
    divisor = 1 + (n - 1) * cosine
    singular = divisor.abs() < SINGULAR
    return torch.where(singular, 0.0, n * cosine / torch.where(singular, 1.0, divisor))


METHOD = Method(
    name="model_stock",
    settle=settle,
    knobs=(
        Knob("t_scale", default=1.0, low=0.5, high=2.0),
        Knob("filter_wise", False, scale="choice", values=(False, True)),
        Knob("clamp_t", "none", scale="choice", values=CLAMPS),
    ),
    on="deltas",
    source="Jang et al. 2024, arXiv:2403.19522",
    arity=(2, None),
)
