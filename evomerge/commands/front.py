"""evomerge front: the front of a run of several goals, and choices from it."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomerge.commands import asking
from evomerge.errors import ConfigError, JournalError
from evomerge.lines import write_whole

if TYPE_CHECKING:
    from evomerge.reports.nouns import Front, Report

WHAT = """\
The front of a run of several goals: finalists of which none is beaten in all goals by another, as far as their
posterior on selection items can tell, and what the test says of them. One of them is the knee, the winner.
"""


def main(args: list[str]) -> int:
    parser = asking.parser("front", WHAT, "evomerge front outputs/first --prefer math=2 --prefer code=1")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("run", metavar="RUN", help="folder of the run")
    parser.add_argument(
        "--prefer",
        action="append",
        default=[],
        metavar="GOAL=WEIGHT",
        help="choose by the weighted sum of posterior goals; a goal that is not named weighs 1; may be repeated",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write it as JSON, too")
    parser.add_argument("--plot", metavar="FILE.png", type=Path, help="draw it, too (needs the extra 'plots')")
    options = parser.parse_args(args)
    return show_front(Path(options.run), weights_of(options.prefer), options.json, options.plot)


def weights_of(words: Sequence[str]) -> dict[str, float]:
    """Weights by goal from GOAL=WEIGHT. Raises ConfigError for words that are not that."""
    weights: dict[str, float] = {}
    for word in words:
        goal, _, number = word.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not goal or not 0 <= weight < math.inf:
            raise ConfigError(f"--prefer {word} is not understood; wanted GOAL=WEIGHT with a weight from 0, as math=2.")
        weights[goal] = weight
    return weights


def show_front(folder: Path, weights: dict[str, float], as_json: Path | None, picture: Path | None) -> int:
    """Print the front, and write what is asked for."""
    from rich.console import Console

    from evomerge.reports import front, front_plot, read, table

    report = read.read(folder)
    found = front_of(report)
    choice = front.preferred(found, weights) if weights else None
    table.show_front(report, found, Console(width=None if sys.stdout.isatty() else 110))
    print(_advice(folder, report, choice, weights))
    if as_json is not None:
        write_whole(as_json, json.dumps(document(report, found, choice, weights), indent=1, allow_nan=False) + "\n")
    if picture is not None:
        front_plot.plot(found, picture)
    return 0


def front_of(report: Report) -> Front:
    """The front of a report. Raises ConfigError for a run of one goal, JournalError before the selection."""
    if report.winner is None:
        raise JournalError(f"{report.folder} has no front yet. Finish it first: evomerge resume {report.folder}")
    if report.front is None:
        raise ConfigError(
            f"{report.folder} has one goal, so there is no front: its winner is {report.winner}. Search with "
            "objective=pareto for one."
        )
    return report.front


def _advice(folder: Path, report: Report, choice: str | None, weights: dict[str, float]) -> str:
    export = f"evomerge export {folder} --pick {choice or 'knee'} --to DIR"
    if choice is None:
        return f"\nExport one of them: {export}"
    standing = report.standing(choice)
    words = ", ".join(f"{goal}={weight:g}" for goal, weight in weights.items())
    return f"\nPreferred with {words}: {standing.label if standing else choice} ({choice}). {export}"


def document(report: Report, found: Front, choice: str | None, weights: dict[str, float]) -> dict[str, Any]:
    """The front as plain JSON data: [value, stderr] per goal, by split and finalist."""
    from evomerge.reports import front
    from evomerge.reports.read import plain

    scores = {
        split: {ident: [[e.value, e.stderr] for e in goals] for ident, goals in by_id.items()}
        for split, by_id in found.scores.items()
    }
    gains = {ident: [[g.value, g.low, g.high] for g in goals] for ident, goals in found.gains.items()}
    facts = {
        "run": report.folder,
        "goals": found.goals,
        "front": found.ids,
        "knee": found.knee,
        "preferred": choice,
        "weights": weights,
        "scores": scores,
        "floor": found.floor,
        "knee_minus": gains,
        "hypervolume": front.hypervolumes(found),
        "without_search": front.rivals(found),
    }
    return dict(plain(facts))
