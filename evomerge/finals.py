"""The last phases: which recipes are scored on fresh items, which of them wins, and what the test says of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from evomerge.families import Optimizer
from evomerge.fitness import Fitness
from evomerge.journal import Journal
from evomerge.plan import Finalist, Plan, Scale, Scored
from evomerge.rows import estimates_data
from evomerge.scoring import evaluate_all, refuse_failed
from evomerge.selection import posterior, task_means
from evomerge.types import Evaluation, Work

Named = TypeVar("Named", Finalist, Scored)


def choose_finalists(
    plan: Plan, fitness: Fitness, optimizer: Optimizer, found: Sequence[Scored], control: Sequence[Scored]
) -> list[Finalist]:
    """References by right, the best of control, the best estimates of the search, the optimizer's mean."""
    scores = fitness.scale.references
    finalists = [Finalist(name, r, fitness.combine(scores[name]), scores[name]) for name, r in plan.references.items()]
    rivals = [_finalist("control", s) for s in _ranked(control)[:1]]
    rivals += [_finalist("search", s) for s in _ranked(found)[: plan.finalists]]
    mean = getattr(optimizer, "mean", None)
    if mean is not None and found:
        rivals.append(Finalist("mean", plan.space.decode(mean()), ()))
    return finalists + _distinct(rivals, {f.recipe.digest for f in finalists})


def _finalist(phase: str, scored: Scored) -> Finalist:
    return Finalist(f"{phase}:{scored.id}", scored.recipe, scored.estimates or (), scored.tasks)


def _ranked(scored: Sequence[Scored]) -> list[Scored]:
    """Distinct recipes that could be scored, feasible ones first, then best estimate, earlier first among equals."""
    good = [(s.violation, -s.estimates[0].value, s) for s in scored if s.estimates]
    return _distinct([s for *_, s in sorted(good, key=lambda one: one[:2])], set())


def _distinct(named: Iterable[Named], seen: set[str]) -> list[Named]:
    """Those whose recipe is not in `seen` nor earlier in the list."""
    first: dict[str, Named] = {}
    for one in named:
        first.setdefault(one.recipe.digest, one)
    return [one for digest, one in first.items() if digest not in seen]


# ---------------------------------------------------------------- selection and test


def select(plan: Plan, finalists: Sequence[Finalist], searched: int, journal: Journal) -> str:
    """Score the finalists on items no estimate has seen; the best posterior mean wins.

    searched: evaluations the search had made; an extension that changes no finalist still leaves its own row.
    """
    good = [e for e in _evaluate("selection", plan, finalists, journal) if e.error_code is None]
    believed = posterior(good, plan, _scale(plan, good))
    best = max(range(len(good)), key=lambda i: believed[i].rank)
    journal.stop(
        "selection",
        searched=searched,
        winner=good[best].id,
        finalists=[_finalist_data(f) for f in finalists],
        posterior={str(e.id): [b.value, b.stderr] for e, b in zip(good, believed, strict=True)},
        violations={str(e.id): b.violation for e, b in zip(good, believed, strict=True) if b.violation},
    )
    return str(good[best].id)


def _finalist_data(f: Finalist) -> dict[str, object]:
    return {
        "id": f.id,
        "digest": f.recipe.digest,
        "recipe": f.recipe.data(),
        "found": estimates_data(f.found),
        "tasks": estimates_data(f.tasks),
    }


def test(plan: Plan, finalists: Sequence[Finalist], winner: str, searched: int, journal: Journal) -> None:
    """Report only: score the finalists on the test items; nothing is chosen any more."""
    _scale(plan, _evaluate("test", plan, finalists, journal))
    journal.stop("test", searched=searched, winner=winner)


def _evaluate(phase: str, plan: Plan, finalists: Sequence[Finalist], journal: Journal) -> list[Evaluation]:
    journal.watch("phase", name=phase, total=len(finalists))
    found = evaluate_all([Work(f.id, phase, f.recipe, plan.items[phase]) for f in finalists], plan, journal)
    for name, evaluation in zip(plan.references, found, strict=False):
        refuse_failed(name, evaluation)
    return found


def _scale(plan: Plan, evaluations: Sequence[Evaluation]) -> Scale:
    """How the references did on items of another split than the bank's: plain means."""
    by_name = {str(e.id): task_means(e, plan) for e in evaluations if e.id in plan.references}
    return Scale({name: by_name[name] for name in plan.references})
