"""A folder of runs -> Overview: one line a run, and the winners' test scores over seeds; read from the runs alone."""

from __future__ import annotations

import fcntl
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from evomerge.errors import EvomergeError
from evomerge.reports.nouns import Interval, Report, Standing
from evomerge.reports.read import plain
from evomerge.reports.read import read as read_run
from evomerge.reports.record import Record, load
from evomerge.reports.verdict import best_rival
from evomerge.types import Estimate

FAILURE = "failure.txt"  # in a run's folder: why its newest attempt failed


@dataclass(frozen=True)
class Member:
    """One run. `settings` are the swept ones, as the folder's name has them.

    state: "finished", "failed", "running", "interrupted" or "not started". phase: that it came to. seconds: wall time
    of all its processes. test: mean test scores of "winner", "control", "average", "best parent" and "best rival" (the
    best of base, parents, average and control), as far as there are any. gains: winner minus each of them on the same
    items, with 95% intervals.
    """

    name: str
    settings: Mapping[str, str]
    state: str
    phase: str = ""
    evaluations: int = 0
    seconds: float = 0.0
    winner: str | None = None
    test: Mapping[str, Estimate] = field(default_factory=dict)
    gains: Mapping[str, Interval] = field(default_factory=dict)
    verdict: str = ""
    error: str = ""


@dataclass(frozen=True)
class Spread:
    """The winners' test scores of finished runs that differ in their seed only.

    sd: standard deviation over seeds, None for one seed. gain: mean of winner minus best rival. seconds: mean.
    """

    settings: Mapping[str, str]
    runs: int
    mean: float
    sd: float | None
    low: float
    high: float
    gain: float | None
    seconds: float


@dataclass(frozen=True)
class Overview:
    """The runs of a sweep, sorted by name, and their spread over seeds (empty where no seeds were swept)."""

    folder: str
    runs: tuple[Member, ...]
    spreads: tuple[Spread, ...]


def is_sweep(folder: Path) -> bool:
    """Whether a folder holds runs, and is none itself."""
    return not _is_run(Path(folder)) and bool(_members(Path(folder)))


def read(folder: Path, planned: Sequence[str] = ()) -> Overview:
    """Read every run below a folder; one that cannot be read is listed with its error.

    planned: names of runs that are listed as not started if they have no folder yet.
    """
    paths = {path.name: path for path in _members(Path(folder))}
    runs = tuple(_member(paths.get(name, Path(folder, name))) for name in sorted({*paths, *planned}))
    return Overview(str(folder), runs, _spreads(runs))


def _is_run(folder: Path) -> bool:
    return (folder / "journal.jsonl").is_file()


def _members(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _is_run(path) or (path / FAILURE).is_file())


def held(folder: Path) -> bool:
    """Whether a process has the journal of this run open for writing."""
    try:
        with (folder / "journal.jsonl").open() as journal:
            fcntl.flock(journal, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:  # no journal, or a disk that knows no locks
        return False


def _member(folder: Path) -> Member:
    name, settings = folder.name, _settings(folder.name)
    error = _failure(folder)
    if not _is_run(folder):
        return Member(name, settings, "failed" if error else "not started", error=error)
    try:
        record, report = load(folder), read_run(folder)
    except EvomergeError as e:
        return Member(name, settings, "failed", error=str(e))
    state = "finished" if report.finished else "failed" if error else "running" if held(folder) else "interrupted"
    winner = report.standing(report.winner)
    compared = {"winner": winner, **_rivals(report)}
    return Member(
        name=name,
        settings=settings,
        state=state,
        phase=str(record.rows[-1]["phase"]) if record.rows else "references",
        evaluations=next((c.evaluations for c in report.costs if c.phase == "search"), 0),
        seconds=_seconds(record),
        winner=winner.label if winner else None,
        test={name: mean for name, s in compared.items() if s and (mean := s.mean("test"))},
        gains={name: d.mean for name, s in compared.items() if s and (d := report.difference(s.id))},
        verdict=report.verdict,
        error="" if report.finished else error,
    )


def _seconds(record: Record) -> float:
    """From the first event of each process to its last; start-up before the first is not seen."""
    times: dict[Any, list[float]] = {}
    for event in record.events:
        if "time" in event:
            times.setdefault(event.get("pid"), []).append(float(event["time"]))
    return sum(max(seen) - min(seen) for seen in times.values())


def _settings(name: str) -> dict[str, str]:
    """ "optimizer=cma_es,seed=1" as a mapping; values hold no commas (evomerge.overrides.name)."""
    parts = (part.partition("=") for part in name.split(",") if "=" in part)
    return {key: value for key, _, value in parts}


def _failure(folder: Path) -> str:
    """Why the newest attempt failed; a journal that is newer has been gone on with since."""
    path, journal = folder / FAILURE, folder / "journal.jsonl"
    if not path.is_file() or (journal.is_file() and journal.stat().st_mtime_ns > path.stat().st_mtime_ns):
        return ""
    return path.read_text().strip()


def _rivals(report: Report) -> dict[str, Standing | None]:
    """What the winner is set against, by name."""
    return {
        "control": _best(report, "control:"),
        "average": report.standing("average"),
        "best parent": _best(report, "parent:"),
        "best rival": best_rival(report),
    }


def _best(report: Report, kind: str) -> Standing | None:
    scored = [(mean.value, s.id) for s in report.standings if s.id.startswith(kind) and (mean := s.mean("test"))]
    return report.standing(max(scored)[1]) if scored else None


def _spreads(runs: tuple[Member, ...]) -> tuple[Spread, ...]:
    groups: dict[tuple[tuple[str, str], ...], list[Member]] = {}
    for run in runs:
        if run.state == "finished" and "seed" in run.settings and "winner" in run.test:
            others = tuple((k, v) for k, v in run.settings.items() if k != "seed")
            groups.setdefault(others, []).append(run)
    return tuple(_spread(dict(settings), members) for settings, members in sorted(groups.items()))


def _spread(settings: Mapping[str, str], runs: Sequence[Member]) -> Spread:
    scores = [run.test["winner"].value for run in runs]
    gains = [run.gains["best rival"].value for run in runs if "best rival" in run.gains]
    return Spread(
        settings=settings,
        runs=len(runs),
        mean=fmean(scores),
        sd=stdev(scores) if len(scores) > 1 else None,
        low=min(scores),
        high=max(scores),
        gain=fmean(gains) if gains else None,
        seconds=fmean(run.seconds for run in runs),
    )


def as_json(overview: Overview) -> dict[str, Any]:
    """The overview as plain JSON data."""
    data: dict[str, Any] = plain(asdict(overview))
    return data
