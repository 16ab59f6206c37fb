"""Other models' answers from elsewhere, matched with the search items of these tasks by content, never by position."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evomerge.calibration import matrices, sample_logs
from evomerge.calibration.matrices import Matrix
from evomerge.calibration.responses import Responses, load
from evomerge.errors import CalibrationError
from evomerge.families import Task

_HOW = (
    "Items are named TASK/ITEM, where ITEM is the content hash of the document (evomerge.tasks.splits.item_id(doc)); "
    "positions in a benchmark are not taken, for a translated or reordered copy would be given other items' answers."
)


@dataclass(frozen=True, eq=False)
class Imported:
    """Models on all search items, task after task. matched: how many items of each task any of them answered."""

    responses: Responses
    matched: Mapping[str, int]
    notes: tuple[str, ...]


def read(path: Path, tasks: Sequence[Task]) -> Imported:
    """Answers from a file of `evomerge calibrate`, a .csv or .npz matrix, an lm-eval samples_*.jsonl or its folder.

    Raises CalibrationError for what cannot be read, or matches no search item.
    """
    if path.is_dir() or path.suffix == ".jsonl":
        return fit(sample_logs.read(path, tasks), tasks, path)
    if path.suffix == ".csv":
        return fit(matrices.read_csv(path), tasks, path)
    if path.suffix == ".npz":
        return _kept(path, tasks) if matrices.is_ours(path) else fit(matrices.read_npz(path), tasks, path)
    raise CalibrationError(
        f"{path} is no file of answers. Wanted FILE.npz of `evomerge calibrate`, a matrix as .csv or .npz, an lm-eval "
        "samples_*.jsonl or the folder lm-eval wrote it to, or a run folder."
    )


def fit(matrix: Matrix, tasks: Sequence[Task], path: Path) -> Imported:
    """A matrix on the search items of these tasks, without models that say nothing or repeat another in all bits."""
    bank = _bank(tasks)
    _refuse_strangers(matrix.items, bank, tasks, path)
    found = Responses(matrix.models, *_unknown(len(matrix.models)), matrix.items, matrix.values).on(bank)
    infinite = np.isinf(found.values)
    found.values[infinite] = np.nan
    kept = distinct(found.values)
    if not kept:
        raise CalibrationError(f"{path} has no answer to any search item: all of its values there are missing.")
    notes = (
        *matrix.notes,
        *_said(int(infinite.sum()), f"{path}: {{}} values are infinite: taken as not asked"),
        *_said(len(matrix.models) - len(kept), f"{path}: {{}} models repeat another's answers or have none: dropped"),
        *_said(len(matrix.items) - len({*matrix.items} & {*bank}), f"{path}: {{}} of its items are no search items"),
    )
    return _imported(path, found.rows(kept), tasks, notes)


def distinct(values: np.ndarray) -> list[int]:
    """Rows of float64 (M, n) that know anything, the first of equals: public leaderboards are full of re-uploads."""
    first: dict[bytes, int] = {}
    canonical = np.where(np.isnan(values), np.nan, values + 0.0)  # one NaN, one zero
    for m, row in enumerate(canonical):
        if not np.isnan(row).all():
            first.setdefault(row.tobytes(), m)
    return list(first.values())


# ---------------------------------------------------------------- our own files


def _kept(path: Path, tasks: Sequence[Task]) -> Imported:
    """A file of `evomerge calibrate` or of a run, without tasks that were scored by another metric there."""
    answers = load(path)
    then = {t["name"]: _name_of(t["metric"]) for t in json.loads(answers.settings or "{}").get("tasks", ())}
    unlike = [t.name for t in tasks if then.get(t.name, t.metric.name) != t.metric.name]
    columns = [item for item in answers.items if item[0] not in unlike]
    _refuse_strangers(columns, _bank(tasks), tasks, path)
    found = answers.on(columns).on(_bank(tasks))
    notes = tuple(f"{path}: its answers to {name} are not used: they were scored by another metric" for name in unlike)
    return _imported(path, found, tasks, notes)


def _name_of(metric: Any) -> str:
    return str(metric["name"] if isinstance(metric, Mapping) else metric)


# ---------------------------------------------------------------- what matched


def _bank(tasks: Sequence[Task]) -> tuple[tuple[str, str], ...]:
    return tuple((task.name, i) for task in tasks for i in task.items["search"])


def _unknown(m: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return ("other",) * m, ("",) * m


def _refuse_strangers(
    items: Sequence[tuple[str, str]], bank: Sequence[tuple[str, str]], tasks: Sequence[Task], path: Path
) -> None:
    if not {*items}.isdisjoint(bank):
        return
    other = {(t.name, i) for t in tasks for split, ids in t.items.items() if split != "search" for i in ids}
    held = len({*items} & other)
    leak = (
        f"{held} of them are selection or test items, which a search may not know: log the split that search items "
        "come from, as test_split of a copy of the task with the same name. "
        if held
        else ""
    )
    shown = f", as '{'/'.join(items[0])}'" if items else ""
    raise CalibrationError(
        f"{path} holds {len(items)} items{shown}; none is a search item of {', '.join(t.name for t in tasks)}. "
        f"{leak}{_HOW}"
    )


def _imported(path: Path, found: Responses, tasks: Sequence[Task], notes: Sequence[str]) -> Imported:
    known = {item for item, column in zip(found.items, found.values.T, strict=True) if not np.isnan(column).all()}
    matched = {t.name: sum((t.name, i) in known for i in t.items["search"]) for t in tasks}
    lacking = [
        f"{path}: {n} of {len(t.items['search'])} search items of {t.name} are in it; the others count as not asked"
        for t in tasks
        if (n := matched[t.name]) < len(t.items["search"])
    ]
    return Imported(found, matched, (*notes, *lacking))


def _said(n: int, note: str) -> tuple[str, ...]:
    return (note.format(n),) if n else ()
