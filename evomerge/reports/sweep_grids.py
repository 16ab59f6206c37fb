"""The overview of a sweep in the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console

from evomerge.reports import markdown as as_markdown
from evomerge.reports.grids import Grid
from evomerge.reports.sweep import Member, Overview
from evomerge.reports.table import table
from evomerge.reports.wording import number, plural, span, with_error

RIVALS = ("control", "average", "best parent")


def grids(overview: Overview) -> list[Grid]:
    """Runs, and spreads over seeds if there are any."""
    columns = ("run", "state", "evaluations", "winner", "its score", *RIVALS, "winner - best rival")
    note = "Mean scores over tasks on test items, ± standard error; the difference with its 95% interval."
    runs = Grid(_title(overview), columns, tuple(map(_row, overview.runs)), note, names=2)
    spreads = Grid(
        "Winner's test score over seeds",
        ("settings", "runs", "mean", "lowest", "highest"),
        tuple((_words(s.settings), str(s.runs), *map(number, (s.mean, s.low, s.high))) for s in overview.spreads),
    )
    return [grid for grid in (runs, spreads) if grid.rows]


def lines(overview: Overview) -> list[str]:
    """A sentence a run: its verdict, or why it failed."""
    said = ((run.name, run.error.splitlines()[0] if run.error else run.verdict) for run in overview.runs)
    return [f"{name}: {sentence}" for name, sentence in said if sentence]


def markdown(overview: Overview) -> str:
    """The text of sweep.md."""
    said = "\n".join(f"- {as_markdown.safe(line)}" for line in lines(overview))
    return (
        "\n\n".join([f"# {as_markdown.safe(overview.folder)}", *map(as_markdown.section, grids(overview)), said]) + "\n"
    )


def show(overview: Overview, console: Console) -> None:
    """Print the overview; tables first, then a sentence a run."""
    for grid in grids(overview):
        console.print(grid.title, style="bold", markup=False, highlight=False, soft_wrap=True)
        console.print(table(grid))
        console.print(grid.note, markup=False, highlight=False)
    for line in lines(overview):
        console.print(f"- {line}", markup=False, highlight=False, soft_wrap=True)


def _title(overview: Overview) -> str:
    finished = sum(run.state == "finished" for run in overview.runs)
    return f"{overview.folder}: {finished} of {plural(len(overview.runs), 'run')} finished"


def _row(run: Member) -> tuple[str, ...]:
    rivals = (number(run.test[name].value) if name in run.test else "-" for name in RIVALS)
    gain = span(run.gains["best rival"]) if "best rival" in run.gains else "-"
    return (
        run.name,
        run.state,
        str(run.evaluations),
        run.winner or "-",
        with_error(run.test.get("winner")),
        *rivals,
        gain,
    )


def _words(settings: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items()) or "all"
