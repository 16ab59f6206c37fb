"""A report as Markdown, verdict first."""

from __future__ import annotations

from collections.abc import Iterable

from evomerge.reports.grids import Grid
from evomerge.reports.nouns import Report
from evomerge.reports.sections import sections
from evomerge.reports.wording import headline


def markdown(report: Report) -> str:
    """The text of report.md."""
    parts = [f"# {safe(report.verdict)}", *map(safe, headline(report)), *map(section, sections(report))]
    if report.warnings:
        parts.append("## Warnings\n\n" + "\n".join(f"- {safe(w)}" for w in report.warnings))
    return "\n\n".join([*parts, safe(report.follow_on)]) + "\n"


def section(grid: Grid) -> str:
    rule = ["---" if i < grid.names else "---:" for i in range(len(grid.columns))]
    lines = [_row(grid.columns), f"| {' | '.join(rule)} |", *map(_row, grid.rows)]
    note = f"\n\n{safe(grid.note)}" if grid.note else ""
    return f"## {safe(grid.title)}\n\n" + "\n".join(lines) + note


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(safe, cells))} |"


def safe(text: str) -> str:
    """Text with the characters that Markdown would read as its own."""
    return "".join(f"\\{c}" if c in "|*_`<" else c for c in text)
