"""Successive halving: all candidates answer a chunk, the better share goes on (Jamieson & Talwalkar 2016)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evomerge.errors import ConfigError
from evomerge.families import Worth
from evomerge.types import Estimate, Judge


class Halving:
    """After each of `chunks` chunks the best `keep` share of those still in the race go on, at least one.

    A candidate is built anew for each chunk: for models that build much faster than they answer.
    """

    def __init__(self, keep: float = 0.6, chunks: int = 4):
        if not 0 < keep < 1:
            raise ConfigError(f"race.keep is {keep}; wanted a share between 0 and 1.")
        if chunks < 2:
            raise ConfigError(f"race.chunks is {chunks}; wanted at least 2, or race=none.")
        self.chunks, self._keep = chunks, keep

    def judge(self, worth: Worth, batch: Sequence[Estimate], lag: int) -> Judge | None:
        return None

    def survivors(self, values: Sequence[float]) -> list[int] | None:
        """Places of those that go on, in their order; of equals the earlier."""
        ranked = sorted(range(len(values)), key=lambda i: (-values[i], i))
        return sorted(ranked[: max(1, math.ceil(self._keep * len(values)))])
