"""Layer groups: how much each group's gene counts in each block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evomerge.errors import ConfigError


def matrix(groups: int | str | Sequence[Sequence[int]], blocks: int, *, smooth: bool = False) -> np.ndarray:
    """float64 (blocks, groups), rows sum to 1. groups: a number, "per_layer", or [first, last) ranges.

    With `smooth` the number is that of knots spread over depth, and blocks between two knots mix them linearly.
    """
    if isinstance(groups, str):
        if groups != "per_layer":
            raise ConfigError(
                f"space.groups is '{groups}'; wanted a number, per_layer, or a list of [first, last) ranges."
            )
        return np.eye(blocks)
    if not isinstance(groups, int):
        return _ranges([tuple(r) for r in groups], blocks)
    if not 1 <= groups <= blocks:
        raise ConfigError(f"space.groups is {groups} for a model of {blocks} blocks; wanted 1 to {blocks}.")
    return _knots(groups, blocks) if smooth else np.eye(groups)[np.arange(blocks) * groups // blocks]


def stretch(shares: np.ndarray, group: int) -> tuple[float, float]:
    """Where a group's share is the largest, as parts of the depth: first and last block's borders. shares: a matrix."""
    mine = np.flatnonzero(shares.argmax(axis=1) == group)
    return float(mine.min()) / len(shares), float(mine.max() + 1) / len(shares)


def _knots(knots: int, blocks: int) -> np.ndarray:
    if knots == 1 or blocks == 1:
        return np.eye(knots)[np.zeros(blocks, dtype=int)]
    at = np.linspace(0, knots - 1, blocks)[:, None]  # (blocks, 1), in units of knots
    return np.clip(1 - np.abs(at - np.arange(knots)), 0, 1)


def _ranges(ranges: list[tuple[int, ...]], blocks: int) -> np.ndarray:
    owner = [[i for i, r in enumerate(ranges) if len(r) == 2 and r[0] <= b < r[1]] for b in range(blocks)]
    wrong = [b for b, who in enumerate(owner) if len(who) != 1]
    outside = [r for r in ranges if len(r) != 2 or not 0 <= r[0] < r[1] <= blocks]
    if outside:
        raise ConfigError(
            f"space.groups has {list(outside[0])} for a model of {blocks} blocks; wanted [first, last) with "
            f"0 <= first < last <= {blocks}."
        )
    if wrong:
        raise ConfigError(
            f"space.groups {ranges} cover block {wrong[0]} {len(owner[wrong[0]])} times; wanted [first, last) ranges "
            f"that cover each of the {blocks} blocks once."
        )
    return np.eye(len(ranges))[[who[0] for who in owner]]
