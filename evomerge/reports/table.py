"""A report in the terminal: verdict, tables, warnings; no colour carries meaning, so it pipes well."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from evomerge.reports.grids import Grid, grids
from evomerge.reports.nouns import Report
from evomerge.reports.wording import headline


def show(report: Report, console: Console) -> None:
    """Print a report; 100 columns hold it without folding the usual names, 80 suffice."""
    for line in headline(report):
        _say(console, line)
    _say(console, report.verdict, "bold")
    for grid in grids(report):
        _say(console, f"\n{grid.title}", "bold")
        console.print(table(grid))
        _say(console, grid.note)
    if report.warnings:
        _say(console, "\nWarnings", "bold")
    for warning in report.warnings:
        _say(console, f"- {warning}")
    _say(console, f"\n{report.follow_on}")


def table(grid: Grid) -> Table:
    """A rich table; cells are plain text, whatever brackets the names of parents hold."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, column in enumerate(grid.columns):
        made.add_column(Text(column), justify="left" if i < grid.names else "right", overflow="fold")
    for row in grid.rows:
        made.add_row(*(Text(cell, style="bold" if row[0].endswith(" *") else "") for cell in row))
    return made


def _say(console: Console, line: str, style: str = "") -> None:
    if line:
        console.print(Text(line, style=style))
