"""What a candidate costs on a live backend: seconds in all, inside the model and while building it, and tokens read."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any

import torch

from evomerge.backends.hf import HFBackend


@dataclass(frozen=True)
class Cost:
    """Of one candidate. `model`: seconds inside the model; `write`: seconds of building it."""

    seconds: float
    model: float
    tokens: int
    write: float = 0.0


class Clock:
    """Seconds inside a backend's model, forward or generate, and tokens that it reads."""

    def __init__(self, backend: HFBackend) -> None:
        self._backend, self._model = backend, backend.lm.model
        self._forward, self._generate = self._model.forward, self._model.generate
        self._model.forward, self._model.generate = self._timed(self._forward), self._timed(self._generate)
        self._depth, self.inside, self.write = 0, 0.0, 0.0

    def stop(self) -> None:
        del self._model.forward, self._model.generate  # the class's own are seen again

    def cost(self, run: Callable[[], None]) -> Cost:
        self.inside, self.write, before = 0.0, 0.0, self._backend.tokens_forwarded
        start = time.perf_counter()
        run()
        seconds = time.perf_counter() - start
        return Cost(seconds, self.inside, self._backend.tokens_forwarded - before, self.write)

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **settings: Any) -> Any:
            self._depth, start = self._depth + 1, time.perf_counter()
            try:
                return call(*args, **settings)
            finally:
                self._depth -= 1
                if self._model.device.type == "cuda":
                    torch.cuda.synchronize()
                self.inside += time.perf_counter() - start if self._depth == 0 else 0.0

        return timed


def typical(costs: Sequence[Cost]) -> Cost:
    """The candidate of median time."""
    wanted = median_low(c.seconds for c in costs)
    return next(c for c in costs if c.seconds == wanted)
