"""gp-IRT: p-IRT and the weighted mean, blended by how far each is off (Polo et al. 2024, arXiv:2402.14992, eq. 5)."""

from __future__ import annotations

import numpy as np

from evomerge.estimators.irt_blend import FittedBlend
from evomerge.estimators.irt_fit import CalibratedBank, check_binarize
from evomerge.estimators.irt_validation import validation_error
from evomerge.estimators.p_irt import PIrt
from evomerge.items import ItemBank


class GpIrt:
    """Share of the weighted mean b^2 / (v / 4n + b^2): it grows with the answers n of a task and the model's error b.

    v is the calibration models' mean variance over the task's items, b the validation error of pure IRT on it.
    """

    def __init__(self, *, binarize: str | None = None):
        check_binarize("estimator", binarize)
        self._p_irt = PIrt(binarize=binarize)

    def fit(self, bank: ItemBank) -> FittedBlend:
        irt = self._p_irt.fit(bank)
        error, variance = validation_error(irt.fit), item_variance(irt.fit)

        def share(task: int, n: int) -> float:
            return mean_share(error=error[task], variance=variance[task], n=n)

        return FittedBlend(irt, share)


def mean_share(*, error: float, variance: float, n: int) -> float:
    """In [0, 1]; 0 where the model makes no error."""
    return float(error**2 / (variance / (4 * n) + error**2)) if error else 0.0


def item_variance(fit: CalibratedBank) -> np.ndarray:
    """float64 (T,): Var_i(y_mi) over a task's items, mean over models; 1/4, that of a fair bit, if none answered."""
    found = np.full(len(fit.bank.tasks), 0.25)
    for task in range(len(found)):
        rows = fit.answers[:, fit.bank.places(task)]
        rows = rows[~np.isnan(rows).all(1)]
        if len(rows):
            found[task] = np.nanvar(rows, axis=1).mean()
    return found
