"""The loop: ask, evaluate what the journal lacks, commit what will be told, tell."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from evomerge.batches import Batch, begin_batch, finish_batch, make_batch
from evomerge.budget import Budget, Meter
from evomerge.course import Course
from evomerge.families import Optimizer
from evomerge.fitness import Fitness
from evomerge.journal import Journal
from evomerge.plan import Plan, Scored
from evomerge.rows import Commit, estimates_data
from evomerge.stopping import best, check_failures, found_enough
from evomerge.telling import estimated, scored, with_answers


def ask_and_tell(
    phase: str, optimizer: Optimizer, budget: Budget, plan: Plan, fitness: Fitness, journal: Journal
) -> list[Scored]:
    """Search until the budget is spent; every candidate scored, in id order.

    A last batch that the budget cuts is evaluated but not told: a larger budget asks it again, in full, and goes
    on as if it had been the budget all along.
    """
    meter = Meter(budget, fitness.items_each, journal.seconds() if phase == "search" else 0.0)
    course = Course(phase, plan, fitness, journal, meter)
    journal.watch("phase", name=phase, total=budget.evaluations)
    line, untold = Line(optimizer, budget, course), list[Scored]()
    while batch := line.next():
        commit, known = _judged(batch, course)
        if batch.cut:
            untold = [s for s in scored(batch, commit) if s.id not in course.scored]
            break
        if not known:
            journal.commit(phase, batch.number, commit)
        course.told(scored(batch, commit), [w.id for w in batch.new], commit)
        journal.watch("committed", best=best(course))
        if phase == "search":  # the others are helps: a search can do without them
            check_failures([w.id for w in batch.new], course)
        optimizer.tell(with_answers(commit.results, course) if optimizer.wants_answers else commit.results)
        journal.watch("told")
    _stop(course, line.ended, budget, untold)
    return [*course.scored.values(), *untold]


class Line:
    """Batches that are asked and not yet told, oldest first: one, or in a steady state `lag` of a single candidate.

    What candidate k is asked from is settled by the commits up to k - lag, whoever finishes first. All that are out are
    under way at once, on as many workers as there are; their rows are written as they come.
    """

    def __init__(self, optimizer: Optimizer, budget: Budget, course: Course):
        self._optimizer, self._budget, self._course = optimizer, budget, course
        self._out: deque[Batch] = deque()
        self.ended = ""  # why nothing more is asked

    def next(self) -> Batch | None:
        """The batch to be judged now, after as many as may be were asked; None at the end."""
        self.ended = self._ask_ahead()
        return self._out.popleft() if self._out else None

    def _ask_ahead(self) -> str:
        """Ask until `lag` candidates are out; returns why no more may be asked, "" if they may."""
        course, optimizer = self._course, self._optimizer
        while (out := sum(len(b.new) for b in self._out)) < optimizer.lag:
            if reason := found_enough(self._budget, course, optimizer):
                return reason
            living, first = _living(optimizer, course.fitness), course.meter.evaluations + out
            on_file = course.journal.begun(course.phase, range(first, first + optimizer.step))
            room, limit = course.meter.room(optimizer.step, out, again=len(living), on_file=on_file)
            asked = optimizer.ask(room) if room else []
            if not asked:
                return limit if not room else "" if out else "exhausted"
            cut = bool(limit) and len(asked) == room
            batch = make_batch(course.asked, asked, living, course, cut=cut)
            begin_batch(batch, optimizer.lag, course)
            self._out.append(batch)
            course.asked += 1
            if cut:
                return limit
        return ""


def _living(optimizer: Optimizer, fitness: Fitness) -> Sequence[int]:
    """Members that are scored again on a fresh draw, lest a lucky score live for ever."""
    return getattr(optimizer, "living", ()) if fitness.fresh else ()


def _judged(batch: Batch, course: Course) -> tuple[Commit, bool]:
    """What to tell about a batch, and whether it is on file: then it is read, not estimated again."""
    known = None if batch.cut else course.journal.committed(batch.phase, batch.number)
    rows = finish_batch(batch, course)
    course.answered(batch.works, rows, batch.draw_number, batch.draw)
    return (known or estimated(batch, course)), known is not None


def _stop(course: Course, reason: str, budget: Budget, untold: Sequence[Scored]) -> None:
    facts = [
        {"id": s.id, "estimates": estimates_data(s.estimates), "tasks": estimates_data(s.tasks), "error": s.error_code}
        for s in untold
    ]
    meter = course.meter
    course.journal.stop(
        course.phase,
        reason=reason,
        evaluations=meter.evaluations,
        items=meter.items,
        items_unraced=meter.unraced,
        untold=facts,
        **({"seconds": budget.seconds} if reason == "seconds" else {}),  # a decision: running again finds time over
    )
