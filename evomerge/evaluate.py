"""Work -> Evaluation: an Evaluator is data that can be sent anywhere, a Bench holds the live model that serves it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from evomerge.errors import EvomergeError, MachineFailed, MergeError
from evomerge.families import Task
from evomerge.types import Evaluation, Items, ItemScores, Recipe, Work


@dataclass(frozen=True)
class Evaluator:
    """The plan of evaluating: parents at rest, tasks, and the settings of a backend. `open` makes it live."""

    family: Any
    tasks: tuple[Task, ...]
    backend: Any
    device: torch.device
    dtype: str
    threads: int | None = None
    references: Mapping[str, Recipe] = field(default_factory=dict)

    @property
    def together(self) -> int:
        """How many candidates the backend serves at once."""
        return int(getattr(self.backend, "together", 1))

    def open(self) -> Bench:
        """Load the live model; tasks build the requests they need at their first score.

        A task that compares candidates with references is shown those that it says are `wanted`.
        """
        if self.threads:
            torch.set_num_threads(self.threads)
        self.backend.open(self.family, self.device, self.dtype)
        self._show_references()
        return Bench(self.backend, {task.name: task for task in self.tasks})

    def _show_references(self) -> None:
        comparing: list[Any] = [t for t in self.tasks if hasattr(t, "observe")]
        for name, recipe in self.references.items():
            watching = [t for t in comparing if name in t.wanted(tuple(self.references))]
            if watching:
                self.backend.write(recipe)
            for task in watching:
                task.observe(name, self.backend)


class Bench:
    """A live model that is rewritten for each work and asked its items."""

    def __init__(self, backend: Any, tasks: Mapping[str, Task]):
        self._backend, self._tasks = backend, tasks
        self._batch_size = backend.batch_size
        self._together = int(getattr(backend, "together", 1))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the backend has to say of this model."""
        return tuple(getattr(self._backend, "notes", ()))

    def close(self) -> None:
        """Give back what the backend holds outside this process."""
        getattr(self._backend, "close", lambda: None)()

    def evaluate(
        self, work: Work, *, shrink: int = 1, record: Callable[..., None] = lambda kind, **facts: None
    ) -> Iterator[Evaluation]:
        """Build once, then score rung by rung until the work is over.

        What is the candidate's own fault becomes an error code, with the traceback in `record`. Raises MemoryError if
        the device is full: `shrink` divides the batch size for a retry. Other errors of the user's settings (a task
        without its chat template) pass: no candidate could do better.
        """
        self._shrink(shrink)
        answered = list(work.answered)
        built = False
        for items in work.rungs[len(answered) :]:
            scores, code = self._scores(work, items, record, built=built)
            built = True
            answered.append(scores)
            last = code is not None or work.over(answered)
            yield self._evaluation(work, len(answered) - 1, items, scores, code, last)
            if last:
                return

    def evaluate_together(
        self, works: Sequence[Work], *, shrink: int = 1, record: Callable[..., None] = lambda kind, **facts: None
    ) -> Iterator[Evaluation]:
        """The same for works of one rung each that the backend serves at once, each in a slot of its own.

        If they cannot be built together, each is built alone: then the one at fault fails by itself.
        """
        self._shrink(shrink)
        try:
            self._write(works)
        except torch.OutOfMemoryError as e:
            raise MemoryError(str(e)) from e
        except Exception as e:
            if isinstance(e, MemoryError | EvomergeError) and not isinstance(e, MergeError):
                raise
            for work in works:
                yield from self.evaluate(work, shrink=shrink, record=record)
            return
        for work in works:
            (items,) = work.rungs
            scores, code = self._scores(work, items, record, built=True)
            yield self._evaluation(work, 0, items, scores, code, last=True)

    def _shrink(self, divisor: int) -> None:
        self._backend.batch_size = max(1, self._batch_size // divisor)

    def _write(self, works: Sequence[Work]) -> None:
        first = works[0]
        if self._together == 1:
            self._backend.write(first.recipe)
        elif not isinstance(first.id, int):  # named works have no company, and need no room for any
            getattr(self._backend, "write_alone", self._backend.write)(first.recipe)
        else:
            recipes = {self._slot(work): work.recipe for work in works}
            assert len(recipes) == len(works), "each in a slot of its own"
            self._backend.write_together(recipes)

    def _slot(self, work: Work) -> int:
        """A candidate's own, whoever else is there."""
        return work.id % self._together if isinstance(work.id, int) else 0

    def _evaluation(
        self, work: Work, place: int, items: Items, scores: tuple[ItemScores, ...], code: str | None, last: bool
    ) -> Evaluation:
        return Evaluation(
            work.id,
            work.phase,
            work.recipe.digest,
            items,
            scores if work.phase == "references" else tuple(replace(s, margins=None) for s in scores),
            genome=work.genome,
            rung=work.rung + place,
            batch_size=self._backend.batch_size,
            error_code=code,
            last=last,
        )

    def _scores(
        self, work: Work, items: Items, record: Callable[..., None], *, built: bool
    ) -> tuple[tuple[ItemScores, ...], str | None]:
        try:
            if not built:
                self._write([work])
            if self._together > 1:
                self._backend.turn_to(self._slot(work))
            scores = tuple(self._tasks[task].score(self._backend, ids) for task, ids in items.items())
        except torch.OutOfMemoryError as e:
            raise MemoryError(str(e)) from e
        except MergeError as e:
            return self._failed(work, record, "merge", e)
        except (MemoryError, EvomergeError):  # the machine's limits, and the user's settings: not the candidate's
            raise
        except Exception as e:  # the one place where a candidate's failure becomes data
            if _of_the_machine(e):
                raise MachineFailed(
                    f"{type(e).__name__} while {work.phase} {work.id} was evaluated: {e}. A file or device is at "
                    "fault, not the candidate: mend it and run the same command again; the journal keeps what was paid."
                ) from e
            return self._failed(work, record, type(e).__name__, e)
        odd = [s.task for s in scores if not np.isfinite(s.values).all()]
        return (scores, None) if not odd else ((), f"non_finite_score:{odd[0]}")

    def _failed(self, work: Work, record: Callable[..., None], code: str, e: Exception) -> tuple[tuple[()], str]:
        record("failed", phase=work.phase, id=work.id, error=str(e), traceback=traceback.format_exc())
        return (), code


def _of_the_machine(e: Exception) -> bool:
    """A disk that fails, a file that was cut; a device error, after which a process computes nothing any more."""
    return isinstance(e, OSError | SafetensorError) or "CUDA error" in str(e)
