"""Works -> evaluations: from the journal where it has them, else by the executor; equal questions are asked once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from evomerge.errors import SearchFailed
from evomerge.journal import Journal
from evomerge.plan import Plan
from evomerge.types import Evaluation, Work


def evaluate_all(
    works: Sequence[Work], plan: Plan, journal: Journal, elapsed: Callable[[], float] = lambda: 0.0
) -> list[Evaluation]:
    """The evaluations of all works, one each, in their order; afterwards all of them are on file.

    elapsed: seconds of the phase so far, for the events.
    """
    while missing := journal.missing(works):
        asked: dict[str, Work] = {}
        for work in missing:
            if not _answer_from_file(work, plan, journal):
                asked.setdefault(work.recipe.digest, work)
        for evaluation in plan.executor.map(plan.evaluator, list(asked.values()), journal.event):
            journal.add(evaluation)
            journal.event("evaluated", phase=evaluation.phase, id=evaluation.id, elapsed=elapsed())
            if evaluation.last:
                journal.watch("evaluated", id=evaluation.id, error=evaluation.error_code)
    return journal.view(works)


def _answer_from_file(work: Work, plan: Plan, journal: Journal) -> bool:
    """Whether the next rung was answered by an equal recipe, or by a calibration: then its row is written."""
    rung = len(work.answered)
    items = work.rungs[rung]
    original = journal.original(work, items)
    if original is None:
        return rung == 0 and _imported(work, plan, journal)
    answered = [*work.answered, original.scores]
    journal.add(
        replace(
            original,
            id=work.id,
            phase=work.phase,
            rung=work.rung + rung,
            genome=work.genome,
            items=items,
            scores=(),
            alias_of=f"{original.phase}:{original.id}",
            last=original.error_code is not None or work.over(answered),
        )
    )
    return True


def _imported(work: Work, plan: Plan, journal: Journal) -> bool:
    """A row equal to the one that evaluating would have given, from an earlier calibration."""
    if work.phase != "references" or (found := plan.known.find(work)) is None:
        return False
    journal.add(found)
    journal.event("calibrated", phase=work.phase, id=work.id)
    return True


def refuse_failed(name: str, evaluation: Evaluation) -> None:
    """Raises SearchFailed if a reference could not be scored."""
    if evaluation.error_code:
        raise SearchFailed(
            f"reference '{name}' cannot be scored ({evaluation.error_code}). Candidates are measured against the "
            "references: see events.jsonl, check the checkpoint with `evomerge score`, or leave it out."
        )
