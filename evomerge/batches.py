"""One batch: its works on its draw of items, raced or not, until all of them are on file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evomerge.calibration.bank import observe
from evomerge.fitness import Standing, in_chunks, weight_of
from evomerge.items import Draw
from evomerge.rows import merged
from evomerge.types import Candidate, Evaluation, Judge, Work

if TYPE_CHECKING:
    from evomerge.course import Course

Id = int | str


@dataclass(frozen=True, eq=False)
class Batch:
    """Candidates asked together, on one draw; before them the `living` members that are scored on it again.

    A rung's number tells its draw and its chunk: draw x chunks + chunk. cut: the budget left no room for all of it.
    """

    phase: str
    number: int
    draw_number: int
    draw: Draw
    living: tuple[Work, ...]
    new: tuple[Work, ...]
    cut: bool = False

    @property
    def works(self) -> tuple[Work, ...]:
        return (*self.living, *self.new)

    @property
    def ids(self) -> tuple[Id, ...]:
        return tuple(w.id for w in self.works)


def make_batch(number: int, asked: Sequence[Candidate], living: Sequence[int], course: Course, *, cut: bool) -> Batch:
    """The works of a batch. living: ids of candidates of earlier batches."""
    fitness, race = course.fitness, course.plan.race
    draw_number, draw = fitness.draw(number)
    items, rung = fitness.bank.name(draw.index), draw_number * race.chunks
    chunks = in_chunks(fitness.bank, draw, race.chunks) if race.chunks > 1 else ()
    again = [replace(course.works[i], items=items, rung=rung, chunks=()) for i in sorted(living)]
    new = [
        Work(c.id, course.phase, course.plan.space.decode(c.genome), items, tuple(map(float, c.genome)), rung, chunks)
        for c in asked
    ]
    return Batch(course.phase, number, draw_number, draw, tuple(again), tuple(new), cut)


def begin_batch(batch: Batch, lag: int, course: Course) -> None:
    """Have its works begun; halving goes step by step, when it is waited for. Of a committed batch all are on file."""
    journal = course.journal
    journal.watch("asked", n=len(batch.works), known=len(batch.works) - len(journal.missing(batch.works)))
    if not _committed(batch, course) and not _halves(course):
        judge = _judge(batch, lag, course)
        course.desk.ask([*batch.living, *(replace(w, judge=judge) for w in batch.new)])


def finish_batch(batch: Batch, course: Course) -> list[Evaluation]:
    """One evaluation per work, in their order."""
    journal = course.journal
    if _halves(course) and not _committed(batch, course):
        _halve(batch, course, whole=not batch.cut)
    course.desk.finish(batch.works)
    course.meter.count(len(batch.new), sum(journal.paid(w) for w in batch.works), len(batch.living))
    return [merged(journal.rungs(w)) for w in batch.works]


def _committed(batch: Batch, course: Course) -> bool:
    return not batch.cut and course.journal.committed(batch.phase, batch.number) is not None


def _judge(batch: Batch, lag: int, course: Course) -> Judge | None:
    """The rule of this batch's race, from what was committed before it was asked."""
    if course.plan.race.chunks < 2:
        return None
    told = [course.scored[i].estimates for i in course.newest]
    fitness = course.fitness.frozen(course.earlier(batch.ids), robust=course.robust)
    worth = Standing(fitness, weight_of(fitness.bank, [batch.draw]))
    return course.plan.race.judge(worth, [e[0] for e in told if e], lag)


def _halves(course: Course) -> bool:
    return course.plan.race.survivors([0.0]) is not None


def _halve(batch: Batch, course: Course, *, whole: bool) -> None:
    """Chunk by chunk; after each, those that go on are chosen from what all of them have answered.

    Of a batch that the budget cut, the first chunk only: in the whole batch others may go on.
    """
    course.desk.ask(batch.living)
    course.desk.finish(batch.living)
    alive = list(batch.new)
    for place in range(len(batch.new[0].rungs) if whole else 1):
        step = [replace(w, items=w.rungs[place], rung=w.rung + place, chunks=()) for w in alive]
        course.desk.ask(step)
        course.desk.finish(step)
        values = _values(alive, place + 1, batch, course)
        going = course.plan.race.survivors([values.get(w.id, float("-inf")) for w in alive])
        alive = [alive[i] for i in going or []]


def _values(works: Sequence[Work], rungs: int, batch: Batch, course: Course) -> Mapping[Id, float]:
    """Estimated goal of each work that did not fail, from its first rungs: a resumed run may have more on file."""
    fitness, weight = course.fitness, weight_of(course.fitness.bank, [batch.draw])
    views = [(w.id, merged(course.journal.rungs(w)[:rungs])) for w in works]
    seen = [observe(i, [view], fitness.bank, weight) for i, view in views if view.error_code is None]
    found = fitness.estimate(seen, course.earlier(batch.ids), robust=course.robust)
    return {o.id: fitness.combine(tasks)[0].value for o, tasks in zip(seen, found, strict=True)}
