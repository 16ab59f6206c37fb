"""Goals that are at odds, and how much of their space a search covers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pymoo.indicators.hv import HV

from evomerge.families import Optimizer
from evomerge.problem import Problem
from evomerge.types import Candidate, Genome, Result
from tests.optimizers.driving import drive, plain


def zdt1(genome: Genome) -> tuple[float, ...]:
    """Zitzler, Deb and Thiele (2000), turned to be maximised: 0 is the best of each."""
    g = 1 + 9 * genome[1:].mean()
    return (-float(genome[0]), -float(g * (1 - np.sqrt(genome[0] / g))))


def dtlz2(genome: Genome) -> tuple[float, ...]:
    """Deb, Thiele, Laumanns and Zitzler (2002), three goals, turned to be maximised."""
    g = 1 + ((genome[2:] - 0.5) ** 2).sum()
    a, b = genome[:2] * np.pi / 2
    return tuple(-float(g * f) for f in (np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)))


WORST = {zdt1: (-1.1, -6.0), dtlz2: (-2.0, -2.0, -2.0)}
GOALS = {zdt1: 2, dtlz2: 3}


def plain_goals(size: int, goals: int) -> Problem:
    return Problem(plain(size).variables, goals=goals)


def covered(optimizer: Optimizer, goals, evaluations: int) -> float:
    """Hypervolume of the first `evaluations` candidates, none beyond WORST counted."""

    def judge(number: int, batch: Sequence[Candidate]) -> list[Result]:
        return [Result(c.id, goals(c.genome)) for c in batch]

    _, told = drive(optimizer, -(-evaluations // optimizer.step), judge)
    found = np.array([r.fitness for batch in told for r in batch])[:evaluations]
    assert len(found) == evaluations
    return float(HV(ref_point=-np.array(WORST[goals]))(-found))
