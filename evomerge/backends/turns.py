"""Plans and prefixes in which every row is there once for each slot: row r of a batch belongs to slot r mod slots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from evomerge.backends.forward import Forward, Past
from evomerge.backends.passes import Batch, Pass, Plan, Row


def repeated(plan: Plan, slots: int) -> Plan:
    """The plan asked of every slot: all answers of slot 0 in the order of the plan, then those of slot 1, ..."""
    places = sum(plan.lengths)
    chunks = (
        replace(chunk, batches=tuple(_batch(batch, slots, places) for batch in chunk.batches)) for chunk in plan.chunks
    )
    return Plan(tuple(chunks), plan.lengths * slots)


def _batch(batch: Batch, slots: int, places: int) -> Batch:
    return Batch(_pass(batch.trunk, slots, places), tuple(_pass(fork, slots, places) for fork in batch.forks))


def _pass(run: Pass, slots: int, places: int) -> Pass:
    rows = (
        Row(row.tokens, tuple((back, token, place + slot * places) for back, token, place in row.looks))
        for row in run.rows
        for slot in range(slots)
    )
    return Pass(tuple(rows), tuple(parent * slots + slot for parent in run.parents for slot in range(slots)))


@dataclass(frozen=True)
class Turns:
    """Computes common beginnings for all slots. To a cache of prefixes it is what a Forward is for one model."""

    forward: Forward
    slots: Callable[[], int]

    @property
    def model(self) -> Any:
        return self.forward.model

    def start(self, tokens: np.ndarray) -> Beginning:
        """Cache of a row for each slot."""
        past = self.forward.nothing(self.slots())
        ids, mask = self.forward.rows([tokens] * self.slots())
        self.forward(ids, mask, past, keep=1)
        return Beginning(Past(past.cache, mask))


@dataclass(frozen=True)
class Beginning:
    """A common beginning, one row a slot."""

    past: Past

    @property
    def mask(self) -> torch.Tensor:
        """bool (1, slots x columns): who counts tokens that are kept must count those of every slot."""
        return self.past.mask.reshape(1, -1)

    def repeated(self, n: int) -> Past:
        """For n rows that go on after it, whole turns of the slots."""
        slots = len(self.past.mask)
        return self.past.selected([*range(slots)] * (n // slots))
