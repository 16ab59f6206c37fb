"""The least time that building can take: the bytes that must move, at the bandwidth that streams over memory reach."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import torch

from evomerge import build
from evomerge.models.family import Family
from evomerge.types import Recipe

#: float32 entries of a buffer, 256 MB: several times what lies in caches.
LENGTH = 1 << 26
CPU = torch.device("cpu")


class Streams:
    """Buffers to stream over, with as many threads as torch has."""

    def __init__(self, length: int = LENGTH) -> None:
        self._a, self._b, self._c = (torch.full((length,), float(k)) for k in range(3))

    def bandwidth(self, repeats: int = 3) -> float:
        """Bytes a second, the best of a copy (1 read, 1 written) and a triad (2 read, 1 written)."""
        copy = least_seconds(lambda: self._a.copy_(self._b), repeats)
        triad = least_seconds(lambda: torch.add(self._b, self._c, alpha=0.5, out=self._a), repeats)
        return max(2 * self._a.nbytes / copy, 3 * self._a.nbytes / triad)


def least_seconds(work: Callable[[], object], repeats: int) -> float:
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def bytes_moved(recipe: Recipe, family: Family, targets: Mapping[str, torch.Tensor]) -> int:
    """Every input of a candidate read once and the model written once; of an adapter, its factors."""
    planned = build.layers(recipe)
    total = 0
    for name, target in targets.items():
        merging = build.resolve(recipe, planned, family, name)
        inputs = {*merging.pairs, *([merging.base] if merging.base else [])}
        total += target.nbytes + sum(_bytes(family, *pair) for pair in inputs)
    return total


def _bytes(family: Family, digest: str, name: str) -> int:
    if not family.is_adapter(digest):
        return family.home(digest, name, CPU).nbytes
    if not family.touches(digest, name):
        return 0
    factors = family.factors(digest, name, CPU)
    return sum(f.nbytes for f in factors) if factors else 4 * math.prod(family.shapes[name])
