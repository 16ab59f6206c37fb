"""A weighted mean and an IRT estimate, blended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evomerge.estimators.irt_fit import FittedIrt, answered
from evomerge.estimators.mean import weighted_mean
from evomerge.items import Observed
from evomerge.types import Estimate


@dataclass(frozen=True, eq=False)
class FittedBlend:
    """Z = share Z_weighted + (1 - share) Z_irt; share(task, n) in [0, 1] is the mean's, for n answers of a task.

    The standard error is the same blend of both: an upper bound whatever their correlation, and near the truth, for
    both err on the same answers. Where IRT has no say, or the whole task was seen, its answer stands alone.
    """

    irt: FittedIrt
    share: Callable[[int, int], float]

    def estimate(self, observed: Sequence[Observed], earlier: Sequence[Observed] = ()) -> list[tuple[Estimate, ...]]:
        """Nothing is learned from other candidates; items that failed (NaN) count as not asked."""
        return [
            tuple(self._task(answered(one), task, estimate) for task, estimate in enumerate(estimates))
            for one, estimates in zip(observed, self.irt.estimate(observed), strict=True)
        ]

    def frozen(self, earlier: Sequence[Observed]) -> FittedBlend:
        return self

    def _task(self, observed: Observed, task: int, irt: Estimate) -> Estimate:
        bank, n = self.irt.fit.bank, irt.n_items
        if not self.irt.fit.units.logistic[task] or n in (0, len(bank.places(task))):
            return irt
        mean, share = weighted_mean(observed, bank, task), self.share(task, n)
        value = share * mean.value + (1 - share) * irt.value
        return Estimate(value, share * mean.stderr + (1 - share) * irt.stderr, n, irt.fallback)
