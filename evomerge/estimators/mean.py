"""The plain mean of the item scores, with its standard error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from evomerge.types import Estimate, Evaluation, ItemScores, Metric


class Mean:
    """Mean score per task, oriented so that higher is better."""

    def estimate(self, view: Sequence[Evaluation], metrics: Mapping[str, Metric]) -> list[tuple[Estimate, ...]]:
        """One tuple per evaluation, one Estimate per task in the order of `metrics`."""
        return [self._of(evaluation, metrics) for evaluation in view]

    def _of(self, evaluation: Evaluation, metrics: Mapping[str, Metric]) -> tuple[Estimate, ...]:
        scores = {s.task: s for s in evaluation.scores}
        return tuple(task_mean(scores[task], metric) for task, metric in metrics.items())


def task_mean(scores: ItemScores, metric: Metric) -> Estimate:
    """Mean of n scores, or the ratio sum(loglik) / sum(weight) of pairs (always higher is better).

    A binary score that is all right or all wrong has no sample variance: its standard error is that of the
    Jeffreys estimate (s + 1/2) / (n + 1).
    """
    values = scores.values
    n = len(values)
    if metric.kind == "pairs":
        return _ratio(values[:, 0], values[:, 1])
    sign = 1.0 if metric.higher_is_better else -1.0
    mean = float(values.mean())
    return Estimate(sign * mean, _stderr(values, mean), n, "jeffreys" if _constant_bits(values) else None)


def _stderr(values: np.ndarray, mean: float) -> float:
    n = len(values)
    if _constant_bits(values):
        smooth = (mean * n + 0.5) / (n + 1)
        return float(np.sqrt(smooth * (1 - smooth) / (n + 1)))
    return float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else float("inf")


def _constant_bits(values: np.ndarray) -> bool:
    return bool(np.all(values == values[0]) and values[0] in (0.0, 1.0))


def _ratio(logliks: np.ndarray, weights: np.ndarray) -> Estimate:
    n, total = len(weights), float(weights.sum())
    ratio = float(logliks.sum()) / total
    spread = float(((logliks - ratio * weights) ** 2).sum())  # delta method for a ratio of sums
    return Estimate(ratio, float(np.sqrt(spread * n / (n - 1))) / total if n > 1 else float("inf"), n)
