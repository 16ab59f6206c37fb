"""What a run was asked and what it took: tasks, settings, parents and notes from the header, costs from the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from evomerge.reports.nouns import SPLITS, Cost, Level, Raced, TaskFacts
from evomerge.reports.record import DOING, Record
from evomerge.types import Metric


def read_tasks(record: Record) -> tuple[TaskFacts, ...]:
    """Tasks as the header names them; from the rows if it does not: then higher is taken to be better."""
    named = record.identity.get("tasks") or []
    if named:
        return tuple(_named_task(task, record) for task in named)
    return tuple(TaskFacts(task, _metric(None, task, record), _counts(task, record)) for task in _asked(record))


def _named_task(task: Mapping[str, Any], record: Record) -> TaskFacts:
    name = task["name"]
    counts = {split: items["count"] for split, items in (task.get("items") or {}).items()}
    goals = record.identity.get("goals")
    goal = name in goals if goals else "kind" not in task  # measures say their kind
    return TaskFacts(name, _metric(task.get("metric"), name, record), counts or _counts(name, record), goal)


def _metric(named: Mapping[str, Any] | None, task: str, record: Record) -> Metric:
    if named:
        return Metric(**named)
    scores = (s for e in record.evaluations for s in e.scores if s.task == task)
    first = next(scores, None)
    return Metric("score", True, "pairs" if first is not None and first.values.ndim == 2 else "mean")


def _asked(record: Record) -> list[str]:
    return list(dict.fromkeys(task for e in record.evaluations for task in e.items))


def _counts(task: str, record: Record) -> dict[str, int]:
    asked: dict[str, set[str]] = {}
    for e in record.evaluations:
        asked.setdefault(e.phase if e.phase in SPLITS else "search", set()).update(e.items.get(task, ()))
    return {split: len(asked[split]) for split in SPLITS if split in asked}


def settings(identity: Mapping[str, Any]) -> dict[str, str]:
    """Space, optimizer, objective and seed by their short names, as far as the header tells."""
    found = {key: identity[key] for key in ("space", "optimizer", "objective", "seed") if key in identity}
    short = {k: v.get("_target_", v.get("name")) if isinstance(v, Mapping) else v for k, v in found.items()}
    return {k: str(v).rpartition(".")[2] for k, v in short.items() if v is not None}


def base(record: Record) -> str | None:
    """Content digest of the base; its recipe's digest if the header has none; None without a base."""
    named = record.identity.get("parents")
    return named.get("base") if named else record.references.get("base")


def parents(record: Record) -> dict[str, str | None]:
    """Content digests by name; the recipes' digests if the header has none."""
    named = record.identity.get("parents")
    if named:
        return dict(named["models"])
    digests = record.references
    return {name.removeprefix("parent:"): d for name, d in digests.items() if name.startswith("parent:")}


def notes(record: Record) -> tuple[str, ...]:
    """Sentences of the tasks about their splits, and changes of versions between processes."""
    changed = [f"versions: {e['text']}" for e in record.events if e.get("event") == "version"]
    changed += [e["text"] for e in record.events if e.get("event") == "note"]
    return tuple(dict.fromkeys([*record.header.get("notes", []), *changed]))


def costs(record: Record) -> tuple[Cost, ...]:
    """One Cost per phase that has rows."""
    items: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for e in record.evaluations:
        items[e.phase] += sum(map(len, e.items.values())) if e.alias_of is None else 0
    for event in record.events:
        if event.get("event") == "done":
            seconds[event.get("phase", "")] += event.get("seconds", 0.0)
    return tuple(Cost(p, record.counts[p], items[p], float(seconds[p])) for p in DOING if record.counts[p])


def fallbacks(record: Record) -> dict[str, int]:
    """Candidates by the rule that stood in for the estimator of some task."""
    told = (tasks for commit in record.commits for tasks in commit.tasks)
    return dict(Counter(rule for tasks in told for rule in {e.fallback for e in tasks if e.fallback}))


def level(record: Record) -> Level | None:
    """The search's estimates against weighted means of the same answers, pooled over its batches."""
    compared = [commit.level for commit in record.commits if commit.level]
    if not compared:
        return None
    differences, stderrs = np.array(compared).T
    alarm = next((batch for batch, commit in enumerate(record.commits) if commit.robust), None)
    stderr = float(np.sqrt((stderrs**2).sum())) / len(compared)
    return Level(float(differences.mean()), stderr, len(compared), alarm)


def raced(record: Record) -> Raced | None:
    """What racing spared; None without a race."""
    stop = record.newest_stop("search") or {}
    if "items_unraced" not in stop:  # it broke off
        return None
    aliased = sum(sum(map(len, e.items.values())) for e in record.evaluations if e.phase == "search" and e.alias_of)
    items = stop["items_unraced"] - stop["items"] - aliased
    cost = next((c for c in costs(record) if c.phase == "search"), None)
    if cost is None or items <= 0 or not cost.items:
        return None
    return Raced(items, stop["items_unraced"], items * cost.seconds / cost.items)


def cut(record: Record) -> tuple[int, int | None] | None:
    """Candidates of the batch that the budget cut, and those of the largest told batch; None if none was cut."""
    untold = (record.newest_stop("search") or {}).get("untold")
    if not untold:
        return None
    batches = [len(row["results"]) for row in record.rows if row["row"] == "commit" and row["phase"] == "search"]
    return len(untold), max(batches, default=None)


def stop_reason(record: Record) -> str | None:
    """Why the newest search ended, "failures" if the run broke off in any phase, None while it goes on."""
    last = record.rows[-1] if record.rows else {}
    return "failures" if last.get("reason") == "failures" else (record.newest_stop("search") or {}).get("reason")
