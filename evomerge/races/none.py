"""No race: every candidate answers its whole draw."""

from __future__ import annotations

from collections.abc import Sequence

from evomerge.families import Worth
from evomerge.types import Estimate, Judge


class NoRace:
    chunks = 1

    def judge(self, worth: Worth, batch: Sequence[Estimate], lag: int) -> Judge | None:
        return None

    def survivors(self, values: Sequence[float]) -> list[int] | None:
        return None
