"""The phases of a run: references -> warm starts -> search -> control -> selection -> test, all through one journal.

Resume is not a feature here but a property of the loop: running again asks the same candidates, finds their
evaluations in the journal, and tells the optimizer what the journal says it was told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from evomerge.budget import Budget
from evomerge.calibration.bank import item_bank, observe
from evomerge.families import Optimizer
from evomerge.finals import choose_finalists, select, test
from evomerge.fitness import Fitness
from evomerge.journal import Journal
from evomerge.loop import ask_and_tell
from evomerge.plan import Plan, Scale, Scored
from evomerge.scoring import evaluate_all, refuse_failed
from evomerge.types import Evaluation, Genome, Work
from evomerge.warm import ranked_starts, score_warm


def search(plan: Plan, journal: Journal) -> str:
    """Run all phases, or what of them the journal does not hold yet; returns the winner's finalist id.

    Raises SearchFailed if a reference, a whole batch, or more than `plan.max_failed` of the candidates fail.
    """
    known = score_references(plan, journal)
    fitness = judge_by(plan, known)
    warm = _told("warm starts", score_warm(plan, fitness, journal), journal)
    starts = ranked_starts(plan, fitness, warm)
    optimizer = plan.make_optimizer(starts)
    fitness = replace(fitness, fresh=_fresh(plan, fitness, optimizer))
    found = ask_and_tell("search", optimizer, plan.budget, plan, fitness, journal)
    control = _told("control", run_control(plan, starts, fitness, journal), journal)
    finalists = choose_finalists(plan, fitness, optimizer, found, control, warm)
    winner = select(plan, finalists, len(found), journal)
    test(plan, finalists, winner, len(found), journal)
    return winner


def _fresh(plan: Plan, fitness: Fitness, optimizer: Optimizer) -> bool:
    """Whether each batch has a draw of its own.

    Unasked, not where fitness of different batches is compared, be it by an elitist or by plain means: the luckiest
    draw would win.
    """
    if fitness.items_each == fitness.bank.size:
        return False
    return fitness.model_assisted and not optimizer.elitist if plan.fresh is None else plan.fresh


# ---------------------------------------------------------------- references


def score_references(plan: Plan, journal: Journal) -> dict[str, Evaluation]:
    """Score base, parents, plain average and designs on the whole bank: what candidates are measured against."""
    recipes = {**plan.references, **plan.known.designs}
    journal.watch("phase", name="references", total=len(recipes))
    works = [Work(name, "references", recipe, plan.items["search"]) for name, recipe in recipes.items()]
    found = dict(zip(recipes, evaluate_all(works, plan, journal), strict=True))
    for name in plan.references:
        refuse_failed(name, found[name])
    good = {name: evaluation for name, evaluation in found.items() if not evaluation.error_code}
    plan.known.keep(good)
    for text in plan.known.told:
        journal.event("note", text=text)
    journal.watch("notes", notes=list(plan.known.told))
    return good


def judge_by(plan: Plan, known: Mapping[str, Evaluation]) -> Fitness:
    """The item bank with what the references answered, and how candidates are judged on draws from it."""
    bank = item_bank(plan.items["search"], plan.metrics, known, plan.subtasks, plan.known.leaderboard)
    exact = plan.robust.fit(bank)
    seen = [observe(name, [known[name]], bank, bank.weights) for name in plan.references]
    scale = Scale(dict(zip(plan.references, exact.estimate(seen), strict=True)))
    sampler, estimator = plan.subset.fit(bank, plan.seed), plan.estimator.fit(bank)
    return Fitness(bank, sampler, estimator, exact, plan.goals, scale, fresh=False)


def run_control(plan: Plan, starts: Sequence[Genome], fitness: Fitness, journal: Journal) -> list[Scored]:
    """A cheap rival on the same items: what a search that did no better would be worth."""
    if plan.make_control is None:
        return []
    optimizer = plan.make_control(starts)
    return ask_and_tell("control", optimizer, Budget(evaluations=optimizer.lag), plan, fitness, journal)


def _told(what: str, scored: list[Scored], journal: Journal) -> list[Scored]:
    """The same, with a note if not one of them could be scored: the run can do without."""
    codes = sorted({s.error_code for s in scored if s.error_code})
    if codes and all(s.error_code for s in scored):
        text = f"{what}: none of {len(scored)} could be scored ({', '.join(codes)}); tracebacks are in events.jsonl"
        journal.event("note", text=text)
        journal.watch("notes", notes=[text])
    return scored
