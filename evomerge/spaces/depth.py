"""Depth: the blocks of a merged model, and how much each layer group's gene counts in each of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evomerge.errors import ConfigError
from evomerge.types import Pool, Recipe


def blocks_of(pool: Pool) -> list[tuple[str, int]]:
    """(stack, block) of every block of the merged model, in order."""
    return [(stack, block) for stack, blocks in pool.stacks.items() for block in range(blocks)]


def in_place(pool: Pool, recipe: Recipe) -> bool:
    """Whether each slot draws on its own block of all of the recipe's parents, so that depth is as it was."""
    wanted = [tuple((p, *where) for p in range(len(recipe.parents))) for where in blocks_of(pool)]
    return [slot.sources for slot in recipe.slots] == wanted and all(slot.scale == 1.0 for slot in recipe.slots)


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


def solved(shares: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The groups' values (groups, n) of which a matrix `shares` makes the blocks' values `rows`, (blocks, n).

    Where groups mix, by least squares; rows that no values make are not refused here.
    """
    if np.isin(shares, (0, 1)).all():
        first: np.ndarray = rows[shares.argmax(axis=0)]
        return first
    found: np.ndarray = np.linalg.lstsq(shares, rows, rcond=None)[0]
    return np.round(found, 12)  # LAPACK's last bits differ between machines


def nearest(shares: np.ndarray) -> np.ndarray:
    """The matrix in which each block belongs wholly to the group of its largest share: for values that cannot mix."""
    found: np.ndarray = np.eye(shares.shape[1])[shares.argmax(axis=1)]
    return found


def _knots(knots: int, blocks: int) -> np.ndarray:
    if knots == 1 or blocks == 1:
        return np.eye(knots)[np.zeros(blocks, dtype=int)]
    at = np.linspace(0, knots - 1, blocks)[:, None]  # (blocks, 1), in units of knots
    found: np.ndarray = np.clip(1 - np.abs(at - np.arange(knots)), 0, 1)
    return found


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
