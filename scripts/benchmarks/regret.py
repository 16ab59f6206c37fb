"""Searches on landscapes, driven as evomerge drives them, and how good the candidate is that they return.

Half of the items, drawn anew for each seed, are the search bank; 400 of the others are what finalists answer. Each
candidate answers 60 items of the bank, chosen by how far base and parents differ on them, and is told as the estimator
judges them. With MERIT an elitist keeps one draw and the rest get a new one for every batch; with plain means, which
would hand a search to the luckiest draw, all keep one. The finalists are the three best estimates and the mean of the
distribution, where a searcher has one; the best of them on the fresh items is returned.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from benchmarks import members
from benchmarks.landscapes import Landscape
from benchmarks.matrices import bank_of
from benchmarks.measure import combined, observed
from benchmarks.searchers import GRID, made
from evomerge.families import Fitted, Optimizer, Sampler
from evomerge.items import ItemBank, Observed
from evomerge.types import Candidate, Estimate, Genome, Result

N_ASKED, N_FRESH, N_FINALISTS = 60, 400, 3
#: More points of one scale tell nothing more.
MOST_POINTS = 40
#: Estimators under which every batch may have its own draw.
ASSISTED = ("merit",)
_WINDOW = 60  # earlier candidates that an estimator is shown; its own 100 would cost half as much time again
_LEARNED = 4  # smaller batches are judged by what was learned up to so many candidates ago


@dataclass(frozen=True, eq=False)
class World:
    """A landscape with its items shared out. search, fresh: int64, places of items. assisted: see ASSISTED."""

    landscape: Landscape
    seed: int
    bank: ItemBank
    search: np.ndarray
    fresh: np.ndarray
    sampler: Sampler
    fitted: Fitted
    assisted: bool

    @classmethod
    def of(cls, landscape: Landscape, seed: int, estimator: str) -> World:
        """One share-out of the items per seed, the same for every searcher."""
        rng = np.random.default_rng([seed, 1])
        tasks = np.unique(landscape.task)
        orders = [rng.permutation(np.flatnonzero(landscape.task == t)) for t in tasks]
        search = np.sort(np.concatenate([o[: len(o) // 2] for o in orders]))
        fresh = np.concatenate([o[len(o) // 2 :][: N_FRESH // len(tasks)] for o in orders])
        endpoints = landscape.answers(landscape.endpoints, search)
        bank = bank_of(search.astype(str), landscape.task[search].astype(str), endpoints)
        sampler = members.subset("neyman", N_ASKED).fit(bank, seed)
        fitted = members.fit(estimator, bank)
        return cls(landscape, seed, bank, search, fresh, sampler, fitted, estimator in ASSISTED)


@dataclass
class Course:
    """A search so far.

    marks: after each tell, how many candidates were told and the mean that was offered then. frozen: what the estimator
    learned from the first `learned` candidates.
    """

    genomes: list[Genome] = field(default_factory=list)
    seen: list[Observed] = field(default_factory=list)
    told: list[Estimate] = field(default_factory=list)
    marks: list[tuple[int, Genome | None]] = field(default_factory=list)
    frozen: Fitted | None = None
    learned: int = 0

    def until(self, budget: int) -> tuple[int, Genome | None]:
        """The last mark within a budget: whole batches, never more."""
        return max((m for m in self.marks if m[0] <= budget), key=lambda m: m[0], default=(0, None))


def run(world: World, optimizer: Optimizer, budget: int) -> Course:
    """Ask and tell until the next batch would not fit into the budget, or the searcher has nothing more to try."""
    course, out, numbers = Course(), deque[Candidate](), count()
    while True:
        while len(out) < optimizer.lag and (asked := optimizer.ask(optimizer.step)):
            out += asked
        batch = [out.popleft() for _ in range(min(optimizer.step, len(out)))]
        if not batch or len(course.told) + len(batch) > budget:
            return course
        _judge(world, optimizer, batch, next(numbers), course)
        mean = getattr(optimizer, "mean", None)
        course.marks.append((len(course.told), mean() if mean else None))


def _judge(world: World, optimizer: Optimizer, batch: Sequence[Candidate], number: int, course: Course) -> None:
    """Ask the batch its items and tell what they are worth."""
    draw = world.sampler.draw(number if world.assisted and not optimizer.elitist else 0)
    rows = np.zeros((len(batch), world.bank.size))
    rows[:, draw.index] = world.landscape.answers([c.genome for c in batch], world.search[draw.index])
    new = [observed(c.id, row, draw) for c, row in zip(batch, rows, strict=True)]
    told = [combined(tasks) for tasks in _estimated(world, new, course)]
    course.genomes += [c.genome for c in batch]
    course.seen += new
    course.told += told
    optimizer.tell([_result(o, e, world.bank.size, optimizer) for o, e in zip(new, told, strict=True)])


def _estimated(world: World, new: Sequence[Observed], course: Course) -> list[tuple[Estimate, ...]]:
    """As the estimator says; in a steady state it learns from earlier candidates only now and then, to save time."""
    if len(new) >= _LEARNED:
        return world.fitted.estimate(new, course.seen[-_WINDOW:])
    if course.frozen is None or len(course.seen) - course.learned >= _LEARNED:
        course.frozen, course.learned = world.fitted.frozen(course.seen[-_WINDOW:]), len(course.seen)
    return course.frozen.estimate(new)


def _result(seen: Observed, estimate: Estimate, size: int, optimizer: Optimizer) -> Result:
    answers = None
    if optimizer.wants_answers:
        answers = np.full(size, np.nan)
        answers[seen.index] = seen.values
    return Result(int(seen.id), (estimate.value,), stderrs=(estimate.stderr,), answers=answers)


# ---------------------------------------------------------------- what comes of it


@dataclass(frozen=True)
class Outcome:
    """Of one search at one budget. truth: of the candidate returned. evaluations: that were told."""

    landscape: str
    searcher: str
    seed: int
    budget: int
    evaluations: int
    truth: float


def outcomes(
    landscape: Landscape, searcher: str, seed: int, budgets: Sequence[int], estimator: str
) -> tuple[Outcome, ...]:
    """One search, cut at each budget; the grid, which is laid out beforehand, has one of its own for each."""
    world = World.of(landscape, seed, estimator)
    courses: dict[int | None, Course] = {}
    found = []
    for budget in budgets:
        points = min(budget, MOST_POINTS) if searcher == GRID else None
        if points not in courses:
            settings = {} if points is None else {"points": points}
            courses[points] = run(world, made(searcher, landscape.problem, seed, settings), max(budgets))
        told, genome = returned(world, courses[points], budget)
        found.append(Outcome(landscape.name, searcher, seed, budget, told, float(landscape.truth([genome])[0])))
    return tuple(found)


def returned(world: World, course: Course, budget: int) -> tuple[int, Genome]:
    """Evaluations told within the budget, and the finalist that answers most of the fresh items; the start if none."""
    told, mean = course.until(budget)
    order = np.argsort([-e.value for e in course.told[:told]], kind="stable")
    settled = {g.tobytes(): g for g in (world.landscape.problem.settled(course.genomes[i]) for i in order)}
    finalists = list(settled.values())[:N_FINALISTS] + ([] if mean is None else [mean])
    if not finalists:
        return 0, world.landscape.problem.start
    answers = world.landscape.answers(finalists, world.fresh)
    return told, finalists[int(np.argmax(answers.mean(1)))]
