"""The front of a run of several goals, read from the rows that ended its selection and its test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from evomerge import fronts
from evomerge.errors import ConfigError, unknown
from evomerge.reports.nouns import Front, Interval, is_rival
from evomerge.reports.record import Record
from evomerge.rows import read_estimates
from evomerge.types import Estimate

_NORMAL = 1.959964  # standard errors to either side that hold 95%


def read_front(record: Record) -> Front | None:
    """The front of the newest selection; None before the first one, and for a run of one goal."""
    selection = record.newest_stop("selection")
    if selection is None or "front" not in selection:
        return None
    test = _test_of(selection, record)
    found = {f["id"]: read_estimates(f["found"]) for f in selection["finalists"] if f["found"]}
    scores = {"search": found, "selection": _goals(selection["posterior"]), "test": _goals(test.get("scores", {}))}
    floors = {"search": _search_floor(found), "selection": selection["floor"], "test": test.get("floor")}
    return Front(
        goals=tuple(selection["goals"]),
        ids=tuple(selection["front"]),
        knee=selection["knee"],
        scores={split: by_id for split, by_id in scores.items() if by_id},
        floor={split: tuple(floor) for split, floor in floors.items() if floor is not None},
        gains={i: tuple(map(_interval, goals)) for i, goals in test.get("gains", {}).items()},
        violations=dict(selection["violations"]),
    )


def _test_of(selection: Mapping[str, Any], record: Record) -> Mapping[str, Any]:
    """The row that ended the test of this selection: an extension has a newer selection before its test is over."""
    same = ("searched", "winner")
    rows = [row for row in record.stops("test") if all(row.get(key) == selection[key] for key in same)]
    return rows[-1] if rows else {}


def _goals(by_id: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, tuple[Estimate, ...]]:
    return {i: tuple(Estimate(value, stderr, 0) for value, stderr in goals) for i, goals in by_id.items()}


def _search_floor(found: Mapping[str, Sequence[Estimate]]) -> list[float]:
    """What the search measured from: the base, or the plain average without one."""
    return [e.value for e in found.get("base") or found["average"]]


def _interval(pair: Sequence[float]) -> Interval:
    value, stderr = pair
    return Interval(value, value - _NORMAL * stderr, value + _NORMAL * stderr)


# ---------------------------------------------------------------- asked of a front


def values(front: Front, ids: Iterable[str], split: str) -> np.ndarray:
    """float64 (n, m): the goals of those that were scored on a split."""
    scored = front.scores.get(split, {})
    return np.array([[e.value for e in scored[i]] for i in ids if i in scored]).reshape(-1, len(front.goals))


def rivals(front: Front) -> list[str]:
    """What went in: the front of references, control and warm starts alone, by the same posterior."""
    ids = [i for i in front.scores["selection"] if is_rival(i)]
    kept = fronts.non_dominated(values(front, ids, "selection"), [front.violations.get(i, 0.0) for i in ids])
    return [ids[i] for i in kept]


def hypervolumes(front: Front) -> dict[str, dict[str, float]]:
    """By split, of the front and of what went in, above the floor; both were chosen on selection items."""
    sets = {"front": front.ids, "rivals": rivals(front)}
    return {
        split: {
            name: fronts.hypervolume(values(front, ids, split), np.array(front.floor[split]))
            for name, ids in sets.items()
        }
        for split in front.scores
    }


def preferred(front: Front, weights: Mapping[str, float]) -> str:
    """The id with the largest weighted sum of posterior goals; a goal that is not named weighs 1.

    Raises ConfigError for a goal that is not known.
    """
    for goal in weights:
        if goal not in front.goals:
            raise ConfigError(unknown("goal in --prefer", goal, front.goals))
    full = [weights.get(goal, 1.0) for goal in front.goals]
    return front.ids[fronts.preferred(values(front, front.ids, "selection"), full)]
