"""The last phases: which recipes are scored on fresh items, which of them wins, and what the test says of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from evomerge import fronts
from evomerge.families import Optimizer
from evomerge.fitness import Fitness
from evomerge.journal import Journal
from evomerge.plan import Finalist, Plan, Scale, Scored
from evomerge.rows import estimates_data
from evomerge.scoring import evaluate_all, refuse_failed
from evomerge.selection import Belief, paired_gains, posterior, task_means
from evomerge.types import Estimate, Evaluation, Work

Named = TypeVar("Named", Finalist, Scored)


def choose_finalists(
    plan: Plan,
    fitness: Fitness,
    optimizer: Optimizer,
    found: Sequence[Scored],
    control: Sequence[Scored],
    warm: Sequence[Scored] = (),
) -> list[Finalist]:
    """References by right, the best of control and of the warm starts, the search's best estimates, its mean.

    With m goals the best are a front: up to `plan.finalists` of control and of the warm starts each, and m times as
    many of the search.
    """
    scores = fitness.scale.references
    finalists = [Finalist(name, r, fitness.combine(scores[name]), scores[name]) for name, r in plan.references.items()]
    goals = len(finalists[0].found)
    few = 1 if goals == 1 else plan.finalists
    rivals = [_finalist("control", s) for s in _best(control, few)]
    rivals += [_finalist("warm", s) for s in _best(warm, few)]
    rivals += [_finalist("search", s) for s in _best(found, plan.finalists * goals)]
    mean = getattr(optimizer, "mean", None)
    if mean is not None and found:
        rivals.append(Finalist("mean", plan.space.decode(mean()), ()))
    return finalists + _distinct(rivals, {f.recipe.digest for f in finalists})


def _finalist(phase: str, scored: Scored) -> Finalist:
    return Finalist(f"{phase}:{scored.id}", scored.recipe, scored.estimates or (), scored.tasks)


def _best(scored: Sequence[Scored], size: int) -> list[Scored]:
    """The first by estimate, or with several goals the non-dominated ones, thinned."""
    ranked = _ranked(scored)
    if not ranked or len(ranked[0].estimates or ()) == 1:
        return ranked[:size]
    values = np.array([_values(s.estimates or ()) for s in ranked])
    front = fronts.non_dominated(values, [s.violation for s in ranked])
    return [ranked[i] for i in front[fronts.thinned(values[front], size)]]


def _values(estimates: Sequence[Estimate]) -> list[float]:
    return [e.value for e in estimates]


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
    """Score the finalists on items no estimate has seen; the best posterior mean wins, or the knee of their front.

    searched: evaluations the search had made; an extension that changes no finalist still leaves its own row.
    """
    good = [e for e in _evaluate("selection", plan, finalists, journal) if e.error_code is None]
    scale = _scale(plan, good)
    believed = posterior(good, plan, scale)
    ids = [str(e.id) for e in good]
    winner, front = _chosen(ids, believed, plan, scale)
    journal.stop(
        "selection",
        searched=searched,
        winner=winner,
        finalists=[_finalist_data(f) for f in finalists],
        posterior=_by_id(ids, [b.goals for b in believed]),
        violations={i: b.violation for i, b in zip(ids, believed, strict=True) if b.violation},
        **front,
    )
    return winner


def _chosen(ids: Sequence[str], believed: Sequence[Belief], plan: Plan, scale: Scale) -> tuple[str, dict[str, Any]]:
    """The winner's id and, if there are several goals, what the selection's row says of the front."""
    if len(believed[0].goals) == 1:
        return ids[max(range(len(ids)), key=lambda i: believed[i].rank)], {}
    values = np.array([_values(b.goals) for b in believed])
    front = fronts.non_dominated(values, [b.violation for b in believed])
    knee = ids[front[fronts.knee(values[front])]]
    facts = {"goals": list(plan.goals.names(tuple(plan.metrics))), "floor": _floor(plan, scale)}
    return knee, {**facts, "front": [ids[i] for i in front], "knee": knee}


def _floor(plan: Plan, scale: Scale) -> list[float]:
    """What the objective measures from: the reference point of hypervolumes."""
    return _values(plan.goals.combine(scale.floor, scale))


def _by_id(ids: Sequence[str], goals: Sequence[Sequence[Estimate]]) -> dict[str, Any]:
    """[value, stderr] by id; with several goals a list of them."""
    pairs = [[[e.value, e.stderr] for e in one] for one in goals]
    return {i: one[0] if len(one) == 1 else one for i, one in zip(ids, pairs, strict=True)}


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
    found = _evaluate("test", plan, finalists, journal)
    journal.stop("test", searched=searched, winner=winner, **_tested(plan, found, winner, _scale(plan, found)))


def _tested(plan: Plan, found: Sequence[Evaluation], winner: str, scale: Scale) -> Mapping[str, Any]:
    """Several goals of each finalist and by how much the winner is better, for readers that have no objective."""
    good = [e for e in found if e.error_code is None]
    raw = [plan.goals.combine(task_means(e, plan), scale) for e in good]
    if len(raw[0]) == 1:
        return {}
    ids = [str(e.id) for e in good]
    facts: dict[str, Any] = {"floor": _floor(plan, scale), "scores": _by_id(ids, raw)}
    if winner in ids:
        facts["gains"] = _by_id(ids, paired_gains(good, ids.index(winner), plan, scale))
    return facts


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
