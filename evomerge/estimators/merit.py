"""MERIT: a merge answers most items as its parents do; how far it does is learned from all candidates together.

A merge-aware hierarchical logistic estimator: a candidate's chance on an item is a logistic function of its parents'
answers to that item; its score is what it answered plus what is predicted of the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evomerge.errors import ConfigError
from evomerge.estimators.covariates import CovariateBank, covariates
from evomerge.estimators.greg import regress
from evomerge.estimators.merit_estimate import LearnedMerit, dispersion
from evomerge.estimators.merit_fit import Answers, Population, learn
from evomerge.estimators.misfit import Levels, collapsed, levels_of
from evomerge.estimators.units import units_of
from evomerge.items import ItemBank, Observed
from evomerge.types import Estimate

#: With this many candidates on different items, items have effects of their own.
_ENOUGH_FOR_ITEMS = 40
#: Items of a merge made before the search that are learned from: more cost time and tell little of its coefficients.
_ITEMS_OF_DESIGN = 2000


class Merit:
    """Estimates from a logistic regression on the parents' answers, its coefficients drawn from one population.

    covariates: "bits", the parents' scores, or "margins", by how much they knew. window: how many of the newest
    earlier candidates are learned from, besides those to be estimated and the merges made before the search.
    item_effects: whether items get effects of their own once 40 candidates have answered different ones.
    """

    def __init__(self, covariates: str = "margins", window: int = 100, item_effects: bool = False):
        if covariates not in ("bits", "margins"):
            raise ConfigError(f"estimator.covariates is {covariates!r}; wanted 'bits' or 'margins'.")
        if window < 0:
            raise ConfigError(f"estimator.window is {window}; wanted a number of candidates >= 0.")
        self._covariates, self._window, self._item_effects = covariates, window, item_effects

    def fit(self, bank: ItemBank) -> FittedMerit:
        units = units_of(bank)
        known = CovariateBank(bank, units, covariates(bank, units, self._covariates))
        return FittedMerit(known, self._window, self._item_effects)


@dataclass(frozen=True, eq=False)
class FittedMerit:
    """MERIT over one bank. model_assisted: its level deserves to be compared with that of weighted means."""

    known: CovariateBank
    window: int
    item_effects: bool
    model_assisted: bool = True

    def estimate(self, observed: Sequence[Observed], earlier: Sequence[Observed] = ()) -> list[tuple[Estimate, ...]]:
        """Per candidate one Estimate a task, from one fit over `observed`, the newest `earlier` and the designs.

        Earlier candidates are pooled by their answers rather than handed on as a prior from batch to batch, so the
        same candidates give the same estimates however they came in batches. The order within `observed` does not
        change a bit. Standard errors are scaled by one factor a candidate, so that the plain mean over tasks, taken
        as if they were independent, has the right one.
        """
        return self._learned(observed, earlier).estimate(observed)

    def frozen(self, earlier: Sequence[Observed]) -> LearnedMerit:
        """Population, item effects and levels of `earlier`, held fixed; plain data, fit for pickling."""
        return self._learned((), earlier)

    def _learned(self, observed: Sequence[Observed], earlier: Sequence[Observed]) -> LearnedMerit:
        units, rows = self.known.units, _pooled(observed, earlier, self.window) + _designs(self.known.bank)
        answers = [a for a in (self.known.answers(row) for row in rows) if len(a.index)]
        population, levels = screened(answers, self.known.x, item_effects=self.item_effects)
        others = [task for task, logistic in enumerate(units.logistic) if not logistic]
        regressions = [regress(rows, self.known.bank, units, task) for task in others]
        spread = dispersion(answers, self.known, population)
        return LearnedMerit(self.known, population, levels, spread, tuple(regressions))


def screened(answers: Sequence[Answers], x: np.ndarray, *, item_effects: bool) -> tuple[Population, Levels]:
    """What the usual candidates have in common: collapsed ones are found by a first fit and left out of a second."""
    population = learn(answers, x, item_effects=item_effects and differ(answers))
    chances = population.chances(x)
    levels = levels_of([chances[a.index] for a in answers], [a.right for a in answers])
    kept = [a for a in answers if not collapsed(chances[a.index], a.right, levels)]
    if len(kept) == len(answers):
        return population, levels
    population = learn(kept, x, item_effects=item_effects and differ(kept))
    chances = population.chances(x)
    return population, levels_of([chances[a.index] for a in kept], [a.right for a in kept])


def differ(answers: Sequence[Answers]) -> bool:
    """Whether there are enough candidates on different items to tell an item's own effect: no draw has a majority."""
    draws: dict[bytes, int] = {}
    for a in answers:
        draws[a.index.tobytes()] = draws.get(a.index.tobytes(), 0) + 1
    return len(answers) >= _ENOUGH_FOR_ITEMS and max(draws.values()) <= len(answers) / 2


def _pooled(observed: Sequence[Observed], earlier: Sequence[Observed], window: int) -> list[Observed]:
    """Each candidate once, the newest `window` of those not in `observed`, in an order that no batch changes."""
    new = {o.id: o for o in observed}
    old = [o for o in earlier if o.id not in new]
    chosen = [*new.values(), *old[max(0, len(old) - window) :]]
    return sorted(chosen, key=lambda o: (isinstance(o.id, str), o.id))


def _designs(bank: ItemBank) -> list[Observed]:
    stride = -(-bank.size // _ITEMS_OF_DESIGN)
    places = np.arange(0, bank.size, stride)
    return [Observed(f"design:{m}", places, row[places], bank.weights[places]) for m, row in enumerate(bank.designs)]
