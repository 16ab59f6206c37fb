"""Whole searches replayed on frozen merges: how good is the returned merge, and how true is what the search says of it?

A search may only ask for merges whose answers are known, so its searcher walks over a finite set of coefficient
vectors. Half of the items, drawn anew for each search, are the search bank; the finalists are scored on some of the
other half. Merges by one common scale are not in the set: they are the control, scored beside the search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from benchmarks import members
from benchmarks.matrices import Merges, scores
from benchmarks.measure import combined, observed
from evomerge.families import Fitted, Judge
from evomerge.items import Draw, ItemBank, Observed
from evomerge.races.threshold import Threshold
from evomerge.types import Estimate

LAMBDA, MU, N_SELECTION = 12, 4, 200
RACE = Threshold(chance=0.05, chunks=6, top=MU)


@dataclass(frozen=True)
class Setting:
    """How candidates are judged: n items each, a fresh draw per generation or one fixed draw, raced or not."""

    estimator: str
    subset: str
    n: int
    fresh: bool
    race: bool

    @property
    def calibrated(self) -> bool:
        """Whether the endpoints must have answered the whole search bank."""
        return self.estimator not in members.FREE or self.subset not in members.FREE


def searchable(merges: Merges) -> np.ndarray:
    """int64: the merges a search may ask for."""
    return np.setdiff1d(merges.candidates, merges.control)


class Walk:
    """A (4/4_w, 12) evolution strategy on a finite set: each normal sample becomes the nearest point not yet asked."""

    def __init__(self, points: np.ndarray, start: np.ndarray, rng: np.random.Generator, step: float = 0.5):
        self._points, self._mean, self._rng, self._step = points, start, rng, step
        self._left = np.ones(len(points), dtype=bool)

    def ask(self) -> np.ndarray:
        """int64 (12,): places of points; empty once too few are left."""
        if self._left.sum() < LAMBDA:
            return np.zeros(0, np.int64)
        return np.array([self._nearest(self._rng.normal(self._mean, self._step)) for _ in range(LAMBDA)])

    def _nearest(self, sample: np.ndarray) -> int:
        apart = np.where(self._left, ((self._points - sample) ** 2).sum(1), np.inf)
        self._left[place := int(np.argmin(apart))] = False
        return place

    def tell(self, asked: np.ndarray, values: np.ndarray) -> None:
        """Move to the weighted mean of the best four; the step shrinks."""
        best = asked[np.argsort(-values, kind="stable")[:MU]]
        weights = np.log(MU + 0.5) - np.log(np.arange(1, MU + 1))
        self._mean, self._step = weights @ self._points[best] / weights.sum(), 0.85 * self._step


@dataclass(frozen=True, eq=False)
class World:
    """One search's split of the items. pool, control: int64, rows of `merges`. search, fresh: int64, items."""

    merges: Merges
    pool: np.ndarray
    control: np.ndarray
    bank: ItemBank
    search: np.ndarray
    fresh: np.ndarray
    seed: int

    @classmethod
    def of(cls, merges: Merges, seed: int) -> World:
        """Half of each task's items for the search; `fresh` are some of the rest, shared out over the tasks."""
        rng = np.random.default_rng([seed, 1])
        orders = [rng.permutation(np.flatnonzero(merges.task == t)) for t in np.unique(merges.task)]
        search = np.sort(np.concatenate([o[: len(o) // 2] for o in orders]))
        each = N_SELECTION // len(orders)
        fresh = np.concatenate([o[len(o) // 2 :][:each] for o in orders])
        pool = searchable(merges)
        return cls(merges, pool, merges.control, merges.case(pool, search).bank, search, fresh, seed)

    def truth(self, rows: np.ndarray) -> np.ndarray:
        """float64: scores on the search bank."""
        return scores(self.merges.answers[np.ix_(rows, self.search)], self.bank)

    def whole(self, rows: np.ndarray) -> np.ndarray:
        """float64: scores on all items."""
        return np.asarray(self._whole[rows])

    @cached_property
    def _whole(self) -> np.ndarray:
        return self.merges.case(np.arange(len(self.merges.kind))).truth


@dataclass
class Course:
    """What a search has come to know: rows asked, their answers, estimates told; items spent on each generation."""

    rows: list[int] = field(default_factory=list)
    seen: list[Observed] = field(default_factory=list)
    told: list[Estimate] = field(default_factory=list)
    spent: list[int] = field(default_factory=list)

    def until(self, budget: int) -> Course:
        """The same search, stopped at this many items."""
        generations = int(np.searchsorted(np.cumsum(self.spent), budget, side="right"))
        n = generations * LAMBDA
        return Course(self.rows[:n], self.seen[:n], self.told[:n], self.spent[:generations])


def run(world: World, setting: Setting, fitted: Fitted, budget: int) -> Course:
    """Search until a generation more would not fit into the budget of items, or the set is exhausted."""
    sampler = members.subset(setting.subset, setting.n).fit(world.bank, world.seed)
    points = world.merges.coefficients[world.pool]
    walk = Walk(points, np.full(points.shape[1], 1 / 3), np.random.default_rng([world.seed, 2]))
    course = Course()
    while sum(course.spent) + LAMBDA * setting.n <= budget and len(asked := walk.ask()):
        draw = sampler.draw(len(course.spent) if setting.fresh else 0)
        judge = _judge(fitted, course) if setting.race else None
        new = [_raced(int(row), draw, judge, world) for row in world.pool[asked]]
        told = [combined(tasks) for tasks in fitted.estimate(new, course.seen)]
        walk.tell(asked, np.array([e.value for e in told]))
        course.rows += [int(row) for row in world.pool[asked]]
        course.seen, course.told = course.seen + new, course.told + told
        course.spent.append(sum(len(o.index) for o in new))
    return course


def _judge(fitted: Fitted, course: Course) -> Judge | None:
    """The rule of a generation's race, from what was told before it (frozen cut, frozen estimator)."""
    held = fitted.frozen(course.seen)

    def worth(answered: Sequence[Observed]) -> Estimate:
        parts = zip(*((o.index, o.values, o.weights) for o in answered), strict=True)
        return combined(held.estimate([Observed(0, *(np.concatenate(p) for p in parts))])[0])

    return RACE.judge(worth, course.told[-LAMBDA:], LAMBDA)  # type: ignore[arg-type]  # answers as Observed, see _raced


def _raced(row: int, draw: Draw, judge: Judge | None, world: World) -> Observed:
    """A merge's answers to its draw, chunk by chunk, until the judge ends it."""
    answers = world.merges.answers[row, world.search]
    if judge is None:
        return observed(row, answers, draw)
    asked: list[Observed] = []
    for k in range(RACE.chunks):
        chunk = Draw(draw.index[k :: RACE.chunks], draw.weights[k :: RACE.chunks])
        asked.append(observed(row, answers, chunk))
        if judge.stops(asked):  # type: ignore[arg-type]  # a judge only hands answers on to `worth`
            break
    index, values, weights = (np.concatenate([getattr(o, k) for o in asked]) for k in ("index", "values", "weights"))
    return Observed(row, index, values, weights)
