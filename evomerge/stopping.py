"""Why a phase ends: what was asked for is found, nothing better is found any more, or too much has failed.

All of it follows from what was committed, so a replay decides as the run did. What may be spent is a Meter's to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evomerge.budget import Budget
from evomerge.course import Course, Id
from evomerge.errors import SearchFailed
from evomerge.families import Optimizer

#: Candidates in a row that say something, however small the batches are.
_FEW = 4
#: Candidates in a row that were recipes known before: a discrete space has no more of them. Such cost no items, so a
#: budget of items would never end the search.
_REPEATS = 200


def found_enough(budget: Budget, course: Course, optimizer: Optimizer) -> str:
    """Target, stagnation, exhausted, or the optimizer's own reason; "" as long as the phase is to go on."""
    values = list(_values(course))
    if budget.target is not None and max(values, default=float("-inf")) >= budget.target:
        return "target"
    if budget.stagnation is not None and len(values) - _place_of_best(values) >= budget.stagnation:
        return "stagnation"
    if course.repeats >= _REPEATS:
        return "exhausted"
    stopped = getattr(optimizer, "stopped", "")
    return f"optimizer: {stopped}" if stopped else ""


def best(course: Course) -> float | None:
    """The best estimate of a feasible candidate, several goals averaged; None if there is none."""
    found = max(_values(course), default=float("-inf"))
    return found if found > float("-inf") else None


def _values(course: Course) -> Iterator[float]:
    """One number a candidate, in the order of asking; minus infinity if it failed or breaks a constraint."""
    for one in course.scored.values():
        good = one.estimates and not one.violation
        yield sum(e.value for e in one.estimates or ()) / len(one.estimates or (0,)) if good else float("-inf")


def _place_of_best(values: Sequence[float]) -> int:
    """Counted from 1; 0 if there is none."""
    top = max(values, default=float("-inf"))
    return values.index(top) + 1 if top > float("-inf") else 0


def check_failures(newest: Sequence[Id], course: Course) -> None:
    """Raises SearchFailed if all of a batch, or too large a share of all candidates, have failed."""
    codes = sorted({s.error_code for s in course.scored.values() if s.error_code})
    failed = sum(s.error_code is not None for s in course.scored.values())
    last = list(course.scored)[-max(len(newest), _FEW) :]
    all_failed = len(last) >= _FEW and all(course.failure(i) for i in last)
    if all_failed or failed > course.plan.max_failed * max(len(course.scored), 20):
        course.journal.stop(course.phase, reason="failures", failed=failed, evaluations=len(course.scored), codes=codes)
        more = "" if all_failed else ", or allow more with max_failed"
        raise SearchFailed(
            f"{failed} of {len(course.scored)} candidates failed in phase {course.phase} ({', '.join(codes)}). "
            f"Tracebacks are in events.jsonl. {_remedy(codes)}{more}, in a new run folder."
        )


def _remedy(codes: Sequence[str]) -> str:
    """What most likely helps against these error codes."""
    if "worker_died" in codes:
        return "Workers died over them: give them more memory (backend.batch_size, fewer executor.workers)"
    if "timeout" in codes:
        return "They took too long: raise executor.timeout, or ask fewer items"
    return "Narrow the ranges (space.ranges)"
