"""Drives optimizers without a loop: asks, scores on a sphere, tells."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from omegaconf import OmegaConf

from evomerge.config import CONF, make
from evomerge.families import Optimizer
from evomerge.problem import Problem
from evomerge.rows import Commit, commit_row, read_commit
from evomerge.types import Candidate, Result, Variable

Batches: TypeAlias = list[list[Candidate]]
Told: TypeAlias = list[list[Result]]

#: Continuous: linear and log scales, unequal steps, leading and not, two parents.
VARIABLES = (
    Variable("weight/rest/0/a", "weight", -0.2, 1.5, "linear", 0.7, 0.12, leading=True, parent="a"),
    Variable("weight/rest/0/b", "weight", -0.2, 1.5, "linear", 0.4, 0.12, leading=True, parent="b"),
    Variable("scale/rest/0/all", "scale", 0.3, 1.8, "linear", 0.47, 1 / 6),
    Variable("density/rest/0/all", "density", 0.2, 1.0, "log", 1.0, 1 / 6),
    Variable("epsilon/rest/0/all", "epsilon", 0.0, 2.0, "linear", 0.25, 0.3),
)
#: Not the middle of anything, and far from every default.
TARGET = np.array([0.21, 0.83, 0.64, 0.37, 0.52])


def member(
    name: str,
    *,
    seed: int = 1,
    start: Any = None,
    variables: Sequence[Variable] = VARIABLES,
    problem: Problem | None = None,
) -> Optimizer:
    """The optimizer of conf/optimizer/<name>.yaml with the settings written there; "<name> lag=3" changes them."""
    address, *changed = name.split()
    node = OmegaConf.merge(OmegaConf.load(CONF / "optimizer" / f"{address}.yaml"), OmegaConf.from_dotlist(changed))
    given = problem or Problem(tuple(variables), starts=() if start is None else (start,))
    return make("optimizer", node, given, seed)


def plain(n: int, start: Any = None, *, step: float = 1 / 6, default: float = 0.5) -> Problem:
    """n continuous variables, all alike."""
    variables = [Variable(f"x{i}", "weight", 0.0, 1.0, "linear", default, step, leading=True) for i in range(n)]
    return Problem(tuple(variables), starts=() if start is None else (np.asarray(start, dtype=float),))


def pollute(number: int) -> None:
    """What an evaluation may do to the global streams."""
    np.random.seed(1000 + number)
    random.seed(2000 + number)
    np.random.rand(number % 5)
    random.random()


def closeness(candidate: Candidate) -> float:
    return -float(((candidate.genome - np.resize(TARGET, len(candidate.genome))) ** 2).sum())


def results(batch: Sequence[Candidate], score: Callable[[Candidate], float] = closeness) -> list[Result]:
    return [Result(c.id, (score(c),)) for c in batch]


def through_json(told: Sequence[Result]) -> list[Result]:
    """As a resumed search has them: told values from its journal, answers from the evaluations' own rows."""
    row = commit_row("search", 0, Commit(tuple(told), (), ()))
    read = read_commit(json.loads(json.dumps(row))).results
    return [replace(r, stderrs=t.stderrs, answers=t.answers) for r, t in zip(read, told, strict=True)]


def go(
    optimizer: Optimizer,
    batches: int,
    score: Callable[[Candidate], float] = closeness,
    *,
    known: Sequence[Sequence[Result]] = (),
    between: Callable[[int], None] = lambda number: None,
) -> tuple[Batches, Told]:
    """Up to this many batches, asked and told; batches in `known` are told as given."""

    def judge(number: int, batch: Sequence[Candidate]) -> Sequence[Result]:
        return known[number] if number < len(known) else results(batch, score)

    return drive(optimizer, batches, judge, between=between)


def drive(
    optimizer: Optimizer,
    batches: int,
    judge: Callable[[int, Sequence[Candidate]], Sequence[Result]],
    *,
    between: Callable[[int], None] = lambda number: None,
) -> tuple[Batches, Told]:
    """As `go`, told what `judge` makes of a batch's number and candidates. In a steady state a batch is one of them."""
    asked: Batches = []
    told: Told = []
    out: list[Candidate] = []  # asked and not told
    for number in range(batches):
        between(number)
        out += optimizer.ask(optimizer.lag - len(out))
        batch, out = out[: optimizer.step], out[optimizer.step :]
        if not batch:
            break
        between(number + 1)
        told.append(list(judge(number, batch)))
        optimizer.tell(told[-1])
        asked.append(batch)
    return asked, told


def genomes(batches: Sequence[Sequence[Candidate]]) -> list[bytes]:
    return [c.genome.tobytes() for batch in batches for c in batch]
