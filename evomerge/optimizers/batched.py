"""What batch optimizers share: private global random states, hand-out of a drawn batch, one complete tell."""

from __future__ import annotations

import contextlib
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np

from evomerge.types import Candidate, Genome, Result


class Guard:
    """Lends a library its own copy of the *global* random states of numpy and python while it is called.

    cma draws from the global stream even when given a `randn`; a foreign draw in between would break replay.
    """

    def __init__(self, seed: int):
        self._numpy = np.random.RandomState(seed).get_state()
        self._python = random.Random(seed).getstate()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        outside = np.random.get_state(), random.getstate()
        np.random.set_state(self._numpy)
        random.setstate(self._python)
        try:
            yield
        finally:
            self._numpy, self._python = np.random.get_state(), random.getstate()
            np.random.set_state(outside[0])
            random.setstate(outside[1])


class Batched(ABC):
    """Ask/tell over a library that works in whole batches of `lag` candidates.

    A batch is drawn once and handed out in id order; the next one is drawn only after all of it was told. A member
    that changes its batch changes `lag` while it learns. An empty draw: there is nothing more to try.
    """

    lag: int
    elitist: bool = True  # fitness of different batches is compared
    many_goals: bool = False
    takes_choices: bool = False
    wants_answers: bool = False

    @property
    def step(self) -> int:
        return self.lag

    def __init__(self) -> None:
        self._asked = 0  # candidates of earlier batches
        self._batch: list[Genome] = []
        self._handed = 0

    def ask(self, n: int) -> list[Candidate]:
        """Up to n candidates of the current batch; none if all of them are out and not yet told."""
        if not self._batch:
            self._batch = [np.array(g, dtype=np.float64) for g in self._draw()]
        first, self._handed = self._handed, min(self._handed + n, len(self._batch))
        return [Candidate(self._asked + i, self._batch[i].copy()) for i in range(first, self._handed)]

    def tell(self, results: Sequence[Result]) -> None:
        """The whole batch, in id order, fitness finite and maximised."""
        ids = [self._asked + i for i in range(len(self._batch))]
        assert [r.id for r in results] == ids, "a batch is told once, complete and in id order"
        self._learn(self._batch, results)
        self._asked += len(self._batch)
        self._batch, self._handed = [], 0

    @abstractmethod
    def _draw(self) -> Sequence[Genome]: ...

    @abstractmethod
    def _learn(self, genomes: Sequence[Genome], results: Sequence[Result]) -> None: ...


def ranked(results: Sequence[Result]) -> list[float]:
    """One number each, to be maximised: fitness as told, if no constraint is broken in this batch.

    Else the rules of Deb (2000, doi:10.1016/S0045-7825(99)00389-8): those that break none keep their fitness, the rest
    come below the worst of them, by violation alone; a failed candidate, of which nothing is known, comes last.
    """
    fitness = [r.fitness[0] for r in results]
    if not any(r.violation > 0 for r in results):
        return fitness
    good = [f for f, r in zip(fitness, results, strict=True) if not r.violation and not r.error_code]
    floor = min(good, default=0.0)
    last = max(r.violation for r in results) + 1.0
    below = [last if r.error_code else r.violation for r in results]
    return [
        f if not broken else floor - max(1.0, abs(floor)) - broken for f, broken in zip(fitness, below, strict=True)
    ]
