"""A search of two goals without any model: alpha grows with the first weight x, beta is 4 x (1 - x)."""

from __future__ import annotations

import numpy as np

from evomerge.objectives.pareto import Pareto
from evomerge.plan import Goals
from evomerge.types import ItemScores
from tests.reports.made_runs import IDENTITY, listed, run_as

#: Beside base (0, 0), parent a (1, 0) and the average (0.5, 1): dominated, then along the front to its end.
FOUND = (0.1, 0.3, 0.6, 0.75, 0.9)
KNEE = "search:3"  # at (0.75, 0.75)
TWO = IDENTITY | {"objective": {"_target_": "evomerge.objectives.pareto.Pareto"}}


def rule(work, task, first, n):
    """Items of a task all score the same: nothing is noise."""
    return np.full(n, first if task == "alpha" else 4 * first * (1 - first))


def goals(**settings):
    return Goals(Pareto(min_gap=1.0), **settings)  # the gaps are 1 and 0


def search_two(folder, found=FOUND, control=(), **changes):
    """Run it; returns the winner's id."""
    return run_as(folder, TWO, **{"goals": goals(), **listed(found, control, rule), **changes})


def scores(task, values):
    return ItemScores(task, tuple(f"{task}{i}" for i in range(len(values))), np.asarray(values, dtype=float))
