"""A bank calibrated for item response theory, and the estimate that follows from an ability."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evomerge.errors import ConfigError
from evomerge.estimators.irt import FEW_MODELS, ItemParameters, calibrate
from evomerge.estimators.irt_ability import Ability, Answers
from evomerge.estimators.irt_models import cutoffs, dispersion, distinct
from evomerge.estimators.mean import weighted_mean
from evomerge.estimators.units import Units, units_of
from evomerge.items import ItemBank, Observed
from evomerge.types import Estimate


@dataclass(frozen=True, eq=False)
class CalibratedBank:
    """A bank and its item parameters, from all distinct models that answered it.

    answers: float64 (M, N) in [0, 1] as calibrated on, NaN where not asked or where the task is not logistic. parents:
    float64 (K, D), abilities of the distinct endpoints. dispersion: float64 (T,). cutoffs: float64 (T,) or None, above
    which a score counts as right for item parameters and abilities (not for what was seen).
    """

    bank: ItemBank
    units: Units
    answers: np.ndarray
    items: ItemParameters
    parents: np.ndarray
    dispersion: np.ndarray
    cutoffs: np.ndarray | None

    @property
    def centre(self) -> np.ndarray:
        """float64 (D,): what is expected of a candidate that has answered nothing."""
        return self.parents.mean(0) if len(self.parents) else np.zeros(self.items.slopes.shape[1])

    @property
    def fallback(self) -> str | None:
        return "few-models" if len(self.answers) < FEW_MODELS else None

    def seen(self, observed: Observed) -> Answers:
        """The answers that tell of the ability: those of logistic tasks, bits if there are cutoffs."""
        task = self.bank.task[observed.index]
        logistic = np.array(self.units.logistic, dtype=bool)[task]
        index, task, values = observed.index[logistic], task[logistic], observed.values[logistic]
        right = self.units.scaled(values, task)
        if self.cutoffs is not None:
            right = (right > self.cutoffs[task]).astype(np.float64)
        return Answers(index, right, self.dispersion[task])


def calibrated(bank: ItemBank, *, binarize: str | None = None) -> CalibratedBank:
    """Calibrate on leaderboard, designs and endpoints; equal rows count once, for a copy is no new evidence.

    With `binarize="tiny"` fractions become bits as in tinyBenchmarks: per task at the cutoff that best keeps the
    models' means.
    """
    units = units_of(bank)
    answers, parents = distinct(bank, units)
    cuts = cutoffs(answers, bank) if binarize == "tiny" else None
    if cuts is not None:
        answers = np.where(np.isnan(answers), np.nan, answers > cuts[bank.task])
    found = calibrate(answers)
    spread = dispersion(answers, found.items.probability(found.abilities), bank)
    return CalibratedBank(bank, units, answers, found.items, found.abilities[parents], spread, cuts)


def check_binarize(group: str, binarize: str | None) -> None:
    if binarize not in (None, "tiny"):
        raise ConfigError(f"{group}.binarize is {binarize!r}; wanted null or 'tiny'.")


@dataclass(frozen=True, eq=False)
class FittedIrt:
    """Estimates from one ability per candidate, found by `ability` from all of its answers; `fallback` marks them."""

    fit: CalibratedBank
    ability: Callable[[Answers], Ability]
    fallback: str | None

    def estimate(self, observed: Sequence[Observed], earlier: Sequence[Observed] = ()) -> list[tuple[Estimate, ...]]:
        """Nothing is learned from other candidates; items that failed (NaN) count as not asked."""
        return [self._of(answered(one)) for one in observed]

    def frozen(self, earlier: Sequence[Observed]) -> FittedIrt:
        return self

    def _of(self, observed: Observed) -> tuple[Estimate, ...]:
        found = self.ability(self.fit.seen(observed))
        return tuple(self._task(observed, found, task) for task in range(len(self.fit.bank.tasks)))

    def _task(self, observed: Observed, found: Ability, task: int) -> Estimate:
        bank = self.fit.bank
        if not self.fit.units.logistic[task]:
            return _unmodelled(observed, bank, task)
        level = performance(self.fit, observed, found, task)
        if level.n_items == len(bank.places(task)):
            return weighted_mean(observed, bank, task)  # exact, and in the scores' own units
        return replace(self.fit.units.back(level, task), fallback=self.fallback if level.n_items else "no-items")


def answered(observed: Observed) -> Observed:
    """The same without answers that are no finite number: an item that failed was not run."""
    keep = np.isfinite(observed.values)
    arrays = observed.index, observed.values, observed.weights, observed.sizes
    return Observed(observed.id, *(a[keep] for a in arrays))


def performance(fit: CalibratedBank, observed: Observed, found: Ability, task: int) -> Estimate:
    """p-IRT of one task in [0, 1]: what was seen, as it is, and the model's word for the rest (Polo et al., eq. 4).

    The variance is the delta method's for the ability plus that of the unseen answers; errors of item parameters and
    misfit of the model are not in it. It is bounded by Z (1 - Z), the largest that a number in [0, 1] of mean Z has.
    """
    bank, here = fit.bank, fit.bank.task[observed.index] == task
    seen = observed.index[here]
    rest = np.setdiff1d(bank.places(task), seen)
    p, w, slopes = fit.items.probability(found.mean)[rest], bank.weights[rest], fit.items.slopes[rest]
    value = float(bank.weights[seen] @ fit.units.scaled(observed.values[here], task) + w @ p)
    gradient = (w * p * (1 - p)) @ slopes  # (D,)
    variance = gradient @ found.covariance @ gradient + fit.dispersion[task] * (w**2) @ (p * (1 - p))
    return Estimate(value, float(np.sqrt(min(variance, max(value * (1 - value), 0.0)))), int(here.sum()))


def _unmodelled(observed: Observed, bank: ItemBank, task: int) -> Estimate:
    found = weighted_mean(observed, bank, task)
    kind = "pairs" if bank.metrics[task].kind == "pairs" else "unbounded"
    return replace(found, fallback=kind if found.n_items else "no-items")
