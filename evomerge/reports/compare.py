"""Paired differences between finalists, with 95% bootstrap intervals over items (Efron & Tibshirani 1993, ch. 13).

Items are drawn anew within each task, the same draw for all finalists, so that what makes an item hard for all
cancels; tasks are strata, never drawn. The draws come from a fixed seed: a report read twice says the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from evomerge.estimators.mean import task_mean
from evomerge.reports.nouns import Difference, Interval, Optimism, Standing
from evomerge.types import ItemScores, Metric

RESAMPLES = 2000
_BLOCK = 200  # resamples at once: bounds memory to _BLOCK numbers per item
_DECIMALS = 12  # sums in another order differ beyond that; equal finalists shall differ by exactly 0


def differences(
    split: str,
    scores: Mapping[str, Mapping[str, ItemScores]],
    metrics: Mapping[str, Metric],
    winner: str,
    rivals: Sequence[str],
    goals: Sequence[str] = (),
) -> list[Difference]:
    """Winner minus each rival; `scores` by finalist and task, matched by item id. Unscored rivals are left out.

    goals: the tasks that count in means, () for all.
    """
    rivals = [r for r in rivals if _complete(scores.get(r), metrics)]
    if not rivals or not _complete(scores.get(winner), metrics):
        return []
    tables = {task: aligned([scores[f][task] for f in (winner, *rivals)]) for task in metrics}
    rng = np.random.default_rng(0)
    drawn = np.stack([resampled(tables[task], metric, rng) for task, metric in metrics.items()])  # (T, F, RESAMPLES)
    points = np.array([[_score(values, metrics[task]) for values in tables[task]] for task in metrics])  # (T, F)
    n_items = sum(tables[task].shape[1] for task in goals or metrics)
    counted = [task in goals or not goals for task in metrics]
    return [
        _difference(
            split,
            rival,
            n_items,
            dict(zip(metrics, counted, strict=True)),
            points[:, 0] - points[:, k],
            drawn[:, 0] - drawn[:, k],
        )
        for k, rival in enumerate(rivals, 1)
    ]


def _complete(scores: Mapping[str, ItemScores] | None, metrics: Mapping[str, Metric]) -> bool:
    return bool(metrics) and scores is not None and set(metrics) <= set(scores)


def _difference(
    split: str, rival: str, n_items: int, tasks: Mapping[str, bool], points: np.ndarray, drawn: np.ndarray
) -> Difference:
    """tasks: whether each counts in the mean."""
    by_task = {task: interval(points[t], drawn[t]) for t, task in enumerate(tasks)}
    counted = list(tasks.values())
    return Difference(split, rival, n_items, interval(points[counted].mean(), drawn[counted].mean(axis=0)), by_task)


def aligned(scores: Sequence[ItemScores]) -> np.ndarray:
    """float64 (F, n) or (F, n, 2): the values of the items that all F have, in the order of their ids."""
    common = sorted(set.intersection(*(set(s.items) for s in scores)))
    places = [{item: i for i, item in enumerate(s.items)} for s in scores]
    return np.stack([s.values[[place[item] for item in common]] for s, place in zip(scores, places, strict=True)])


def resampled(values: np.ndarray, metric: Metric, rng: np.random.Generator) -> np.ndarray:
    """values: (F, n), or (F, n, 2) pairs. Returns (F, RESAMPLES) oriented task scores of items drawn n of n anew."""
    n = values.shape[1]
    odds = np.full(n, 1 / n)
    counts = (rng.multinomial(n, odds, _BLOCK) for _ in range(RESAMPLES // _BLOCK))  # how often each item is drawn
    sums = np.concatenate([np.tensordot(c, values, axes=(1, 1)) for c in counts])  # (RESAMPLES, F) or (RESAMPLES, F, 2)
    if metric.kind == "pairs":
        return (sums[..., 0] / sums[..., 1]).T
    return (sums / n if metric.higher_is_better else -sums / n).T


def interval(value: float, drawn: np.ndarray) -> Interval:
    """value: the difference as measured; drawn: (RESAMPLES,). Percentiles 2.5 and 97.5 bound the interval."""
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(*(round(float(v), _DECIMALS) + 0.0 for v in (value, low, high)))  # + 0.0: no -0.0


def optimism(winner: Standing, references: Sequence[Standing]) -> Optimism:
    """Winner's curse: what the search believed of the winner against what it was worth on fresh items."""
    search, selection, test = (_mean(winner, split) for split in ("search", "selection", "test"))
    shifts = [s for s in map(_shift, references) if s is not None]
    return Optimism(
        search, selection, test, _shift(winner), round(float(np.mean(shifts)), _DECIMALS) + 0.0 if shifts else None
    )


def _shift(standing: Standing) -> float | None:
    search, test = _mean(standing, "search"), _mean(standing, "test")
    return None if search is None or test is None else round(search - test, _DECIMALS) + 0.0


def _mean(standing: Standing, split: str) -> float | None:
    mean = standing.mean(split)
    return None if mean is None else mean.value


def _score(values: np.ndarray, metric: Metric) -> float:
    return task_mean(ItemScores("", (), values), metric).value
