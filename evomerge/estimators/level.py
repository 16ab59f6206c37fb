"""A free check of an estimator that trusts a model: its level against that of weighted means of the same answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evomerge.estimators.mean import Answered, contributions, weighted_mean
from evomerge.estimators.units import units_of
from evomerge.items import ItemBank, Observed
from evomerge.types import Estimate

_BATCHES = 10
_FEWEST = 3
_STDERRS = 3.0


def level_difference(
    estimates: Sequence[Sequence[Estimate]], observed: Sequence[Observed], bank: ItemBank
) -> tuple[float, float]:
    """How far the estimates of these candidates stand above weighted means, and the standard error of that difference.

    Both are means over candidates and tasks, each task in units of the step from 0 to 1. The weighted mean is right
    whatever the answers, but for the draw; candidates that answered the same items share its error, so it is measured
    item by item, over candidates. A model that explains the answers has part of the same error: the standard error is
    on the safe side. (0, inf) if nobody answered anything.
    """
    spans = units_of(bank)
    spans_of = spans.high - spans.low
    differences, variances = [], []
    for task in range(len(bank.tasks)):
        answering = [m for m, one in enumerate(observed) if len(Answered.of(one, bank, task))]
        if answering:
            gaps = [estimates[m][task].value - weighted_mean(observed[m], bank, task).value for m in answering]
            differences.append(float(np.mean(gaps)) / spans_of[task])
            variances.append(_variance([observed[m] for m in answering], bank, task) / spans_of[task] ** 2)
    if not differences:
        return 0.0, float("inf")
    return float(np.mean(differences)), float(np.sqrt(np.sum(variances))) / len(differences)


def alarmed(history: Sequence[tuple[float, float]]) -> bool:
    """Whether the level is off: the sum over the last ten batches, at least three, is beyond three standard errors.

    history: (difference, standard error) per batch, oldest first, of draws independent of each other: on one draw for
    all batches the same chance error would be counted as often as there are batches.
    """
    last = [(d, se) for d, se in history[-_BATCHES:] if np.isfinite(se)]
    if len(last) < _FEWEST:
        return False
    return bool(abs(sum(d for d, _ in last)) > _STDERRS * np.sqrt(sum(se**2 for _, se in last)))


def _variance(observed: Sequence[Observed], bank: ItemBank, task: int) -> float:
    """Of the mean over candidates of their weighted means: the items are the random ones, not the candidates."""
    total, n = np.zeros(bank.size), len(bank.places(task))
    for one in observed:
        seen = Answered.of(one, bank, task)
        total[seen.places] += contributions(seen, n, bank) / len(observed)
    answered = int(np.count_nonzero(total))
    shared = float((total**2).sum()) * answered / max(answered - 1, 1)
    # where all answers are equal the items show no spread; the candidates' own errors are the least there is
    return max(shared, sum(weighted_mean(one, bank, task).stderr ** 2 for one in observed) / len(observed) ** 2)
