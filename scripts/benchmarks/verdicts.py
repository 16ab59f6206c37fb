"""What came of a replayed search: the regret of what it returns, and how true its word was."""

from __future__ import annotations

import numpy as np

from benchmarks.measure import covered, spearman
from benchmarks.replay import Course, Setting, World
from evomerge.selection import shrunk

FINALISTS = 4


def verdict(world: World, setting: Setting, course: Course) -> dict[str, float]:
    """Measures of one finished search; scores and regrets against all items, curse and coverage on the search bank."""
    rows, told = np.array(course.rows), np.array([e.value for e in course.told])
    stderrs, truth = np.array([e.stderr for e in course.told]), world.truth(rows)
    whole, best = world.whole(rows), float(world.whole(world.pool).max())
    top = int(np.argmax(told))
    finalists = rows[np.argsort(-told, kind="stable")[:FINALISTS]]
    inside = covered(told, stderrs, truth)
    return {
        "mae": float(np.abs(told - truth).mean()),
        "spearman": spearman(told, truth),
        "regret": best - float(world.whole(_selected(finalists, world))[0]),
        "regret_unselected": best - float(whole[top]),
        "regret_visited": best - float(whole.max()),
        "curse": float(told[top] - truth[top]),
        "curse_fresh": float(told[top]) - float(_elsewhere(rows[top], world)),
        "coverage": float(inside.mean()),
        "winner_coverage": float(inside[top]),
        "candidates": float(len(rows)),
    } | _costs(world, setting, course)


def _selected(finalists: np.ndarray, world: World) -> np.ndarray:
    """int64 (1,): the finalist that selection picks on fresh items, by the package's posterior."""
    answers = world.merges.answers[np.ix_(finalists, world.fresh)]
    tasks = [answers[:, world.merges.task[world.fresh] == t] for t in world.bank.tasks]
    raw = np.mean([a.mean(1) for a in tasks], axis=0)
    noise = sum(np.cov(a) / a.shape[1] for a in tasks) / len(tasks) ** 2
    return finalists[[int(np.argmax(shrunk(raw, np.asarray(noise))[0]))]]


def _elsewhere(row: int, world: World) -> float:
    """A merge's score on the half of the items that the search did not have."""
    rest = np.setdiff1d(np.arange(len(world.merges.items)), world.search)
    return float(world.merges.case(np.array([row]), rest).truth[0])


def _costs(world: World, setting: Setting, course: Course) -> dict[str, float]:
    """Items asked of any model, by purpose."""
    calibration = world.bank.endpoints.size if setting.calibrated else 0
    return {
        "items_search": float(sum(course.spent)),
        "items_calibration": float(calibration),
        "items_control": float(len(world.control) * setting.n),
        "items_selection": float(FINALISTS * len(world.fresh)),
    }
