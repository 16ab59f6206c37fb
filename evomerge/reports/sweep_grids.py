"""The overview of a sweep in the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console

from evomerge.reports import markdown as as_markdown
from evomerge.reports.grids import Grid
from evomerge.reports.sweep import Member, Overview, Spread
from evomerge.reports.table import table
from evomerge.reports.wording import number, plural, span, with_error


def grids(overview: Overview) -> list[Grid]:
    """Runs, and spreads over seeds if there are any."""
    columns = ("run", "state", "time", "evaluations", "winner", "its score", "best rival", "winner - best rival")
    note = "Mean scores over tasks on test items, ± standard error; the difference with its 95% interval."
    runs = Grid(_title(overview), columns, tuple(map(_row, overview.runs)), note, names=2)
    spreads = Grid(
        "Winner's test score over seeds",
        ("settings", "runs", "mean", "sd over seeds", "lowest", "highest", "winner - best rival", "time"),
        tuple(map(_spread_row, overview.spreads)),
        "Means over seeds. Few seeds tell little: settings that differ by less than their sd are not told apart.",
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
    rival = number(run.test["best rival"].value) if "best rival" in run.test else "-"
    gain = span(run.gains["best rival"]) if "best rival" in run.gains else "-"
    return (
        run.name,
        f"{run.state}: {run.phase}" if run.phase and run.state != "finished" else run.state,
        duration(run.seconds),
        str(run.evaluations),
        run.winner or "-",
        with_error(run.test.get("winner")),
        rival,
        gain,
    )


def _spread_row(spread: Spread) -> tuple[str, ...]:
    scores = map(number, (spread.mean, spread.sd, spread.low, spread.high))
    return (
        _words(spread.settings),
        str(spread.runs),
        *scores,
        number(spread.gain, "+"),
        duration(spread.seconds),
    )


def duration(seconds: float) -> str:
    """As "0:02:05"; days are counted as hours."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if seconds else "-"


def _words(settings: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items()) or "all"
