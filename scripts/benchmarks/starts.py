"""Optimizers begun where their sources begin them: not at the references that evomerge scores first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

from evomerge.families import Optimizer
from evomerge.optimizers.cma_es import CmaEs
from evomerge.optimizers.ga import Ga
from evomerge.problem import Problem


def unaided(member: Callable[..., Optimizer]) -> Callable[..., Optimizer]:
    """The member with all its settings, told of no starts: it begins at the variables' defaults."""

    @wraps(member)  # settings are checked against the member's own signature
    def made(problem: Problem, seed: int, **settings: Any) -> Optimizer:
        return member(replace(problem, starts=()), seed, **settings)

    return made


#: Of mergekit's genome the defaults are mergekit's own: equal weights, nothing dropped.
cma_es = unaided(CmaEs)
#: The defaults are one member of the first population, the others are random.
ga = unaided(Ga)
