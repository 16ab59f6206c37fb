"""The loop: ask, evaluate what the journal lacks, commit what will be told, tell."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from evomerge.budget import Budget, Meter, n_items
from evomerge.errors import SearchFailed
from evomerge.journal import Journal
from evomerge.plan import Plan, Scale, Scored
from evomerge.types import Candidate, Estimate, Evaluation, Optimizer, Result, Work


def ask_and_tell(
    phase: str, optimizer: Optimizer, budget: Budget, plan: Plan, scale: Scale, journal: Journal
) -> list[Scored]:
    """Search until the budget is spent; every candidate scored, in id order.

    A last batch that the budget cuts is evaluated but not told: a larger budget asks it again, in full, and goes
    on as if it had been the budget all along.
    """
    meter = Meter(budget, n_items(plan.items["search"]), journal.seconds() if phase == "search" else 0.0)
    journal.watch("phase", name=phase, total=budget.evaluations)
    scored: list[Scored] = []
    untold: list[Scored] = []
    for number in itertools.count():
        room, limit = meter.room(optimizer.lag)
        batch = optimizer.ask(room) if room else []
        if not batch:
            break
        new = score_batch(phase, batch, plan, scale, journal, meter)
        if limit and len(batch) == room:
            untold = new
            break
        results = journal.told(phase, number) or commit(phase, number, new, scored, journal)
        scored += new
        journal.watch("committed", best=_best(scored))
        _check_failures(phase, new, scored, plan, journal)
        optimizer.tell(results)
        journal.watch("told")
    _stop(phase, "exhausted" if room and not untold else limit, meter, untold, journal)
    return scored + untold


def score_batch(
    phase: str, batch: Sequence[Candidate], plan: Plan, scale: Scale, journal: Journal, meter: Meter
) -> list[Scored]:
    """Build and score what the journal lacks of a batch; estimates are made from the journal's rows alone."""
    works = [_work(phase, c, plan) for c in batch]
    journal.watch("asked", n=len(works), known=sum(journal.find(w) is not None for w in works))
    evaluations = evaluate_all(works, plan, journal, meter)
    return score(works, evaluations, plan, scale)


def _work(phase: str, candidate: Candidate, plan: Plan) -> Work:
    genome = tuple(float(g) for g in candidate.genome)
    return Work(candidate.id, phase, plan.space.decode(candidate.genome), plan.items["search"], genome)


def score(works: Sequence[Work], evaluations: Sequence[Evaluation], plan: Plan, scale: Scale) -> list[Scored]:
    good = [e for e in evaluations if e.error_code is None]
    estimates = iter(plan.estimator.estimate(good, plan.metrics))
    return [
        Scored(w.id, w.recipe, None if e.error_code else combine(plan, next(estimates), scale), e.error_code)
        for w, e in zip(works, evaluations, strict=True)
    ]


def commit(phase: str, number: int, new: Sequence[Scored], earlier: Sequence[Scored], journal: Journal) -> list[Result]:
    """Write what the optimizer will be told about a batch, and return it."""
    results = results_of(new, earlier)
    journal.commit(phase, number, results, {"estimates": [estimates_data(s.estimates) for s in new]})
    return results


def results_of(new: Sequence[Scored], earlier: Sequence[Scored]) -> list[Result]:
    """Fitness as told: a failed candidate gets the worst finite value so far, less the range seen so far."""
    finite = np.array([[e.value for e in s.estimates] for s in [*earlier, *new] if s.estimates])  # (n, objectives)
    if len(finite) == 0:
        return [Result(int(s.id), (), error_code=s.error_code) for s in new]
    worst, span = finite.min(axis=0), np.ptp(finite, axis=0)
    failed = tuple(float(w) for w in worst - np.maximum(span, 1e-3))
    return [
        Result(int(s.id), tuple(e.value for e in s.estimates) if s.estimates else failed, 0.0, s.error_code)
        for s in new
    ]


def _check_failures(phase: str, new: Sequence[Scored], scored: Sequence[Scored], plan: Plan, journal: Journal) -> None:
    failed = sum(s.error_code is not None for s in scored)
    codes = sorted({s.error_code for s in scored if s.error_code})
    all_of_batch = all(s.error_code for s in new)
    if all_of_batch or failed > plan.max_failed * max(len(scored), 20):
        journal.stop(phase, reason="failures", failed=failed, evaluations=len(scored), codes=codes)
        raise SearchFailed(
            f"{failed} of {len(scored)} candidates failed in phase {phase} ({', '.join(codes)}). Tracebacks are in "
            "events.jsonl. Narrow the ranges (space.ranges), or allow more with max_failed, in a new run folder."
        )


def _stop(phase: str, reason: str, meter: Meter, untold: Sequence[Scored], journal: Journal) -> None:
    facts = [{"id": s.id, "estimates": estimates_data(s.estimates), "error": s.error_code} for s in untold]
    journal.stop(phase, reason=reason, evaluations=meter.evaluations, items=meter.items, untold=facts)


def _best(scored: Sequence[Scored]) -> float | None:
    return max((s.estimates[0].value for s in scored if s.estimates), default=None)


def combine(plan: Plan, tasks: Sequence[Estimate], scale: Scale) -> tuple[Estimate, ...]:
    """Estimates per task -> estimates per objective."""
    return plan.objective.combine(tasks, scale.floor, scale.parents)


def estimates_data(estimates: Sequence[Estimate] | None) -> list[list[Any]]:
    return [[e.value, e.stderr, e.n_items, e.fallback] for e in estimates or ()]


def evaluate_all(works: Sequence[Work], plan: Plan, journal: Journal, meter: Meter | None = None) -> list[Evaluation]:
    """The evaluations of all works, from the journal where it has them; equal recipes are scored once."""
    missing = journal.missing(works)
    fresh: dict[str, Work] = {}
    for work in missing:
        if journal.original(work) is None:
            fresh.setdefault(work.recipe.digest, work)
    for evaluation in plan.executor.map(plan.evaluator, list(fresh.values()), journal.event):
        journal.add(evaluation)
        journal.event("evaluated", phase=evaluation.phase, id=evaluation.id, elapsed=meter.elapsed() if meter else 0.0)
        journal.watch("evaluated", id=evaluation.id, error=evaluation.error_code)
    for work in missing:
        if journal.find(work) is None:
            journal.add(_alias(work, journal.original(work)))
    if meter:
        meter.count([e for w in works if (e := journal.find(w))])
    return journal.view(works)


def _alias(work: Work, original: Evaluation | None) -> Evaluation:
    assert original is not None, "equal recipes are evaluated before their aliases are written"
    return replace(
        original,
        id=work.id,
        phase=work.phase,
        genome=work.genome,
        scores=(),
        alias_of=f"{original.phase}:{original.id}",
    )
