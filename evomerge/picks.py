"""Which model of a run is meant: its winner, the knee of its front, the best for a task, any candidate on file."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np

from evomerge import config, ingredients, launch
from evomerge.errors import ConfigError, JournalError, unknown
from evomerge.estimators.mean import task_mean
from evomerge.recipe_io import from_data
from evomerge.reports import facts
from evomerge.reports.record import Record, load
from evomerge.searcher import make_space
from evomerge.selection import apart, mean_covariance, shrunk
from evomerge.types import Evaluation, Pool, Recipe

#: Phases whose candidates have genomes on file.
PHASES = ("search", "control", "warm")


def pick(folder: Path, wanted: str = "winner", pool: Pool | None = None) -> tuple[Recipe, str]:
    """A recipe of a run, and its id; `wanted` as in `meant`, whose errors it raises.

    pool: the run's parents; None: a candidate that is no finalist has them opened, for its space to read its genome.
    """
    record = load(folder)
    ident = meant(record, wanted)
    stop = record.newest_stop("selection") or {"finalists": []}
    recipes = {f["id"]: f["recipe"] for f in stop["finalists"]}
    return (from_data(recipes[ident]) if ident in recipes else candidate(record, ident, pool)), ident


def meant(record: Record, wanted: str) -> str:
    """The id of a finalist or candidate.

    wanted: "winner"; "knee" of the front (of one goal, the winner); "best:NAME", the finalist with the best posterior
    for a goal or task, feasible ones first; the id of a finalist, or of any candidate ("search:17"). Raises
    JournalError if the run has no such model, ConfigError for a name in best:NAME that is not known.
    """
    phase, _, number = wanted.partition(":")
    if phase in PHASES and number.isdigit():
        if (row := _evaluation(record, wanted)) is not None:
            return _sound(wanted, row, record)
        if record.newest_stop("selection") is None:
            raise JournalError(f"{record.folder} has no '{wanted}' on file so far. It has {_on_file(record)}.")
    stop = record.newest_stop("selection")
    if stop is None:
        raise JournalError(f"{record.folder} has no winner yet. Finish it first: evomerge resume {record.folder}")
    named = [str(f["id"]) for f in stop["finalists"]]
    if wanted in ("winner", "knee"):
        return str(stop["winner"])  # of several goals, selection chose the knee
    if phase == "best" and number:
        return _best(number, stop, record)
    if wanted not in named:
        raise JournalError(
            f"{record.folder} has no '{wanted}'. Its finalists: {', '.join(named)}. Also winner, knee, best:TASK, and "
            f"any candidate by its id: {_on_file(record)}."
        )
    return wanted


# ---------------------------------------------------------------- the best for a goal or a task


def _best(name: str, stop: Mapping[str, Any], record: Record) -> str:
    goals = stop.get("goals", [])
    tasks = [task.name for task in facts.read_tasks(record)]
    if name not in (*goals, *tasks):
        raise ConfigError(unknown("goal or task in --pick best:", name, {*goals, *tasks}))
    worth = _of_goal(goals.index(name), stop) if name in goals else _of_task(name, stop, record)
    broken = stop["violations"]
    return max(worth, key=lambda ident: (-broken.get(ident, 0.0), worth[ident]))


def _of_goal(place: int, stop: Mapping[str, Any]) -> dict[str, float]:
    return {ident: goals[place][0] for ident, goals in stop["posterior"].items()}


def _of_task(name: str, stop: Mapping[str, Any], record: Record) -> dict[str, float]:
    """Posterior means of one task's score on selection items, by finalist."""
    metric = next(task.metric for task in facts.read_tasks(record) if task.name == name)
    found = [record.evaluation("selection", f["id"], f["digest"]) for f in stop["finalists"]]
    good = {
        f["id"]: next(s for s in e.scores if s.task == name)
        for f, e in zip(stop["finalists"], found, strict=True)
        if e is not None and not e.error_code
    }
    scores = list(good.values())
    noise = apart(mean_covariance(scores, metric), len(scores[0].items))
    means, _ = shrunk(np.array([task_mean(s, metric).value for s in scores]), noise)
    return dict(zip(good, map(float, means), strict=True))


# ---------------------------------------------------------------- any candidate


def candidate(record: Record, ident: str, pool: Pool | None = None) -> Recipe:
    """The recipe of a candidate: its genome on file, read by the run's space.

    Raises JournalError if the parents are not those of the run, or the code reads genomes otherwise: the recipe's
    digest tells.
    """
    row = _evaluation(record, ident)
    assert row is not None and row.genome is not None, "candidates that were asked have genomes on file"
    space = _space_of(record.folder, pool)
    found: Recipe | None = space.decode(np.array(row.genome)) if space.size == len(row.genome) else None
    if found is None or found.digest != row.recipe_digest:
        raise JournalError(
            f"{ident} of {record.folder} was the recipe {row.recipe_digest}, and its genome of {len(row.genome)} now "
            f"means {found.digest if found else f'nothing: the space has {space.size} variables'}. Use the parents, "
            "settings and version of evomerge that it was searched with."
        )
    return found


def _sound(ident: str, row: Evaluation, record: Record) -> str:
    """The id, if its model could be scored."""
    if row.error_code:
        raise JournalError(
            f"{ident} failed ({row.error_code}), so it is no model to be used. Pick another: {_on_file(record)}."
        )
    return ident


def _evaluation(record: Record, ident: str) -> Evaluation | None:
    phase, _, number = ident.partition(":")
    return next((e for e in record.evaluations if e.phase == phase and str(e.id) == number), None)


def _on_file(record: Record) -> str:
    """What candidates there are, in words: "search:0 to search:23"."""
    counts = {phase: [int(e.id) for e in record.evaluations if e.phase == phase] for phase in PHASES}
    return ", ".join(f"{phase}:0 to {phase}:{max(ids)}" for phase, ids in counts.items() if ids) or "no candidates"


def _space_of(folder: Path, pool: Pool | None) -> Any:
    """The space of a run, made anew from what it was started with."""
    words, config_dirs, cwd = launch.command_of(folder)
    with chdir(cwd):
        cfg = config.settings(words, config_dirs)
        pool = pool or ingredients.open_parents(cfg).pool()
        return make_space(cfg, pool, seed=cfg.seed, dtype=pool.dtype if cfg.dtype == "auto" else cfg.dtype)
