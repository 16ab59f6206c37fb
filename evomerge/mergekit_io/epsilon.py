"""DELLA's epsilon: mergekit's is absolute, our knob is its share of the room between the density and 0 or 1."""

from __future__ import annotations

from collections.abc import Sequence

from evomerge.errors import MergeError


def room(density: float) -> float:
    """The epsilon that would take a probability of keeping to 0 or 1."""
    return min(density, 1 - density)


def shares(epsilons: Sequence[float], densities: Sequence[float], where: str) -> tuple[float, ...]:
    """Our knob for each parent; 0 where all is kept. Raises MergeError for what mergekit refuses: no room for it."""
    return tuple(_share(epsilon, density, where) for epsilon, density in zip(epsilons, densities, strict=True))


def _share(epsilon: float, density: float, where: str) -> float:
    if not 0 < density < 1:
        return 0.0
    if not 0 <= epsilon < room(density):
        raise MergeError(
            f"{where} has density {density:g} and epsilon {epsilon:g}; wanted epsilon from 0 up to, but not at, "
            f"{room(density):g}, so that density - epsilon and density + epsilon lie in (0, 1). Change one of them."
        )
    return epsilon / room(density)
