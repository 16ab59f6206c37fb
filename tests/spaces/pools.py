"""Pools of made-up parents, and the spaces that tests of this folder share."""

from __future__ import annotations

from collections.abc import Mapping

from evomerge.methods import get
from evomerge.types import Pool


def pool(
    parents: int = 3, *, blocks: int = 4, base: str | None = "base", stacks: Mapping[str, int] | None = None
) -> Pool:
    names = tuple("abcdefgh"[:parents])
    return Pool(names, tuple(f"sha-{n}" for n in names), base, stacks or {"layers": blocks}, "bfloat16")


def of_method(method: str) -> Pool:
    """A pool with as many parents as the method takes, three if it takes any."""
    low, high = get(method).arity
    return pool(3 if high is None else low)


def numeric(method: str) -> list[str]:
    """Names of a method's knobs that are numbers."""
    return [k.name for k in get(method).knobs if k.scale != "choice"]
