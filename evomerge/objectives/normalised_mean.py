"""Mean over tasks of the share of the best parent's score that a merge keeps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evomerge.objectives.shares import best, mean, positive
from evomerge.types import Estimate


class NormalisedMean:
    """mean over tasks of score / best parent's score: 1 keeps what every expert can on its own task.

    Computed as 1 + (score - best) / max(|best|, min_score), which is the same where the best score is at least
    `min_score`; near zero it stays bounded, and for scores below zero (error rates, log-likelihoods) it still rises
    with the score, as the plain quotient does not. The base plays no part: a task that the base masters already
    counts like one that only an expert can do. See gap_closed for the other view.
    """

    def __init__(self, min_score: float = 0.1):
        self._min_score = positive("min_score", min_score)

    def goals(self, tasks: Sequence[str]) -> tuple[str, ...]:
        return ("normalised_mean",)

    def combine(
        self, tasks: Sequence[Estimate], floor: Sequence[Estimate], parents: Sequence[Sequence[Estimate]]
    ) -> tuple[Estimate, ...]:
        top = best(parents)
        unit = np.maximum(np.abs(top), self._min_score)
        kept = 1 + (np.array([e.value for e in tasks]) - top) / unit
        return (mean(kept, np.array([e.stderr for e in tasks]) / unit, tasks),)
