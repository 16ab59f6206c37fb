"""A run folder -> Report, from its journal and events alone; a run that is still going is read as far as it is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from evomerge.reports import facts
from evomerge.reports.finalists import all_differences, finalists, standing, winners_curse
from evomerge.reports.front import read_front
from evomerge.reports.nouns import Report
from evomerge.reports.record import load, state
from evomerge.reports.verdict import follow_on, verdict, warnings


def read(folder: Path) -> Report:
    """Read a run folder. Raises JournalError if it holds no run."""
    record = load(folder)
    tasks = facts.read_tasks(record)
    metrics = {task.name: task.metric for task in tasks}
    named = finalists(record)
    goals = tuple(task.name for task in tasks if task.goal)
    standings = tuple(standing(f, metrics, record, goals) for f in named)
    selection = record.newest_stop("selection")
    winner = str(selection["winner"]) if selection else None
    words, finished = state(record)
    report = Report(
        folder=str(folder),
        state=words,
        finished=finished,
        follow_on="",
        settings=facts.settings(record.identity),
        base=facts.base(record),
        parents=facts.parents(record),
        tasks=tasks,
        standings=standings,
        winner=winner,
        differences=tuple(all_differences(named, standings, winner, metrics, record)),
        optimism=winners_curse(standings, winner),
        costs=facts.costs(record),
        failures=dict(Counter(e.error_code for e in record.evaluations if e.error_code)),
        aliases=len({(e.phase, e.id) for e in record.evaluations if e.alias_of is not None}),
        retries=sum(e.get("event") == "retry" for e in record.events),
        deaths=sum(e.get("event") == "died" for e in record.events),
        stop_reason=facts.stop_reason(record),
        cut=facts.cut(record),
        fallbacks=facts.fallbacks(record),
        level=facts.level(record),
        raced=facts.raced(record),
        front=read_front(record),
        opened=record.opened(),
        notes=facts.notes(record),
    )
    return replace(report, verdict=verdict(report), warnings=warnings(report), follow_on=follow_on(report))


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain JSON data; numbers that JSON has no word for are null."""
    return plain(asdict(report))


def plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
