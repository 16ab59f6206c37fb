"""lm-eval's own logs (`--log_samples`): samples_TASK_DATE.jsonl, a document and its scores a line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evomerge.calibration.matrices import Matrix
from evomerge.errors import CalibrationError
from evomerge.families import Task
from evomerge.tasks.splits import item_id

_NAME = re.compile(r"samples_(?P<task>.+?)(?:_(?P<date>\d{4}-\d\d-\d\dT[\d:.-]+))?\.jsonl")

Item = tuple[str, str]


def read(path: Path, tasks: Sequence[Task]) -> Matrix:
    """The logs of these tasks in a file or a folder; documents are matched by content, scored by the tasks' metrics.

    A model is named by lm-eval's results file of that date, else by its folder. Of two logs of a model and task the
    newer counts. Raises CalibrationError if there is no log of these tasks, or one that cannot be read.
    """
    by_name = {task.name: task for task in tasks}
    logs = [(file, m["task"], m["date"]) for file in _files(path) if (m := _NAME.fullmatch(file.name))]
    scores: dict[str, dict[str, dict[Item, float]]] = {}  # of each model and task
    for file, task, date in sorted(logs, key=lambda log: log[0].name):
        if task in by_name:
            scores.setdefault(_model(file, date), {})[task] = dict(_scores(file, by_name[task]))
    if not scores:
        others = sorted({task for _, task, _ in logs})
        raise CalibrationError(
            f"{path} holds no samples_TASK_DATE.jsonl of {', '.join(by_name)}; it holds logs of: "
            f"{', '.join(others) or 'no task'}. Run lm-eval with --log_samples and --output_path."
        )
    return _matrix(scores)


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("samples_*.jsonl"))


def _model(file: Path, date: str | None) -> str:
    """What lm-eval was told the model is."""
    try:
        name = json.loads((file.parent / f"results_{date}.json").read_text())["model_name"]
    except (OSError, ValueError, KeyError, TypeError):
        name = None
    return str(name or file.parent.name or file.parent.resolve().name)


def _scores(file: Path, task: Task) -> Iterator[tuple[Item, float]]:
    """Items of one log in its order, after the task's first filter; of equal documents the first stays."""
    wanted, seen, filters = getattr(task, "filter", None), set(), set()
    for number, line in _lines(file):
        filters.add(line.get("filter"))
        if wanted is not None and line.get("filter", wanted) != wanted:
            continue
        item = (task.name, item_id(_document(line, file, number)))
        if item not in seen:
            seen.add(item)
            yield item, _value(line, task, file, number)
    if not seen and filters:
        raise CalibrationError(
            f"{file} has answers after the filters {', '.join(map(str, filters))} only; task '{task.name}' is scored "
            f"after its first filter, '{wanted}'. Log it with the same YAML."
        )


def _lines(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        with open(file, encoding="utf-8") as lines:
            for number, text in enumerate(lines, 1):
                line = json.loads(text)
                if not isinstance(line, dict):
                    raise ValueError(f"line {number} is no object")
                yield number, line
    except (OSError, ValueError) as e:
        raise CalibrationError(f"{file} cannot be read as JSON lines ({e}). Take the log as lm-eval wrote it.") from e


def _document(line: Mapping[str, Any], file: Path, number: int) -> Mapping[str, Any]:
    doc = line.get("doc")
    if not isinstance(doc, dict):
        raise CalibrationError(
            f"{file}, line {number} has no 'doc', and items are matched by the documents' content. Take a log that "
            "lm-eval wrote with --log_samples."
        )
    return doc


def _value(line: Mapping[str, Any], task: Task, file: Path, number: int) -> float:
    """The metric of the item; of pairs the log-likelihood per unit. What is missing or not finite was not asked."""
    if task.metric.name not in line:
        raise CalibrationError(
            f"{file}, line {number} has no '{task.metric.name}', the metric of task '{task.name}', but: "
            f"{', '.join(map(str, line.get('metrics', ())))}. Log this metric, or choose one with task.metrics."
        )
    try:
        value = np.asarray(line[task.metric.name], dtype=np.float64)
    except (TypeError, ValueError):
        return float("nan")
    if value.shape == (2,) and task.metric.kind == "pairs":
        return float(value[0] / value[1]) if value[1] > 0 else float("nan")
    return float(value) if value.shape == () else float("nan")


def _matrix(scores: Mapping[str, Mapping[str, Mapping[Item, float]]]) -> Matrix:
    items = tuple(dict.fromkeys(i for tasks in scores.values() for items in tasks.values() for i in items))
    rows = [{i: v for items in tasks.values() for i, v in items.items()} for tasks in scores.values()]
    values = np.array([[row.get(i, np.nan) for i in items] for row in rows])
    return Matrix(tuple(scores), items, values.reshape(len(rows), len(items)))
