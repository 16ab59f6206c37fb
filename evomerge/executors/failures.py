"""What a pool makes of failures: the last row of a work that was given up, and the errors that end a search."""

from __future__ import annotations

from evomerge.errors import MachineFailed, SearchFailed
from evomerge.executors.crew import Fault
from evomerge.executors.jobs import Job
from evomerge.types import Evaluation, Work


def given_up(work: Work, code: str, batch_size: int | None) -> Evaluation:
    """The rung that was being asked when the work's last worker died, as a failed candidate's last."""
    place = len(work.answered)
    return Evaluation(
        work.id,
        work.phase,
        work.recipe.digest,
        work.rungs[place],
        (),
        genome=work.genome,
        rung=work.rung + place,
        batch_size=batch_size,
        error_code=code,
    )


def out_of_memory(job: Job, retries: int) -> SearchFailed:
    return SearchFailed(
        f"{job.works[0].phase} {job.works[0].id} ran out of memory {retries + 1} times, the last with the batch size "
        f"divided by {job.shrink}. Lower backend.batch_size or use a device with more memory; the journal keeps what "
        "was paid."
    )


def unopened(times: int, why: str) -> SearchFailed:
    return SearchFailed(
        f"no worker could be opened; the last one failed {times} times in a row, at last: {why}. Try executor=local to "
        "see whether the model opens at all, or fewer executor.workers if memory is short; the journal keeps what was "
        "paid."
    )


def machine(job: Job, times: int, why: str) -> MachineFailed:
    work = job.works[0]
    return MachineFailed(f"{times} workers gave up over {work.phase} {work.id}, the last one with this: {why}")


def broken(fault: Fault) -> SearchFailed:
    return SearchFailed(
        f"a worker raised {fault.name}: {fault.text}. Its traceback is in events.jsonl; executor=local raises it in "
        "this process."
    )
