"""Weights that are normalised, as shares: their common factor means nothing, so they have one gene fewer than parents.

A parent's share is what it takes of what the parents before it have left, and the last one takes the rest: every point
of the cube means weights that sum to 1, and all such weights but those that leave nothing are meant by one point.
"""

from __future__ import annotations

from collections.abc import Sequence

from evomerge.types import Knob

#: In the place of `weight` among a method's knobs.
SHARE = Knob("share", default=0.5, per_parent=True)


def equal(parent: int, parents: int) -> float:
    """The share at which a parent weighs as much as each of those after it."""
    return 1.0 / (parents - parent)


def weights_of(shares: Sequence[float]) -> tuple[float, ...]:
    """Weights (P,) that sum to 1, of P - 1 shares in [0, 1]."""
    found, rest = [], 1.0
    for share in shares:
        found.append(share * rest)
        rest *= 1.0 - share
    return (*found, rest)


def shares_of(weights: Sequence[float]) -> tuple[float, ...]:
    """The P - 1 shares of weights (P,), none of them negative; parents to whom nothing is left would share equally."""
    rest = [sum(weights[k:]) for k in range(len(weights))]
    return tuple(weights[k] / rest[k] if rest[k] > 0 else equal(k, len(weights)) for k in range(len(weights) - 1))


def normed(weights: Sequence[float]) -> tuple[float, ...] | None:
    """The weights divided by their sum; None if some are negative or all are zero, for which there are no shares."""
    total = sum(weights)
    return tuple(w / total for w in weights) if min(weights) >= 0 and total > 0 else None
