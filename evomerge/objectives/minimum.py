"""The worst task's score: a merge is as good as what it does worst."""

from __future__ import annotations

from collections.abc import Sequence

from evomerge.types import Estimate


class Minimum:
    """The lowest task score; tasks should share a scale."""

    def goals(self, tasks: Sequence[str]) -> tuple[str, ...]:
        return ("minimum",)

    def combine(
        self, tasks: Sequence[Estimate], floor: Sequence[Estimate], parents: Sequence[Sequence[Estimate]]
    ) -> tuple[Estimate, ...]:
        return (min(tasks, key=lambda e: e.value),)
