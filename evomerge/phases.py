"""The road of a search: references -> search -> control -> selection -> test, all through one journal.

Resume is not a feature here but a property of the loop: running again asks the same candidates, finds their
evaluations in the journal, and tells the optimizer what the journal says it was told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from evomerge.budget import Budget
from evomerge.errors import SearchFailed
from evomerge.journal import Journal
from evomerge.loop import ask_and_tell, combine, estimates_data, evaluate_all, score
from evomerge.plan import Finalist, Plan, Scale, Scored
from evomerge.types import Estimate, Evaluation, Genome, Optimizer, Work

Named = TypeVar("Named", Finalist, Scored)


def search(plan: Plan, journal: Journal) -> str:
    """Run all phases, or what of them the journal does not hold yet; returns the winner's finalist id.

    Raises SearchFailed if a reference, a whole batch, or more than `plan.max_failed` of the candidates fail.
    """
    scale = score_references(plan, journal)
    start = best_start(plan, scale)
    optimizer = plan.make_optimizer(start)
    found = ask_and_tell("search", optimizer, plan.budget, plan, scale, journal)
    control = run_control(plan, start, scale, journal)
    finalists = choose_finalists(plan, scale, optimizer, found, control)
    winner = select(plan, finalists, len(found), journal)
    test(plan, finalists, winner, len(found), journal)
    return winner


def score_references(plan: Plan, journal: Journal) -> Scale:
    """Score base, parents and plain average on the search items: what candidates are measured against."""
    journal.watch("phase", name="references", total=len(plan.references))
    works = [Work(name, "references", recipe, plan.items["search"]) for name, recipe in plan.references.items()]
    return _scale(plan, evaluate_all(works, plan, journal))


def _scale(plan: Plan, evaluations: Sequence[Evaluation]) -> Scale:
    for name, evaluation in zip(plan.references, evaluations, strict=True):
        if evaluation.error_code:
            raise SearchFailed(
                f"reference '{name}' cannot be scored ({evaluation.error_code}). Candidates are measured against the "
                "references: see events.jsonl, check the checkpoint with `evomerge score`, or leave it out."
            )
    estimates = plan.estimator.estimate(evaluations, plan.metrics)
    return Scale(dict(zip(plan.references, estimates, strict=True)))


def best_start(plan: Plan, scale: Scale) -> Genome | None:
    """The warm start, else the best reference that the space can express, as a genome."""
    ranked = sorted(scale.references, key=lambda name: -combine(plan, scale.references[name], scale)[0].value)
    starts = [*([plan.warm_start] if plan.warm_start else []), *(plan.references[name] for name in ranked)]
    genomes = map(plan.space.encode, starts)
    return next((g for g in genomes if g is not None), None)


def run_control(plan: Plan, start: Genome | None, scale: Scale, journal: Journal) -> list[Scored]:
    """A cheap rival on the same items: what a search that did no better would be worth."""
    if plan.make_control is None:
        return []
    optimizer = plan.make_control(start)
    return ask_and_tell("control", optimizer, Budget(evaluations=optimizer.lag), plan, scale, journal)


def choose_finalists(
    plan: Plan, scale: Scale, optimizer: Optimizer, found: Sequence[Scored], control: Sequence[Scored]
) -> list[Finalist]:
    """References by right, the best of control, the best estimates of the search, the optimizer's mean."""
    finalists = [Finalist(name, r, combine(plan, scale.references[name], scale)) for name, r in plan.references.items()]
    rivals = [_finalist("control", s) for s in _ranked(control)[:1]]
    rivals += [_finalist("search", s) for s in _ranked(found)[: plan.finalists]]
    mean = getattr(optimizer, "mean", None)
    if mean is not None and found:
        rivals.append(Finalist("mean", plan.space.decode(mean()), ()))
    return finalists + _distinct(rivals, {f.recipe.digest for f in finalists})


def _finalist(phase: str, scored: Scored) -> Finalist:
    return Finalist(f"{phase}:{scored.id}", scored.recipe, scored.estimates or ())


def _ranked(scored: Sequence[Scored]) -> list[Scored]:
    """Distinct recipes that could be scored, best estimate first, earlier first among equals."""
    good = [(s.estimates[0].value, s) for s in scored if s.estimates]
    return _distinct([s for _, s in sorted(good, key=lambda pair: -pair[0])], set())


def _distinct(named: Iterable[Named], seen: set[str]) -> list[Named]:
    """Those whose recipe is not in `seen` nor earlier in the list."""
    first: dict[str, Named] = {}
    for one in named:
        first.setdefault(one.recipe.digest, one)
    return [one for digest, one in first.items() if digest not in seen]


def select(plan: Plan, finalists: Sequence[Finalist], searched: int, journal: Journal) -> str:
    """Score the finalists on items no estimate has seen; the best posterior mean wins.

    searched: evaluations the search had made; an extension that changes no finalist still leaves its own row.
    """
    scored = [s for s in _score_finalists("selection", plan, finalists, journal) if s.estimates]
    fresh = [s.estimates[0] for s in scored if s.estimates]
    posterior = shrink(fresh)
    best = max(range(len(scored)), key=lambda i: (posterior[i].value, fresh[i].value))
    journal.stop(
        "selection",
        searched=searched,
        winner=scored[best].id,
        finalists=[_finalist_data(f) for f in finalists],
        posterior={str(s.id): [p.value, p.stderr] for s, p in zip(scored, posterior, strict=True)},
    )
    return str(scored[best].id)


def _finalist_data(f: Finalist) -> dict[str, object]:
    return {"id": f.id, "digest": f.recipe.digest, "recipe": f.recipe.data(), "found": estimates_data(f.found)}


def shrink(estimates: Sequence[Estimate]) -> list[Estimate]:
    """Posterior of each true score under a normal prior fitted to all of them (empirical Bayes).

    A noisy score is drawn further towards the common mean than a sharp one, so luck alone wins less often.
    """
    values = np.array([e.value for e in estimates])
    noise = np.array([e.stderr for e in estimates]) ** 2
    spread = max(float(values.var(ddof=1) - noise.mean()), 0.0) if len(values) > 1 else 0.0
    share = spread / (spread + noise) if spread else np.zeros_like(noise)
    means = values.mean() + share * (values - values.mean())
    stderrs = np.sqrt(share * noise)
    return [Estimate(float(m), float(s), e.n_items) for m, s, e in zip(means, stderrs, estimates, strict=True)]


def test(plan: Plan, finalists: Sequence[Finalist], winner: str, searched: int, journal: Journal) -> None:
    """Report only: score the finalists on the test items; nothing is chosen any more."""
    _score_finalists("test", plan, finalists, journal)
    journal.stop("test", searched=searched, winner=winner)


def _score_finalists(phase: str, plan: Plan, finalists: Sequence[Finalist], journal: Journal) -> list[Scored]:
    journal.watch("phase", name=phase, total=len(finalists))
    works = [Work(f.id, phase, f.recipe, plan.items[phase]) for f in finalists]
    evaluations = evaluate_all(works, plan, journal)
    return score(works, evaluations, plan, _scale(plan, evaluations[: len(plan.references)]))
