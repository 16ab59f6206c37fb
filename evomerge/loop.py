"""The loop: ask, evaluate what the journal lacks, commit what will be told, tell."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from evomerge.batches import Batch, evaluate_batch, make_batch
from evomerge.budget import Budget, Meter
from evomerge.course import Course, Id
from evomerge.errors import SearchFailed
from evomerge.families import Optimizer
from evomerge.fitness import Fitness
from evomerge.journal import Journal
from evomerge.plan import Plan, Scored
from evomerge.rows import Commit, estimates_data
from evomerge.types import Estimate, Result


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
    untold: list[Scored] = []
    for number in itertools.count():
        room, limit = meter.room(optimizer.lag)
        asked = optimizer.ask(room) if room else []
        if not asked:
            break
        batch = make_batch(number, asked, _living(optimizer, fitness), course)
        commit, known = _judged(batch, optimizer.lag, course)
        if limit and len(asked) == room:
            untold = [s for s in _scored(batch, commit) if s.id not in course.scored]
            break
        if not known:
            journal.commit(phase, number, commit)
        course.told(_scored(batch, commit), [w.id for w in batch.new], commit)
        journal.watch("committed", best=_best(course.scored.values()))
        _check_failures(batch, course)
        optimizer.tell(commit.results)
        journal.watch("told")
    _stop(course, "exhausted" if room and not untold else limit, untold)
    return [*course.scored.values(), *untold]


def _living(optimizer: Optimizer, fitness: Fitness) -> Sequence[int]:
    """Members that are scored again on a fresh draw, lest a lucky score live for ever."""
    return getattr(optimizer, "living", ()) if fitness.fresh else ()


def _judged(batch: Batch, lag: int, course: Course) -> tuple[Commit, bool]:
    """What to tell about a batch, and whether it is on file: then it is read, not estimated again."""
    known = course.journal.committed(batch.phase, batch.number)
    rows = evaluate_batch(batch, lag, course, committed=known is not None)
    course.answered(batch.works, rows, batch.draw_number, batch.draw)
    return (known or _estimated(batch, course)), known is not None


def _estimated(batch: Batch, course: Course) -> Commit:
    fitness, observed = course.fitness, course.observed(batch.ids)
    found = fitness.estimate(observed, course.earlier(batch.ids), robust=course.robust)
    tasks = {o.id: estimates for o, estimates in zip(observed, found, strict=True)}
    new = [o for o in observed if o.id in {w.id for w in batch.new}]
    return Commit(
        results_of(batch.ids, tasks, course),
        tuple(fitness.combine(tasks[i]) if i in tasks else () for i in batch.ids),
        tuple(tasks.get(i, ()) for i in batch.ids),
        None if course.robust else fitness.level(new, [tasks[o.id] for o in new]),
        robust=course.robust,
    )


def results_of(ids: Sequence[Id], tasks: Mapping[Id, tuple[Estimate, ...]], course: Course) -> tuple[Result, ...]:
    """Fitness as told: a failed candidate gets the worst finite value so far, less the range seen so far.

    It breaks the constraints as much as the worst of the others.
    """
    fitness = course.fitness
    goals = {i: tuple(e.value for e in fitness.combine(t)) for i, t in tasks.items()}
    broken = {i: fitness.violation(t) for i, t in tasks.items()}
    known = [s for s in course.scored.values() if s.estimates]
    finite = np.array([*(tuple(e.value for e in s.estimates or ()) for s in known), *goals.values()])  # (n, goals)
    worst = finite.min(axis=0) - np.maximum(np.ptp(finite, axis=0), 1e-3) if len(finite) else np.array([])
    failed, most = tuple(map(float, worst)), max([*broken.values(), *(s.violation for s in known)], default=0.0)
    return tuple(
        Result(int(i), goals[i], broken[i]) if i in goals else Result(int(i), failed, most, course.failure(i))
        for i in ids
    )


def _scored(batch: Batch, commit: Commit) -> list[Scored]:
    """The candidates of a batch as the commit tells of them."""
    told = zip(batch.works, commit.results, commit.goals, commit.tasks, strict=True)
    return [Scored(w.id, w.recipe, g or None, r.error_code, t, r.violation) for w, r, g, t in told]


def _check_failures(batch: Batch, course: Course) -> None:
    codes = sorted({s.error_code for s in course.scored.values() if s.error_code})
    failed = sum(s.error_code is not None for s in course.scored.values())
    all_of_batch = all(course.failure(w.id) for w in batch.new)
    if all_of_batch or failed > course.plan.max_failed * max(len(course.scored), 20):
        course.journal.stop(course.phase, reason="failures", failed=failed, evaluations=len(course.scored), codes=codes)
        raise SearchFailed(
            f"{failed} of {len(course.scored)} candidates failed in phase {course.phase} ({', '.join(codes)}). "
            "Tracebacks are in events.jsonl. Narrow the ranges (space.ranges), or allow more with max_failed, in a new "
            "run folder."
        )


def _stop(course: Course, reason: str, untold: Sequence[Scored]) -> None:
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
    )


def _best(scored: Iterable[Scored]) -> float | None:
    feasible = [s for s in scored if s.estimates and not s.violation]
    return max((s.estimates[0].value for s in feasible if s.estimates), default=None)
