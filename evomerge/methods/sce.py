"""SCE: keep entries on which the parents differ, weigh parents by energy, erase minority signs (Wan et al. 2024,
arXiv:2408.07990, Section 3.2).

Two details differ between the paper's code (FuseAI) and mergekit, and are knobs: what the selection applies to, and
when the weights are taken to be equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from evomerge.errors import ConfigError, MergeError, unknown
from evomerge.methods.entries import CPU, Entries, peak, unit
from evomerge.methods.kernels import Optional, Values, agreed, reaches, summed
from evomerge.methods.magnitudes import INFINITY, Array
from evomerge.methods.masks import END, WIDTH, WORD, tie_word
from evomerge.methods.settled import Settled
from evomerge.types import Knob, Method

SELECTS = ("deltas", "weights")
GUARDS = ("zero", "absolute")
#: mergekit takes weights for equal, and sums of weights for this large, where they are smaller.
TINY = 1e-6
SHARE, SCALE, CUT = 0, 1, 2  # rows of the kernel's numbers


def settle(
    entries: Entries, *, select_topk: float = 1.0, scale: float = 1.0, select: str = "deltas", guard: str = "zero"
) -> Settled:
    """scale * mean over the parents of the sign of sum_k tau_k, weighted by w_k = mean(tau_k^2) / sum_j mean(tau_j^2).

    select_topk: share of the entries of nonzero variance over the parents that is selected, by largest variance, equal
    ones by their words; 0 selects none and 1 or more everything. select: "deltas" (mergekit) sets all others to zero;
    "weights" (the authors' code) uses the selected ones for w_k alone. guard: w_k are equal if nothing is selected or
    all of it is zero ("zero", as in the authors' code), or if the mean squares sum to less than 1e-6 ("absolute"),
    which in mergekit silently makes them equal for the differences of ordinary language models.
    """
    for kind, value, known in (("select", select, SELECTS), ("guard", guard, GUARDS)):
        if value not in known:
            raise ConfigError(unknown(kind, value, known))
    chosen = _everything(entries) if select_topk >= 1 else _largest(entries, select_topk)
    selects = select == "deltas" and select_topk < 1
    kernel = Sce(selects, ties=selects and chosen.word < math.inf, clamp=guard == "absolute")
    rows = (
        _shares(chosen.energies, entries.n, guard),
        *((number,) * entries.parents for number in (scale, *chosen.cut)),
    )
    return Settled(kernel, rows, gain=abs(scale))


@dataclass(frozen=True)
class Sce:
    """Elect, average, then select: a place is kept of all parents or of none. numbers: rows SHARE, SCALE and CUT."""

    selects: bool
    ties: bool = False
    clamp: bool = False

    @property
    def random(self) -> bool:
        return self.ties

    def __call__(
        self, values: Values, numbers: torch.Tensor, column: Optional, words: Optional, extras: Values
    ) -> torch.Tensor:
        shares = [numbers[SHARE, k] for k in range(len(values))]
        weighted = [v * share for v, share in zip(values, shares, strict=True)]
        plus = summed(values) >= 0
        merged = agreed(weighted, plus, shares, TINY if self.clamp else None) * numbers[SCALE, 0]
        return torch.where(self._selected(values, numbers, column, words), merged, 0.0) if self.selects else merged

    def _selected(self, values: Values, numbers: torch.Tensor, column: Optional, words: Optional) -> torch.Tensor:
        word = None
        if self.ties:
            assert column is not None and words is not None
            word = tie_word(column, words[0])
        return reaches(variance(values), numbers[CUT : CUT + 3, 0], word)


def variance(values: Values) -> torch.Tensor:
    """P times the variance over the parents; exactly 0 where they are equal, as differences from the first one are."""
    if len(values) == 1:
        return torch.zeros_like(values[0])
    gaps = [v - values[0] for v in values[1:]]
    mean = summed(gaps) * (1 / len(values))  # not divided: a GPU would multiply by the inverse, and only sometimes
    deviations = [gap - mean for gap in gaps]
    return summed([mean * mean, *(d * d for d in deviations)])


# ---------------------------------------------------------------- what is selected


class Chosen(NamedTuple):
    """Entries above a variance, and those of this variance whose word is smaller; each parent's energy in them."""

    variance: float
    word: float
    energies: Sequence[float]

    @property
    def cut(self) -> tuple[float, float, float]:
        after = torch.nextafter(torch.tensor(self.variance), torch.tensor(math.inf))
        return self.variance, float(after), min(self.word, END)


class Table(NamedTuple):
    """Cumulated from the largest variance down over bins of its float32's upper half, those that occur.

    bins: int64 (B,); counts: int64 (B,); energies: float64 (P, B), the parents' sums of squares. nonzero: the number of
    entries of nonzero variance. places: int16 (n,), every entry's bin, on the entries' device.
    """

    places: torch.Tensor
    bins: torch.Tensor
    counts: torch.Tensor
    energies: torch.Tensor
    nonzero: int


def _everything(entries: Entries) -> Chosen:
    return Chosen(0.0, math.inf, entries.each(energy))


def _largest(entries: Entries, share: float) -> Chosen:
    """Exactly int(share * nonzero) entries. One pass over the tensor, for the bin in which the cut lies.

    Two words of equal entries may be equal, rarely; if they are the last to be kept then neither is.
    """
    table = entries.once(tabulate)
    keep = int(share * table.nonzero)
    if keep <= 0:
        return Chosen(math.inf, math.inf, (0.0,) * entries.parents)
    bin_ = int(torch.searchsorted(table.counts, keep))
    order, squares = _members(entries, table.places, int(table.bins[bin_]))
    last = keep - (int(table.counts[bin_ - 1]) if bin_ else 0)
    chosen, cut, word = _first(order, last)
    energies = squares[:, chosen].sum(1) + (table.energies[:, bin_ - 1].numpy() if bin_ else 0)
    return Chosen(cut, word, energies.tolist())


def _first(order: Array, n: int) -> tuple[Array, float, float]:
    """The first n of some places: bool (m,) which they are, their least variance, and the word that its equals need."""
    if n == len(order):
        return np.ones(n, bool), _spread_of(order.max()), math.inf
    last, next_ = np.partition(order, (n - 1, n))[n - 1 : n + 1]
    cut = _spread_of(last)
    return order < next_, cut, float((next_ & WORD) - END) if _spread_of(next_) == cut else math.inf


def _spread_of(order: Any) -> float:
    return float(np.int32(INFINITY - (order >> 32)).view(np.float32))


def _shares(energies: Sequence[float], n: int, guard: str) -> tuple[float, ...]:
    total = sum(energies)
    if total == 0 or (guard == "absolute" and total / n < TINY):
        return (1 / len(energies),) * len(energies)
    return tuple(energy / total for energy in energies)


# ---------------------------------------------------------------- facts


def energy(entries: Entries) -> float:
    """Sum of squares of one parent's values, in float64."""
    return sum(float(value.double().square().sum()) for _, (value,) in entries.blocks())


def tabulate(entries: Entries) -> Table:
    counts = torch.zeros(1 << 15, dtype=torch.int64, device=entries.device)
    energies = torch.zeros(entries.parents, 1 << 15, dtype=torch.float64, device=entries.device)
    places = torch.empty(entries.n, dtype=torch.int16, device=entries.device)
    nonzero = 0
    steps = [unit(largest**2, entries.n) for largest in entries.each(peak)]
    for start, values in entries.blocks():
        spread = variance(values)
        if spread.isnan().any():
            raise MergeError(
                "a tensor's differences are NaN, infinite, or too large for a variance over the parents, and "
                "finite ones are wanted. Leave out the parent that they come from, or repair its files."
            )
        bins = spread.view(torch.int32) >> 16
        places[start : start + len(bins)] = bins
        counts += bins.bincount(minlength=len(counts))
        for k, value in enumerate(values):
            energies[k] += bins.bincount((value.double().square() / steps[k]).round(), minlength=len(counts))
        nonzero += int(spread.count_nonzero())
    energies *= torch.tensor(steps, dtype=torch.float64, device=entries.device)[:, None]
    found = counts.nonzero().view(-1).flip(0)
    return Table(places, found.to(CPU), counts[found].cumsum(0).to(CPU), energies[:, found].cumsum(1).to(CPU), nonzero)


def _members(entries: Entries, places: torch.Tensor, bin_: int) -> tuple[Array, Array]:
    """Of the entries in a bin what they are ordered by, int64 (m,), and their squares, float64 (P, m).

    The largest variance is first, and of equals the smallest word.
    """
    at = _where(places, bin_)
    members = entries.picked(at)
    word = tie_word((at % WIDTH).to(torch.int32), entries.shared_words()[at // WIDTH])
    order = (INFINITY - variance(members).view(torch.int32)).long() << 32 | word + int(END)
    return order.to(CPU).numpy(), torch.stack(members).double().square().to(CPU).numpy()


def _where(places: torch.Tensor, bin_: int) -> torch.Tensor:
    """int64 (m,)"""
    if places.device.type != "cpu":
        return (places == bin_).nonzero().view(-1)
    return torch.from_numpy(np.flatnonzero(places.numpy() == np.int16(bin_)))  # four times as fast as torch


METHOD = Method(
    name="sce",
    settle=settle,
    knobs=(
        Knob("select_topk", default=1.0, low=0.05, high=1.0, scale="log"),
        Knob("scale", default=1.0, low=0.5, high=1.5),
        Knob("select", "deltas", scale="choice", values=SELECTS),
        Knob("guard", "zero", scale="choice", values=GUARDS),
    ),
    on="deltas",
    source="Wan et al. 2024, arXiv:2408.07990",
    keeps=1,  # two bytes per entry, for two parents or more
)
