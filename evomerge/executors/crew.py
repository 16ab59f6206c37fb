"""The workers of a pool, whatever they are: told jobs, they send messages; one that dies is opened anew."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from evomerge import errors
from evomerge.executors.jobs import Job

#: ready: the bench is open (payload: its notes). row: an Evaluation. event: (kind, facts) for the record. done: the
#: job is over. full: out of memory (why). error: a Fault, which ends the run. died: why, if anybody knows.
#: While a bench is being opened there is no full: want of memory, or a file that cannot be read, is a death.
Kind: TypeAlias = Literal["ready", "row", "event", "done", "full", "error", "died"]


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


def pause(failures: int) -> float:
    """Seconds to wait before a worker is opened again that could not be opened so many times in a row."""
    return min(60.0, 0.5 * 2.0 ** (failures - 1)) if failures else 0.0


class Crew(Protocol):
    """`size` workers, known after `check` or `start`. What a worker said comes before its "died", never after.

    Optional: `notes`, sentences for the record, known after `start`.
    """

    size: int

    def check(self, evaluator: Any) -> None:
        """Raises ConfigError for what is missing."""

    def start(self, evaluator: Any) -> None:
        """Begin to open all workers; each says "ready" when it is."""

    def host(self, worker: int) -> str:
        """Where it runs, as far as known."""

    def send(self, worker: int, job: Job) -> None:
        """To a worker that is ready and idle; it answers rows and events, then one of done, full, error, died.

        If it has died unnoticed, nothing is raised: its "died" comes with the next wait.
        """

    def wait(self, seconds: float) -> Sequence[Message]:
        """What has arrived; waits for the first so long at most. Opens anew who died, after a `pause`."""

    def kill(self, worker: int) -> None:
        """End a worker that hangs; it says "died", is opened anew, and says "ready" again."""

    def close(self) -> None:
        """End all workers at once. Idempotent; a later start opens them anew."""
