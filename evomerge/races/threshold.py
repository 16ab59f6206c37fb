"""Stop a candidate that has little chance of entering the best of its batch, judged by the batch before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evomerge.errors import ConfigError
from evomerge.families import Worth
from evomerge.types import Estimate, ItemScores, Judge


class Threshold:
    """Items come in `chunks`; after each, a candidate whose chance is below `chance` is asked no more.

    The chance is that of standing above the estimate at rank `top` (null: half of the batch) of the newest batch
    that was told when this one was asked: frozen, so neither order nor workers nor kills change a race. The first
    batch runs in full.
    """

    def __init__(self, chance: float = 0.05, chunks: int = 6, top: int | None = None):
        if not 0 <= chance < 0.5:
            raise ConfigError(f"race.chance is {chance}; wanted a probability from 0 (no race) to below 0.5.")
        if chunks < 2:
            raise ConfigError(f"race.chunks is {chunks}; wanted at least 2, or race=none.")
        if top is not None and top < 1:
            raise ConfigError(f"race.top is {top}; wanted a rank from 1, or null for half of the batch.")
        self.chunks = chunks
        self._chance, self._top = chance, top

    def judge(self, worth: Worth, batch: Sequence[Estimate], lag: int) -> Judge | None:
        """worth: a candidate's estimate from its answers. batch: the estimates of the newest batch told, if any."""
        ranked = sorted(batch, key=lambda e: -e.value)
        if not ranked:
            return None
        rank = min(self._top or max(1, lag // 2), len(ranked))
        return _Below(worth, ranked[rank - 1], self._chance)

    def survivors(self, values: Sequence[float]) -> list[int] | None:
        return None


@dataclass(frozen=True, eq=False)
class _Below:
    worth: Worth
    cut: Estimate
    chance: float

    def stops(self, answered: Sequence[tuple[ItemScores, ...]]) -> bool:
        found = self.worth(answered)
        noise = math.hypot(found.stderr, self.cut.stderr)
        gap = found.value - self.cut.value
        if not (noise > 0 and math.isfinite(noise)):
            return noise == 0 and gap < 0 and self.chance > 0
        return 0.5 * math.erfc(-gap / noise / math.sqrt(2)) < self.chance
