"""Post-stratification: weighted means within items of equal difficulty to the endpoints, put together by their shares.

It takes nothing for granted of how candidates answer, so it stands in where a model of the answers has gone wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evomerge.estimators.mean import Answered, mean_over, weighted_mean
from evomerge.estimators.units import Units, units_of
from evomerge.items import ItemBank, Observed
from evomerge.types import Estimate

#: A stratum of fewer answers is joined with its neighbour.
_LEAST = 5
#: More strata than this plus one would each hold too few items.
_MOST_LEVELS = 8


class PostStrat:
    """Weighted means over strata of items that about equally many of the endpoints answer right."""

    def fit(self, bank: ItemBank) -> FittedPostStrat:
        return FittedPostStrat(bank, strata_of(bank, units_of(bank)))


@dataclass(frozen=True, eq=False)
class FittedPostStrat:
    """strata: int64 (N,), of each item within its task, ordered from hard to easy."""

    bank: ItemBank
    strata: np.ndarray

    def estimate(self, observed: Sequence[Observed], earlier: Sequence[Observed] = ()) -> list[tuple[Estimate, ...]]:
        """Per candidate one Estimate a task; `earlier` teaches nothing."""
        return [tuple(self._task(one, task) for task in range(len(self.bank.tasks))) for one in observed]

    def frozen(self, earlier: Sequence[Observed]) -> FittedPostStrat:
        return self

    def _task(self, observed: Observed, task: int) -> Estimate:
        seen = Answered.of(observed, self.bank, task)
        if self.bank.metrics[task].kind == "pairs" or len(seen) < 2 * _LEAST:
            return weighted_mean(observed, self.bank, task)
        places = self.bank.places(task)
        joined = join(np.bincount(self.strata[seen.places], minlength=int(self.strata[places].max()) + 1))
        of_place, of_seen = joined[self.strata[places]], joined[self.strata[seen.places]]
        found = [self._stratum(seen.among(of_seen == h), places[of_place == h], task) for h in range(joined.max() + 1)]
        value = sum(share * e.value for share, e in found)
        variance = sum((share * e.stderr) ** 2 for share, e in found)
        return Estimate(float(value), float(np.sqrt(variance)), len(seen))

    def _stratum(self, seen: Answered, places: np.ndarray, task: int) -> tuple[float, Estimate]:
        return float(self.bank.weights[places].sum()), mean_over(seen, len(places), self.bank, task)


def strata_of(bank: ItemBank, units: Units) -> np.ndarray:
    """int64 (N,): how many endpoints answer an item right, fractions rounded; at most nine levels."""
    scores = units.scaled(bank.endpoints, bank.task)  # (K, N)
    known = ~np.isnan(scores)
    share = np.where(known, scores, 0.0).sum(0) / np.maximum(known.sum(0), 1)
    return np.asarray(np.rint(share * min(len(bank.endpoints), _MOST_LEVELS)), dtype=np.int64)


def join(counts: np.ndarray) -> np.ndarray:
    """int64 (strata,): the number of the joined stratum of each, so that none has fewer than _LEAST answers.

    Neighbours are joined from the hard end on; what is left over at the easy end goes to the last one.
    """
    joined, held, number = np.zeros(len(counts), dtype=np.int64), 0, 0
    for h, count in enumerate(counts):
        if held >= _LEAST and counts[h:].sum() >= _LEAST:
            number, held = number + 1, 0
        joined[h], held = number, held + int(count)
    return joined
