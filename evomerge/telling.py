"""What the optimizer is told of a batch, and the estimates behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from evomerge.batches import Batch
from evomerge.course import Course, Id
from evomerge.plan import Scored
from evomerge.rows import Commit
from evomerge.types import Estimate, Result


def estimated(batch: Batch, course: Course) -> Commit:
    """The commit of a batch whose evaluations are on file."""
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

    As long as all have failed, the references' values count instead. It breaks the constraints as much as the worst of
    the others.
    """
    goals = {i: course.fitness.combine(t) for i, t in tasks.items()}
    broken = {i: course.fitness.violation(t) for i, t in tasks.items()}
    known = [s for s in course.scored.values() if s.estimates]
    most = max([*broken.values(), *(s.violation for s in known)], default=0.0)
    seen = [*(s.estimates or () for s in known), *goals.values()]
    scale = course.fitness.scale.references.values()
    failed = _below(seen or [course.fitness.combine(reference) for reference in scale])
    return tuple(
        Result(int(i), _values(goals[i]), broken[i], stderrs=tuple(e.stderr for e in goals[i]))
        if i in goals
        else Result(int(i), failed, most, course.failure(i))
        for i in ids
    )


def _below(seen: Sequence[Sequence[Estimate]]) -> tuple[float, ...]:
    """Goal by goal, worse than anything seen."""
    finite = np.array([_values(goals) for goals in seen])  # (n, goals)
    return tuple(map(float, finite.min(axis=0) - np.maximum(np.ptp(finite, axis=0), 1e-3)))


def _values(goals: Sequence[Estimate]) -> tuple[float, ...]:
    return tuple(e.value for e in goals)


def with_answers(results: Sequence[Result], course: Course) -> list[Result]:
    """The results with each candidate's scores by place in the item bank, which follow from its rows."""
    answered = {o.id: o for o in course.observed([r.id for r in results])}
    full = np.full((len(results), course.fitness.bank.size), np.nan)
    for row, result in zip(full, results, strict=True):
        if result.id in answered:
            row[answered[result.id].index] = answered[result.id].values
    return [replace(r, answers=row if r.id in answered else None) for r, row in zip(results, full, strict=True)]


def scored(batch: Batch, commit: Commit) -> list[Scored]:
    """The candidates of a batch as the commit tells of them."""
    told = zip(batch.works, commit.results, commit.goals, commit.tasks, strict=True)
    return [Scored(w.id, w.recipe, g or None, r.error_code, t, r.violation) for w, r, g, t in told]
