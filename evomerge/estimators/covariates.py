"""What is known of each item before a candidate answers it: the covariates of MERIT and of its fallback."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from evomerge.estimators.irt import calibrate
from evomerge.estimators.merit_fit import Answers
from evomerge.estimators.units import Units
from evomerge.items import ItemBank, Observed

#: Below this many other models the parameters of an item are too loose to be worth two covariates.
ENOUGH_MODELS = 20


@dataclass(frozen=True, eq=False)
class CovariateBank:
    """A bank with its units and covariates x, float64 (N, p)."""

    bank: ItemBank
    units: Units
    x: np.ndarray

    @cached_property
    def logistic(self) -> tuple[int, ...]:
        """The tasks whose answers are modelled."""
        return tuple(task for task, logistic in enumerate(self.units.logistic) if logistic)

    @cached_property
    def spans(self) -> np.ndarray:
        """float64 (T,): the size of the step from 0 to 1 in a task's own units; 0 where it is not modelled."""
        return np.where(self.units.logistic, self.units.high - self.units.low, 0.0)

    def answers(self, observed: Observed) -> Answers:
        """What a candidate answered in logistic tasks, in bank order; an item without a finite value does not count."""
        task = self.bank.task[observed.index]
        order = np.argsort(observed.index)
        order = order[(np.array(self.units.logistic, dtype=bool)[task] & np.isfinite(observed.values))[order]]
        index, task, values = observed.index[order], task[order], observed.values[order]
        shares = (values - self.units.low[task]) / (self.units.high - self.units.low)[task]
        return Answers(index, np.clip(shares, 0.0, 1.0), shares)

    def per_task(self, values: np.ndarray) -> np.ndarray:
        """Sums over each task's items: (N, ...) -> (T, ...)."""
        found = np.zeros((len(self.bank.tasks), *values.shape[1:]))
        np.add.at(found, self.bank.task, values)
        return found


def covariates(bank: ItemBank, units: Units, kind: str) -> np.ndarray:
    """float64 (N, p): intercept, endpoints' answers, parameters from a leaderboard, tasks; centred over the items.

    kind "bits": the endpoints' scores between 0 and 1; "margins": tanh(margin / 2), which is 2 P(right) - 1 of two
    choices, or 2 score - 1 where there is no margin. Items of tasks that are not logistic have zeros. A column
    without variance is dropped; a missing answer counts as that endpoint's mean.
    """
    logistic = np.array(units.logistic, dtype=bool)[bank.task]
    columns = [*_answers(bank, units, kind), *_parameters(bank, units, logistic), *_tasks(bank, logistic)]
    return np.stack([logistic.astype(np.float64), *_centred(columns, logistic)], axis=1)


def endpoint_covariates(bank: ItemBank, units: Units, task: int) -> np.ndarray:
    """float64 (N_t, p): the endpoints' scores on the items of one task, centred; p may be 0."""
    scores = [units.scaled(row[bank.places(task)], task) for row in bank.endpoints]
    columns = _centred(scores, np.ones(len(bank.places(task)), dtype=bool))
    return np.stack(columns, axis=1) if columns else np.zeros((len(bank.places(task)), 0))


def _answers(bank: ItemBank, units: Units, kind: str) -> list[np.ndarray]:
    scores = units.scaled(bank.endpoints, bank.task)  # (K, N)
    if kind == "bits" or bank.margins is None:
        return list(scores)
    return list(np.where(np.isnan(bank.margins), 2 * scores - 1, np.tanh(bank.margins / 2)))


def _parameters(bank: ItemBank, units: Units, logistic: np.ndarray) -> list[np.ndarray]:
    """Halved log-odds of an item at the endpoints' mean ability, and its slope, from a one-dimensional fit."""
    if len(bank.leaderboard) < ENOUGH_MODELS or not logistic.any():
        return []
    models = np.concatenate([bank.leaderboard, bank.endpoints])
    found = calibrate(np.where(logistic, units.scaled(models, bank.task), np.nan), dimensions=1)
    slopes = found.items.slopes[:, 0]
    ability = float(found.abilities[len(bank.leaderboard) :].mean()) if len(bank.endpoints) else 0.0
    return [(slopes * ability - found.items.intercepts) / 2, slopes]


def _tasks(bank: ItemBank, logistic: np.ndarray) -> list[np.ndarray]:
    """One column for each task after the first."""
    return [(bank.task == task).astype(np.float64) for task in np.unique(bank.task[logistic])[1:]]


def _centred(columns: list[np.ndarray], among: np.ndarray) -> list[np.ndarray]:
    """Less their mean over the items `among`, zero elsewhere and where unknown; those that vary there."""
    found = []
    for column in columns:
        known = among & np.isfinite(column)
        if known.any() and np.ptp(column[known]) > 0:
            found.append(np.where(known, column - column[known].mean(), 0.0))
    return found
