"""The workers of a pool, whatever they are: told jobs, they send messages."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from evomerge import errors
from evomerge.executors.jobs import Job

#: ready: the bench is open (payload: its notes). row: (an Evaluation, the seconds it took). event: (kind, facts) for
#: the record. done: the job is over. full: out of memory (why). sick: a file or device failed (why), and the worker is
#: not to be trusted any more. error: a Fault, which ends the run. died: why, if anybody knows.
#: While a bench is being opened there is no full or sick: these are deaths.
Kind: TypeAlias = Literal["ready", "row", "event", "done", "full", "sick", "error", "died"]


@dataclass(frozen=True)
class Message:
    """What a worker, by its place in the crew, has to say."""

    worker: int
    kind: Kind
    payload: Any = None


@dataclass(frozen=True)
class Fault:
    """An exception as it travels: by name, for its class may not be known to the driver.

    ours: the class of errors.py that it is, "" for any other exception.
    """

    name: str
    text: str
    traceback: str
    ours: str = ""

    @staticmethod
    def of(error: BaseException) -> Fault:
        ours = [c.__name__ for c in type(error).__mro__ if vars(errors).get(c.__name__) is c]
        trace = "".join(traceback.format_exception(error))
        return Fault(type(error).__name__, str(error), trace, ours[0] if ours else "")

    @property
    def error(self) -> errors.EvomergeError | None:
        """The error itself if it is one of ours, None for any other."""
        return getattr(errors, self.ours)(self.text) if self.ours else None


class Crew(Protocol):
    """`size` workers, known after `check` or `start`. What a worker said comes before its "died", never after.

    Optional: `notes`, sentences for the record, known after `start`.
    """

    size: int

    def check(self, evaluator: Any) -> None:
        """Raises ConfigError for what is missing."""

    def start(self, evaluator: Any) -> None:
        """Make ready to open workers; none is opened."""

    def open(self, worker: int) -> None:
        """Begin to open it, for the first time or after it died; it says one of ready, error, died."""

    def opening(self, worker: int) -> str:
        """What its opening waits for, as far as known."""

    def host(self, worker: int) -> str:
        """Where it runs, as far as known."""

    def alive(self, worker: int) -> bool:
        """Whether one that is idle lives; if not, its "died" comes with the next wait."""

    def send(self, worker: int, job: Job) -> None:
        """To a worker that is ready and idle; it answers rows and events, then one of done, full, sick, error, died.

        If it has died unnoticed, nothing is raised: its "died" comes with the next wait.
        """

    def wait(self, seconds: float) -> Sequence[Message]:
        """All that has arrived; waits for the first so long at most."""

    def kill(self, worker: int) -> None:
        """End it, whatever it does; it says "died", if it has not yet."""

    def close(self) -> None:
        """End all workers at once. Idempotent; a later start serves anew."""
