"""A search without any model: candidates are scored by their distance from a point, item by item, with fixed noise."""

from __future__ import annotations

import hashlib
import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from evomerge.budget import Budget
from evomerge.estimators.mean import Mean
from evomerge.estimators.post_strat import PostStrat
from evomerge.executors.local import Local
from evomerge.journal import Journal, rows, unwatched
from evomerge.objectives.weighted_mean import WeightedMean
from evomerge.optimizers.cma_es import CmaEs
from evomerge.optimizers.lambda_grid import LambdaGrid
from evomerge.phases import search
from evomerge.plan import Goals, Plan
from evomerge.problem import Problem
from evomerge.races.none import NoRace
from evomerge.subsets.everything import Everything
from evomerge.types import Blend, Evaluation, Genome, Items, ItemScores, Metric, Recipe, Slot, Variable, Work

TASKS = ("alpha", "beta")
CENTRE = np.array([0.3, 0.6, 0.45, 0.2])


def recipe(weights: tuple[float, ...]) -> Recipe:
    blend = Blend("linear", {"weight": weights})
    return Recipe(("parent",), None, (Slot(((0, "layers", 0),), {"*": blend}),), {})


class SphereSpace:
    """Weights are the genome itself, rounded so that different genomes may decode to one recipe."""

    def __init__(self, digits: int = 12):
        self.size, self._digits = len(CENTRE), digits
        self.variables = tuple(
            Variable(f"x{i}", "weight", 0.0, 1.0, "linear", 0.5, 1 / 6, leading=True) for i in range(self.size)
        )

    def decode(self, genome: Genome) -> Recipe:
        return recipe(tuple(round(float(g), self._digits) for g in genome))

    def encode(self, recipe: Recipe) -> Genome | None:
        return np.array(recipe.slots[0].blends["*"].knobs["weight"])


class SphereBench:
    """Scores weights; fails where `fails` says so; draws from the global streams, as real evaluations do."""

    def __init__(self, fails: Callable[[Work], str | None]):
        self._fails = fails

    def evaluate(self, work: Work, *, shrink: int, record: Callable[..., None]) -> Iterator[Evaluation]:
        answered = list(work.answered)
        for items in work.rungs[len(answered) :]:
            np.random.rand(3)
            random.random()
            code = self._fails(work)
            answered.append(() if code else tuple(_scores(work, task, ids) for task, ids in items.items()))
            yield Evaluation(
                work.id,
                work.phase,
                work.recipe.digest,
                items,
                answered[-1],
                work.genome,
                rung=work.rung + len(answered) - 1,
                batch_size=8 // shrink,
                error_code=code,
                last=code is not None or work.over(answered),
            )
            if code is not None or work.over(answered):
                return


class SphereEvaluator:
    def __init__(self, fails: Callable[[Work], str | None] = lambda work: None):
        self._fails = fails

    def open(self) -> SphereBench:
        return SphereBench(self._fails)


def _scores(work: Work, task: str, ids: tuple[str, ...]) -> ItemScores:
    x = np.array(work.recipe.slots[0].blends["*"].knobs["weight"])
    clean = -float(((x - CENTRE) ** 2).sum())
    noise = [int(hashlib.sha256(f"{task}{i}".encode()).hexdigest()[:4], 16) / 65536 for i in ids]
    return ItemScores(task, ids, clean + 0.01 * np.array(noise))


class Shuffled:
    """Several benches at once: whatever is out may be next, rungs of different works interleaved."""

    def __init__(self, workers: int = 3, seed: int = 0):
        self.workers, self._draw = workers, random.Random(seed)
        self._queue: list[Work] = []
        self._busy: list[Iterator[Evaluation]] = []

    def check(self, evaluator: Any) -> None:
        pass

    def start(self, evaluator: Any, record: Callable[..., None]) -> None:
        self._bench, self._record = evaluator.open(), record

    def submit(self, works: Sequence[Work]) -> None:
        self._queue += works

    def next(self) -> Evaluation:
        while self._queue and len(self._busy) < self.workers:
            self._busy.append(self._bench.evaluate(self._queue.pop(0), shrink=1, record=self._record))
        rows = self._busy.pop(self._draw.randrange(len(self._busy)))
        found = next(rows)
        if not found.last:
            self._busy.append(rows)
        return found

    def close(self) -> None:
        self._queue, self._busy = [], []


def items(split: str) -> Items:
    return {task: tuple(f"{split}-{task}-{i}" for i in range(6)) for task in TASKS}


def problem(space: SphereSpace, starts: Sequence[Genome] = ()) -> Problem:
    return Problem(space.variables, starts=tuple(starts))


def plan(seed: int = 1, **changes: Any) -> Plan:
    space = changes.pop("space", SphereSpace())
    made = Plan(
        space=space,
        references={
            "base": recipe((0.0,) * 4),
            "parent:a": recipe((1.0, 0.0, 0.0, 0.0)),
            "average": recipe((0.5,) * 4),
        },
        make_optimizer=lambda starts: CmaEs(problem(space, starts), seed),
        make_control=lambda starts: LambdaGrid(problem(space, starts), seed, points=5),
        evaluator=SphereEvaluator(),
        executor=Local(),
        subset=Everything(),
        estimator=Mean(),
        robust=PostStrat(),
        race=NoRace(),
        goals=Goals(WeightedMean()),
        metrics={task: Metric("closeness", True) for task in TASKS},
        items={split: items(split) for split in ("search", "selection", "test")},
        budget=Budget(evaluations=24),
        seed=seed,
    )
    return replace(made, **changes)


def run(folder: Path, *, watch: Callable[..., None] = unwatched, **changes: Any) -> str:
    journal = Journal(folder, watch=watch)
    try:
        journal.begin({"seed": changes.get("seed", 1)}, {}, (), changes.get("warm", ()))
        return search(plan(**changes), journal)
    finally:
        journal.close()


def run_and_die(folder: Path, step: int, **changes: Any) -> bool:
    """Search in a forked child that kills itself (SIGKILL) at the given step; True if it lived to the end."""
    child = os.fork()
    if child == 0:
        seen = iter(range(step))

        def watch(step: str, /, **facts: Any) -> None:
            if next(seen, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            run(folder, watch=watch, **changes)
            os._exit(0)
        finally:  # never let the child go on as a second test runner
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert status == 0 or os.WIFSIGNALED(status), "the child raised instead of being killed"
    return status == 0


def canonical(folder: Path, phase: str | None = None, kinds: tuple[str, ...] = ()) -> list[str]:
    """The canonical rows up to order."""
    kept = [r for r in rows(folder) if (phase in (None, r.get("phase"))) and (not kinds or r["row"] in kinds)]
    return sorted(map(repr, kept))
