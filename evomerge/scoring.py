"""Works -> evaluations: from the journal where it has them, else by the executor; equal questions are asked once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from evomerge.errors import SearchFailed
from evomerge.journal import Journal
from evomerge.plan import Plan
from evomerge.types import Evaluation, Work

Key = tuple[str, int | str]  # phase, id


class Desk:
    """Works under way. Whatever comes back is written down at once, whoever is being waited for.

    A work whose recipe is being asked waits for the earlier one, whose answers may be its own: so the rows are the same
    for any number of workers. elapsed: seconds of the phase so far, for the events.
    """

    def __init__(self, plan: Plan, journal: Journal, elapsed: Callable[[], float] = lambda: 0.0):
        self._plan, self._journal, self._elapsed = plan, journal, elapsed
        self._out: dict[Key, Work] = {}
        self._waiting: dict[Key, Work] = {}

    def ask(self, works: Sequence[Work]) -> None:
        """Begin what is neither on file nor under way."""
        new = [left for work in works if not self._under_way(work) and (left := self._begun(work))]
        if new:
            self._plan.executor.start(self._plan.evaluator, self._journal.event)
            self._plan.executor.submit(new)

    def finish(self, works: Sequence[Work]) -> list[Evaluation]:
        """Wait until all of these are on file; returns one evaluation each, in their order."""
        while any(map(self._under_way, works)):
            self._take(self._plan.executor.next())
        return self._journal.view(works)

    def _under_way(self, work: Work) -> bool:
        return _key(work) in self._out or _key(work) in self._waiting

    def _begun(self, work: Work) -> Work | None:
        """What is to be submitted of a work: nothing if it is on file, or an equal recipe is being asked."""
        while missing := self._journal.missing([work]):
            if _answer_from_file(missing[0], self._plan, self._journal):
                continue
            twin = any(work.recipe.digest == other.recipe.digest for other in self._out.values())
            (self._waiting if twin else self._out)[_key(work)] = work
            return None if twin else missing[0]
        return None

    def _take(self, row: Evaluation) -> None:
        self._journal.add(row)
        self._journal.event("evaluated", phase=row.phase, id=row.id, elapsed=self._elapsed())
        if row.last:
            self._journal.watch("evaluated", id=row.id, error=row.error_code)
            digest = self._out.pop((row.phase, row.id)).recipe.digest
            twins = [key for key, work in self._waiting.items() if work.recipe.digest == digest]
            self.ask([self._waiting.pop(key) for key in twins])


def _key(work: Work) -> Key:
    return work.phase, work.id


def evaluate_all(works: Sequence[Work], plan: Plan, journal: Journal) -> list[Evaluation]:
    """The evaluations of all works, one each, in their order; afterwards all of them are on file."""
    desk = Desk(plan, journal)
    desk.ask(works)
    return desk.finish(works)


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
