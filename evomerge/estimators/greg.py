"""Generalised regression: the weighted mean, corrected for how the drawn items differ from the bank in what is known.

A difference estimator (Särndal et al. 1992, ch. 6) with one regression pooled over all candidates; it needs no model of
the answers, so it serves unbounded scores, and ratios ("pairs") by their linearised values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from evomerge.estimators.covariates import endpoint_covariates
from evomerge.estimators.mean import Answered, weighted_mean
from evomerge.estimators.units import Units
from evomerge.items import ItemBank, Observed
from evomerge.types import Estimate

_RIDGE = 2.0


@dataclass(frozen=True, eq=False)
class Regression:
    """One task's covariates x, float64 (N_t, p), and what a unit of each adds to a score: slopes, float64 (p,).

    residual: standard deviation of the scores around it, in the task's own units; 0 if not known.
    """

    task: int
    x: np.ndarray
    slopes: np.ndarray
    residual: float


def regress(rows: Sequence[Observed], bank: ItemBank, units: Units, task: int) -> Regression:
    """Pooled ridge of centred scores on the endpoints' centred scores."""
    x, span = endpoint_covariates(bank, units, task), float(units.high[task] - units.low[task])
    seen = [a for a in (Answered.of(row, bank, task) for row in rows) if len(a) > 1]
    centred = [_centred(a, bank, task, x) for a in seen]
    gram = sum((xc.T @ xc for xc, _ in centred), start=_RIDGE * np.eye(x.shape[1]))
    moments = sum((xc.T @ (yc / span) for xc, yc in centred), start=np.zeros(x.shape[1]))
    slopes = span * np.linalg.solve(gram, moments)
    squares = sum(float(((yc - xc @ slopes) ** 2).sum()) for xc, yc in centred)
    freedom = sum(len(a) - 1 for a in seen)
    return Regression(task, x, slopes, float(np.sqrt(squares / freedom)) if freedom else 0.0)


def greg(observed: Observed, bank: ItemBank, regression: Regression) -> Estimate:
    """One candidate's score: Hajek mean minus (mean of x over its items - mean over the bank) . slopes."""
    task, x, slopes = regression.task, regression.x, regression.slopes
    mean = weighted_mean(observed, bank, task)
    if mean.stderr == 0 or mean.n_items == 0:
        return mean
    seen = Answered.of(observed, bank, task)
    here = x[np.searchsorted(bank.places(task), seen.places)]  # (n, p)
    shift = (seen.weights / seen.weights.sum()) @ here - bank.weights[bank.places(task)] @ x
    value = mean.value - float(shift @ slopes)
    return Estimate(value, _stderr(seen, observed, bank, regression, here), mean.n_items, "greg")


def _stderr(seen: Answered, observed: Observed, bank: ItemBank, regression: Regression, here: np.ndarray) -> float:
    """That of the weighted mean of what the regression leaves over; the pooled spread where it cannot be measured."""
    per = (seen.weights * seen.sizes).sum() / seen.weights.sum()
    mean = float((seen.weights * seen.values).sum() / (seen.weights * seen.sizes).sum())
    values = (seen.values - mean * seen.sizes) / per - here @ regression.slopes
    left = replace(observed, index=seen.places, values=values, weights=seen.weights, sizes=np.ones(len(seen)))
    found = weighted_mean(left, bank, regression.task)
    if found.fallback is None or regression.residual == 0:
        return found.stderr
    return regression.residual / float(np.sqrt(len(seen)))


def _centred(seen: Answered, bank: ItemBank, task: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Covariates and linearised scores around the candidate's own weighted means: (n, p) and (n,)."""
    here = x[np.searchsorted(bank.places(task), seen.places)]
    shares = seen.weights / seen.weights.sum()
    mean = float((shares * seen.values).sum() / (shares * seen.sizes).sum())
    linear = (seen.values - mean * seen.sizes) / float(shares @ seen.sizes)  # of weighted mean 0
    return here - shares @ here, linear
