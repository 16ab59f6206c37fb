"""Runs of a benchmark -> what their winners are worth on test items, and its medians over seeds."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables import table
from evomerge.errors import JournalError
from evomerge.reports.nouns import Report, Standing
from evomerge.reports.read import read

Row = dict[str, Any]
MIN_GAP = 0.1  # as objective=gap_closed has it


@dataclass(frozen=True)
class Outcome:
    """What one run came to. evaluations, items, seconds: of search and control.

    test_mean, gap_closed, kept: means over the tasks that are goals, of the winner, on test items.
    """

    search: str
    seed: int
    winner: str
    evaluations: int
    items: int
    seconds: float
    test_mean: float
    gap_closed: float
    kept: float


def outcomes(folder: Path, searches: Sequence[str]) -> list[Outcome]:
    """Of the finished runs in a folder that are named SEARCH[-NUMBER],seed=SEED; what is left out is told."""
    good = [outcome(name, seed, report) for name, seed, report in _finished(folder) if name in searches]
    return sorted(good, key=lambda one: (searches.index(one.search), one.seed))


def _finished(folder: Path) -> Iterator[tuple[str, int, Report]]:
    for path in sorted(folder.glob("*,seed=*")):
        match = re.fullmatch(r"(\w+?)(-\d+)?,seed=(\d+)", path.name)
        try:
            report = read(path)
        except JournalError as e:
            print(f"{path.name} is left out: {e}", file=sys.stderr)
            continue
        if match and report.finished:
            yield match[1], int(match[3]), report
        else:
            print(f"{path.name} is left out: {report.state}", file=sys.stderr)


def outcome(search: str, seed: int, report: Report) -> Outcome:
    winner, paid = report.standing(report.winner), [c for c in report.costs if c.phase in ("search", "control")]
    assert winner is not None, "a finished run has a winner"
    score, floor, best = test_scores(winner, report)
    return Outcome(
        search=search,
        seed=seed,
        winner=winner.id,
        evaluations=sum(c.evaluations for c in paid),
        items=sum(c.items for c in paid),
        seconds=sum(c.seconds for c in paid),
        test_mean=float(score.mean()),
        gap_closed=float(((score - floor) / np.maximum(best - floor, MIN_GAP)).mean()),
        kept=float((score / best).mean()) if best.min() > 0 else float("nan"),
    )


def test_scores(winner: Standing, report: Report) -> np.ndarray:
    """float64 (3, tasks), on test items: the winner, the base (without one the plain average), the best parent."""
    goals = [task.name for task in report.tasks if task.goal]
    floor = report.standing("base") or report.standing("average")
    parents = [s for s in report.standings if s.id.startswith("parent:")]
    assert floor is not None and parents, "references are finalists by right"
    best = [max(parent.scores["test"][task].value for parent in parents) for task in goals]
    return np.array([*([s.scores["test"][task].value for task in goals] for s in (winner, floor)), best])


# ---------------------------------------------------------------- over seeds


def summary(found: Sequence[Outcome]) -> list[Row]:
    """One row a search: means of what it took, medians of what it gave."""
    names = dict.fromkeys(one.search for one in found)
    return [_row(name, [one for one in found if one.search == name]) for name in names]


def _row(name: str, runs: Sequence[Outcome]) -> Row:
    took = {key: float(np.mean([getattr(o, key) for o in runs])) for key in ("evaluations", "items", "seconds")}
    gave = {"test_mean": float(np.median([one.test_mean for one in runs]))}
    for key in ("gap_closed", "kept"):
        gave |= median(key, np.array([getattr(one, key) for one in runs]))
    return {"search": name, "seeds": [one.seed for one in runs], **took, **gave}


def median(name: str, values: np.ndarray) -> dict[str, float]:
    """The median over runs, values (n,), and its 95% bootstrap interval."""
    draws = np.random.default_rng(0).choice(values, (2000, len(values)))
    low, high = np.quantile(np.median(draws, axis=1), (0.025, 0.975))
    return {f"{name}_median": float(np.median(values)), f"{name}_low": float(low), f"{name}_high": float(high)}


# ---------------------------------------------------------------- shown


def by_run(found: Sequence[Outcome]) -> str:
    heads = ["search", "seed", "test", "gap closed", "kept %", "candidates", "items", "seconds", "winner"]
    return table(heads, [_line(one) for one in found])


def _line(one: Outcome) -> list[str]:
    scores = [f"{one.test_mean:.3f}", f"{one.gap_closed:.3f}", f"{100 * one.kept:.1f}"]
    return [one.search, str(one.seed), *scores, str(one.evaluations), str(one.items), f"{one.seconds:.0f}", one.winner]


def by_search(rows: Sequence[Row]) -> str:
    heads = ["search", "runs", "test", "gap closed", "kept %", "items", "seconds"]
    return table(heads, [_summary_line(row) for row in rows])


def _summary_line(row: Row) -> list[str]:
    spreads = [_spread(row, "gap_closed", 1, ".3f"), _spread(row, "kept", 100, ".1f")]
    took = [f"{row['items']:.0f}", f"{row['seconds']:.0f}"]
    return [row["search"], str(len(row["seeds"])), f"{row['test_mean']:.3f}", *spreads, *took]


def _spread(row: Row, name: str, scale: float, form: str) -> str:
    middle, low, high = (format(scale * row[f"{name}_{end}"], form) for end in ("median", "low", "high"))
    return f"{middle} [{low}, {high}]"


def plot(rows: Sequence[Row], found: Sequence[Outcome], file: Path) -> None:
    """The share of the gap closed, search by search: every run a dot, the median with its interval."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.5 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        runs = [one.gap_closed for one in found if one.search == row["search"]]
        axes.plot(runs, [place] * len(runs), "o", color="0.6", markersize=4)
        axes.plot([row["gap_closed_low"], row["gap_closed_high"]], [place] * 2, color="C0")
        axes.plot(row["gap_closed_median"], place, "D", color="C0")
    axes.set_yticks(range(len(rows)), [row["search"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("share of the gap between base and best parent closed, test items")
    figure.savefig(file, dpi=150)
