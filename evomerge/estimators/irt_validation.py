"""How far item response theory is off on models that it was not calibrated on."""

from __future__ import annotations

import numpy as np

from evomerge.estimators.irt import ItemParameters, calibrate
from evomerge.estimators.irt_ability import Answers, ability
from evomerge.estimators.irt_fit import CalibratedBank
from evomerge.items import ItemBank

_FOLDS = 5
#: From here on the models of one fold are enough to average over.
_ENOUGH = 50


def validation_error(fit: CalibratedBank) -> np.ndarray:
    """float64 (T,): mean absolute error of the odd items' mean score, predicted from the even items' answers.

    Every fifth model is held out (Polo et al. 2024 hold out a fifth, once); below 50 models, every fifth in turn.
    1 for a task that cannot be tried.
    """
    m, errors = len(fit.answers), []
    for fold in range(1 if m >= _ENOUGH else min(m, _FOLDS)):
        items = calibrate(np.delete(fit.answers, np.s_[fold::_FOLDS], axis=0)).items
        errors += [_error(items, row, fit.bank) for row in fit.answers[fold::_FOLDS]]
    table = np.array(errors).reshape(len(errors), len(fit.bank.tasks))
    tried = ~np.isnan(table)
    return np.where(tried.any(0), np.where(tried, table, 0.0).sum(0) / np.maximum(tried.sum(0), 1), 1.0)


def _error(items: ItemParameters, row: np.ndarray, bank: ItemBank) -> np.ndarray:
    """float64 (T,) of one model; NaN where it has answered no odd item of a task."""
    odd = np.zeros(bank.size, dtype=bool)
    for task in range(len(bank.tasks)):
        odd[bank.places(task)[1::2]] = True
    even = np.flatnonzero(~odd & ~np.isnan(row))
    centre = np.zeros(items.slopes.shape[1])
    found = ability(items, Answers(even, row[even], np.ones(len(even))), centre=centre)
    off = bank.weights * (row - items.probability(found.mean))
    return np.array([_mean_off(off, bank.weights, odd & (bank.task == t)) for t in range(len(bank.tasks))])


def _mean_off(off: np.ndarray, weights: np.ndarray, at: np.ndarray) -> float:
    at = at & ~np.isnan(off)
    return abs(float(off[at].sum())) / float(weights[at].sum()) if at.any() else np.nan
