"""Answers laid out in bank order: the item bank of a search, and what a candidate has been observed to answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from evomerge.items import ItemBank, Observed
from evomerge.types import Evaluation, Items, ItemScores, Metric


def item_bank(
    items: Items,
    metrics: Mapping[str, Metric],
    known: Mapping[str, Evaluation],
    subtasks: Mapping[str, Mapping[str, str]] | None = None,
    leaderboard: np.ndarray | None = None,
) -> ItemBank:
    """All items of all tasks in order, with the oriented answers of what was scored on them before the search.

    known: by id; "base", "average" and "parent:NAME" become endpoints, all others designs. subtasks: by
    task, of each item; a task without any has equal weights. leaderboard: float64 (L, N), oriented, in this order.
    """
    tasks = tuple(items)
    n = sum(map(len, items.values()))
    endpoints = [e for name, e in known.items() if is_endpoint(name)]
    designs = [e for name, e in known.items() if not is_endpoint(name)]
    return ItemBank(
        tasks=tasks,
        metrics=tuple(metrics[task] for task in tasks),
        items=tuple(i for ids in items.values() for i in ids),
        task=np.repeat(np.arange(len(tasks), dtype=np.int64), [len(items[task]) for task in tasks]),
        weights=np.concatenate([balance(items[task], (subtasks or {}).get(task)) for task in tasks]),
        endpoints=_matrix([_scored(e, metrics) for e in endpoints], items),
        designs=_matrix([_scored(e, metrics) for e in designs], items),
        leaderboard=np.zeros((0, n)) if leaderboard is None else leaderboard,
        margins=_margins(endpoints, items),
    )


def is_endpoint(name: str) -> bool:
    """Base, parents, and their plain average: a merge like those searched for, it tells most of how they answer."""
    return name in ("base", "average") or name.startswith("parent:")


def balance(items: Sequence[str], subtasks: Mapping[str, str] | None = None) -> np.ndarray:
    """float64 (n,), summing to 1: with them, a task's score is the mean over its sub-tasks of their means.

    As tinyBenchmarks weighs the subjects of MMLU (Polo et al. 2024, arXiv:2402.14992). Without sub-tasks all are equal.
    """
    if not subtasks:
        return np.full(len(items), 1 / len(items))
    sizes = Counter(subtasks[i] for i in items)
    return np.array([1 / (len(sizes) * sizes[subtasks[i]]) for i in items])


def oriented(values: np.ndarray, sizes: np.ndarray | None, metric: Metric) -> np.ndarray:
    """float64, higher is better, one number an item: of pairs the log-likelihood per unit, NaN for an item of size 0.

    sizes: of values' shape, NaN (or None for all) where the value is per unit already.
    """
    if metric.kind == "pairs":
        per = np.ones_like(values) if sizes is None else np.where(np.isnan(sizes), 1.0, sizes)
        return np.asarray(np.divide(values, per, out=np.full(values.shape, np.nan), where=per > 0))
    return values if metric.higher_is_better else np.negative(values)


def observe(ident: int | str, rows: Sequence[Evaluation], bank: ItemBank, weight: np.ndarray) -> Observed:
    """All that a candidate has answered, over its draws and rungs; an item asked again counts once.

    weight: float64 (N,), of each place in the candidate's draws. Raises KeyError for an item not in the bank.
    """
    parts = [_observed(scores, bank) for row in rows for scores in row.scores]
    if not parts:
        return Observed(ident, np.zeros(0, np.int64), np.zeros(0), np.zeros(0), np.zeros(0))
    index, values, sizes = (np.concatenate(part) for part in zip(*parts, strict=True))
    first = np.sort(np.unique(index, return_index=True)[1])
    return Observed(ident, index[first], values[first], weight[index[first]], sizes[first])


def _observed(scores: ItemScores, bank: ItemBank) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    index = bank.find({scores.task: scores.items})
    metric = bank.metrics[bank.tasks.index(scores.task)]
    if metric.kind == "pairs":
        return index, scores.values[:, 0], scores.values[:, 1]
    return index, oriented(scores.values, None, metric), np.ones(len(index))


# ---------------------------------------------------------------- rows over all items


def _scored(evaluation: Evaluation, metrics: Mapping[str, Metric]) -> dict[tuple[str, str], float]:
    return {
        (s.task, item): float(value)
        for s in evaluation.scores
        for item, value in zip(s.items, _per_item(s, metrics[s.task]), strict=True)
    }


def _per_item(scores: ItemScores, metric: Metric) -> np.ndarray:
    if metric.kind == "pairs":
        return oriented(scores.values[:, 0], scores.values[:, 1], metric)
    return oriented(scores.values, None, metric)


def _margins(evaluations: Sequence[Evaluation], items: Items) -> np.ndarray | None:
    if all(s.margins is None for e in evaluations for s in e.scores):
        return None
    found = [
        {
            (s.task, item): float(margin)
            for s in e.scores
            if s.margins is not None
            for item, margin in zip(s.items, s.margins, strict=True)
        }
        for e in evaluations
    ]
    return _matrix(found, items)


def _matrix(rows: Sequence[Mapping[tuple[str, str], float]], items: Items) -> np.ndarray:
    """float64 (M, N), NaN where a row knows nothing."""
    order = [(task, item) for task, ids in items.items() for item in ids]
    return np.array([[row.get(place, np.nan) for place in order] for row in rows]).reshape(len(rows), len(order))
