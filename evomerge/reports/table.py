"""A report in the terminal: verdict, tables, warnings; no colour carries meaning, so it pipes well."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from evomerge.reports.front_grids import front_grids, hypervolume_grid
from evomerge.reports.grids import Grid
from evomerge.reports.nouns import Front, Report
from evomerge.reports.sections import sections
from evomerge.reports.wording import headline


def show(report: Report, console: Console) -> None:
    """Print a report; 100 columns hold it without folding the usual names, 80 suffice."""
    for line in headline(report):
        _say(console, line)
    _say(console, report.verdict, "bold")
    for grid in sections(report):
        _show(grid, console)
    if report.warnings:
        _say(console, "\nWarnings", "bold")
    for warning in report.warnings:
        _say(console, f"- {warning}")
    _say(console, f"\n{report.follow_on}")


def show_front(report: Report, front: Front, console: Console) -> None:
    """Print verdict and front alone."""
    _say(console, report.verdict, "bold")
    for grid in (*front_grids(front, report), hypervolume_grid(front)):
        _show(grid, console)


def _show(grid: Grid, console: Console) -> None:
    _say(console, f"\n{grid.title}", "bold")
    console.print(table(grid))
    _say(console, grid.note)


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
