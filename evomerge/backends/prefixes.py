"""Which token sequences begin alike for long enough that their beginning is worth computing once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

#: Shared beginnings are cut to a multiple of this. Questions that begin alike by chance would otherwise lengthen the
#: few-shot prefix a little, differently for every subset of items, and its cache could not be kept from rung to rung.
GRAIN = 8
LARGEST = 4096  # sequences in a group: to compute its beginning twice costs nothing by then


def groups(sequences: Sequence[np.ndarray], launch: int) -> list[tuple[list[int], int]]:
    """Places of sequences that share their first `shared` tokens, and `shared`, such that most is saved.

    A group of n saves (n - 1) * shared tokens and costs `launch`. What is in no group comes last, with 0 shared.
    Every sequence keeps at least one token of its own. Sequences are int32 (n >= 1,).
    """
    if not len(sequences):
        return []
    order = sorted(range(len(sequences)), key=lambda i: sequences[i].astype(">i4").tobytes())
    shared = np.array([common(sequences[a], sequences[b]) for a, b in pairwise(order)], np.int64)
    found: list[tuple[list[int], int]] = []
    alone: list[int] = []
    for start, stop in _runs(shared, launch):
        if stop - start > 1:
            found.append((order[start:stop], int(shared[start : stop - 1].min())))
        else:
            alone.append(order[start])
    return found + ([(alone, 0)] if alone else [])


def common(a: np.ndarray, b: np.ndarray) -> int:
    """Tokens at the beginning of both, leaving each at least one of its own; a multiple of GRAIN."""
    length = min(len(a), len(b)) - 1
    different = np.flatnonzero(a[:length] != b[:length])
    return int(different[0] if len(different) else length) // GRAIN * GRAIN


def _runs(shared: np.ndarray, launch: int) -> list[tuple[int, int]]:
    """The cut of a sorted list into runs that saves most. shared: int64 (n - 1,), between neighbours.

    saved[k] is the best of the first k: the last of them alone, or in a run that begins at any place before.
    """
    n = len(shared) + 1
    saved, begins = np.zeros(n + 1), np.arange(-1, n)
    for stop in range(1, n + 1):
        saved[stop] = saved[stop - 1]
        first = max(0, stop - LARGEST)
        least = np.minimum.accumulate(shared[first : stop - 1][::-1])[::-1]  # (stop - 1 - first,)
        if len(least):
            worth = saved[first : stop - 1] + least * np.arange(stop - 1 - first, 0, -1) - launch
            if worth.max() > saved[stop]:
                saved[stop], begins[stop] = worth.max(), first + worth.argmax()
    cuts = [n]
    while cuts[-1] > 0:
        cuts.append(int(begins[cuts[-1]]))
    return list(zip(cuts[:0:-1], cuts[-2::-1], strict=True))
