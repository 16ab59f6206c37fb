"""Journal rows: evaluations and commits as plain JSON data and back, without losing a bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Any

import numpy as np

from evomerge.types import Estimate, Evaluation, ItemScores, Result


@dataclass(frozen=True)
class Commit:
    """What the optimizer is told about a batch, and the estimates behind it: per result one a goal, and one a task.

    A failed candidate has none. level: difference between these estimates and plain weighted means, with its standard
    error; None if the estimator makes no such difference. robust: the plan's robust estimator had stepped in.
    """

    results: tuple[Result, ...]
    goals: tuple[tuple[Estimate, ...], ...]
    tasks: tuple[tuple[Estimate, ...], ...]
    level: tuple[float, float] | None = None
    robust: bool = False


def evaluation_row(e: Evaluation) -> dict[str, Any]:
    """Python prints the shortest decimal that reads back to the same float64, so JSON keeps every bit."""
    row = {
        "row": "evaluation",
        "phase": e.phase,
        "id": e.id,
        "rung": e.rung,
        "last": e.last,
        "genome": None if e.genome is None else list(e.genome),
        "recipe": e.recipe_digest,
        "items": {task: list(ids) for task, ids in e.items.items()},
        "scores": {s.task: s.values.tolist() for s in e.scores},
        "batch_size": e.batch_size,
        "error": e.error_code,
        "alias_of": e.alias_of,
    }
    margins = {s.task: s.margins.tolist() for s in e.scores if s.margins is not None}
    return {**row, "margins": margins} if margins else row


def read_evaluation(row: Mapping[str, Any]) -> Evaluation:
    items = {task: tuple(ids) for task, ids in row["items"].items()}
    margins = {task: _array(values) for task, values in row.get("margins", {}).items()}
    scores = [ItemScores(task, items[task], _array(v), margins.get(task)) for task, v in row["scores"].items()]
    return Evaluation(
        id=row["id"],
        phase=row["phase"],
        rung=row["rung"],
        last=row["last"],
        genome=None if row["genome"] is None else tuple(row["genome"]),
        recipe_digest=row["recipe"],
        items=items,
        scores=tuple(scores),
        batch_size=row["batch_size"],
        error_code=row["error"],
        alias_of=row["alias_of"],
    )


def merged(rungs: Sequence[Evaluation]) -> Evaluation:
    """The rungs of one candidate as one evaluation; an error in any of them is its error."""
    assert rungs and rungs[-1].last, "a view is taken only of finished work"
    if len(rungs) == 1:
        return rungs[0]
    if rungs[-1].error_code:
        return replace(rungs[-1], scores=())
    scores = joined([e.scores for e in rungs])
    return replace(rungs[-1], items={s.task: s.items for s in scores}, scores=scores)


def joined(answered: Sequence[Sequence[ItemScores]]) -> tuple[ItemScores, ...]:
    """Scores of several rungs, task by task."""
    by_task: dict[str, list[ItemScores]] = {}
    for scores in answered:
        for one in scores:
            by_task.setdefault(one.task, []).append(one)
    return tuple(_in_one(parts) for parts in by_task.values())


def _in_one(parts: Sequence[ItemScores]) -> ItemScores:
    margins = [p.margins for p in parts if p.margins is not None]
    return ItemScores(
        parts[0].task,
        tuple(item for p in parts for item in p.items),
        np.concatenate([p.values for p in parts]),
        np.concatenate(margins) if len(margins) == len(parts) else None,
    )


# ---------------------------------------------------------------- commits


def commit_row(phase: str, batch: int, commit: Commit) -> dict[str, Any]:
    return {
        "row": "commit",
        "phase": phase,
        "batch": batch,
        "results": [_result(r) for r in commit.results],
        "estimates": [estimates_data(e) for e in commit.goals],
        "tasks": [estimates_data(e) for e in commit.tasks],
        "level": commit.level,
        "robust": commit.robust,
    }


def estimates_data(estimates: Sequence[Estimate] | None) -> list[list[Any]]:
    return [[e.value, e.stderr, e.n_items, e.fallback] for e in estimates or ()]


def _result(r: Result) -> dict[str, Any]:
    return {"id": r.id, "fitness": list(r.fitness), "violation": r.violation, "error": r.error_code}


def read_commit(row: Mapping[str, Any]) -> Commit:
    goals = tuple(map(read_estimates, row["estimates"]))
    return Commit(
        results=tuple(map(_read_result, row["results"], chain(goals, repeat(())))),
        goals=goals,
        tasks=tuple(map(read_estimates, row["tasks"])),
        level=None if row["level"] is None else (row["level"][0], row["level"][1]),
        robust=row["robust"],
    )


def _read_result(data: Mapping[str, Any], goals: Sequence[Estimate]) -> Result:
    stderrs = tuple(e.stderr for e in goals)
    return Result(data["id"], tuple(data["fitness"]), data["violation"], data["error"], stderrs)


def read_estimates(data: Sequence[Sequence[Any]]) -> tuple[Estimate, ...]:
    return tuple(Estimate(*one) for one in data)


def _array(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)
