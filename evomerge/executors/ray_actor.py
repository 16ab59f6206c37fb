"""What runs in a Ray actor: opens the evaluator it is sent, and answers jobs rung by rung."""

from __future__ import annotations

import os
import pickle
import socket
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, TypeAlias

from evomerge.errors import ConfigError, MachineFailed
from evomerge.executors.crew import Fault, Kind
from evomerge.executors.jobs import Job, serve
from evomerge.executors.ray_session import current_node

#: What a worker says: the kind and payload of a Message.
Said: TypeAlias = tuple[Kind, Any]

#: Another version of these may give other bits, or not understand what it is sent.
LIBRARIES = ("evomerge", "torch", "transformers", "lm-eval", "numpy")


@dataclass(frozen=True)
class Place:
    """Where an actor runs. log: the file that its stderr goes to, on that host."""

    node: str
    host: str
    log: str
    versions: Mapping[str, str]


def versions() -> dict[str, str]:
    return {name: version(name) for name in LIBRARIES}


class Actor:
    """A worker. What goes wrong is said, never raised: an exception of Ray's means that the actor is lost."""

    def greet(self) -> Place:
        """Answers as soon as the actor has a place."""
        log = "/proc/self/fd/2"
        return Place(
            current_node(), socket.gethostname(), os.path.realpath(log) if os.path.exists(log) else "", versions()
        )

    def pulse(self) -> None:
        """Answers if the actor lives."""

    def survey(self, luggage: bytes, parents_dir: str | None) -> Any:
        """The family as the files of this node are, or the Fault of one that differs."""
        from evomerge.executors.relocation import relocated

        try:
            return relocated(_loaded(luggage), parents_dir, socket.gethostname())
        except Exception as e:
            return Fault.of(e)

    def open(self, evaluator: bytes, threads: int, family: Any) -> list[Said]:
        """family: what `survey` found; None where the driver's own will do."""
        import torch

        if isinstance(family, Fault):
            return [("error", family)]
        torch.set_num_threads(
            threads
        )  # as in the driver: Ray sets OMP_NUM_THREADS, and another number gives other bits
        try:
            plan = _loaded(evaluator)
            self._bench = (plan if family is None else replace(plan, family=family)).open()
        except (MemoryError, OSError, torch.OutOfMemoryError, MachineFailed) as e:
            return [("died", f"{type(e).__name__}: {e}")]  # worth another try
        except Exception as e:
            return [("error", Fault.of(e))]
        return [("ready", tuple(getattr(self._bench, "notes", ())))]

    def begin(self, job: Job) -> None:
        self._job, self._speech = job, speech(self._bench, job)

    def proceed(self) -> list[Said]:
        """What is said until a rung is answered, or to the end after the last one; nothing if all has been said."""
        said: list[Said] = []
        for kind, payload in self._speech:
            said.append((kind, payload))
            if kind == "row":
                self._job = self._job.after(payload[0])
                if self._job.works:
                    break
        return said


def speech(bench: Any, job: Job) -> Iterator[Said]:
    """Each rung as it is answered, then how the job ended."""
    events: deque[Said] = deque()
    rows = serve(bench, job, lambda kind, **facts: events.append(("event", (kind, facts))))
    try:
        for answered in rows:
            yield from _drained(events)
            yield "row", answered
        yield from _drained(events)
        yield "done", None
    except MemoryError as e:
        yield from _drained(events)
        yield "full", str(e)
    except MachineFailed as e:  # to be killed
        yield from _drained(events)
        yield "sick", str(e)
    except Exception as e:
        yield from _drained(events)
        yield "error", Fault.of(e)


def _drained(events: deque[Said]) -> Iterator[Said]:
    while events:
        yield events.popleft()


def _loaded(evaluator: bytes) -> Any:
    try:
        return pickle.loads(evaluator)  # our driver's bytes, by Ray's store, which asks for its token; never a file's
    except (AttributeError, ImportError) as e:
        raise ConfigError(
            f"a worker on {socket.gethostname()} cannot load what it is to do ({e}). Code of your own (a task, a "
            "measure, a callable) must lie in a module that can be imported on every node; Ray's runtime_env ships it."
        ) from e
