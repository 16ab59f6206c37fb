"""The grids of a report, in the order in which they are read."""

from __future__ import annotations

from evomerge.reports.front_grids import front_grids, hypervolume_grid
from evomerge.reports.grids import Grid, cost_grid, difference_grid, score_grids
from evomerge.reports.nouns import Report


def sections(report: Report) -> list[Grid]:
    """The front, scores, differences and costs, as far as there are any."""
    front = [*front_grids(report.front, report), hypervolume_grid(report.front)] if report.front else []
    return [g for g in (*front, *score_grids(report), difference_grid(report), cost_grid(report)) if g.rows]
