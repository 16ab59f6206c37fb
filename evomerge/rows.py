"""Journal rows: evaluations and commits as plain JSON data and back, without losing a bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evomerge.types import Evaluation, ItemScores, Result


def evaluation_row(e: Evaluation) -> dict[str, Any]:
    """Python prints the shortest decimal that reads back to the same float64, so JSON keeps every bit."""
    return {
        "row": "evaluation",
        "phase": e.phase,
        "id": e.id,
        "rung": e.rung,
        "genome": None if e.genome is None else list(e.genome),
        "recipe": e.recipe_digest,
        "items": {task: list(ids) for task, ids in e.items.items()},
        "scores": {s.task: s.values.tolist() for s in e.scores},
        "batch_size": e.batch_size,
        "error": e.error_code,
        "alias_of": e.alias_of,
    }


def read_evaluation(row: Mapping[str, Any]) -> Evaluation:
    items = {task: tuple(ids) for task, ids in row["items"].items()}
    scores = [ItemScores(task, items[task], np.asarray(v, dtype=np.float64)) for task, v in row["scores"].items()]
    return Evaluation(
        id=row["id"],
        phase=row["phase"],
        rung=row["rung"],
        genome=None if row["genome"] is None else tuple(row["genome"]),
        recipe_digest=row["recipe"],
        items=items,
        scores=tuple(scores),
        batch_size=row["batch_size"],
        error_code=row["error"],
        alias_of=row["alias_of"],
    )


def commit_row(phase: str, batch: int, results: Sequence[Result], facts: Mapping[str, Any]) -> dict[str, Any]:
    return {"row": "commit", "phase": phase, "batch": batch, "results": [_result(r) for r in results], **facts}


def _result(r: Result) -> dict[str, Any]:
    return {"id": r.id, "fitness": list(r.fitness), "violation": r.violation, "error": r.error_code}


def read_commit(row: Mapping[str, Any]) -> list[Result]:
    return [Result(r["id"], tuple(r["fitness"]), r["violation"], r["error"]) for r in row["results"]]
