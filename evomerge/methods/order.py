"""How many entries of a tensor survive by magnitude: cuts, kept masses and quantiles for any count, without a sort."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from evomerge.methods.entries import Entries
from evomerge.methods.magnitudes import Array, Table, magnitudes
from evomerge.methods.masks import END, WIDTH, below, tie_word

#: Tensors of up to so many entries keep exactly as many as asked; larger ones in expectation.
EXACT = 1 << 16


@dataclass(frozen=True)
class Cut:
    """What is kept of one parent: entries above `magnitude`, and of its equals those with a tie word below `word`."""

    magnitude: float
    word: float = math.inf

    @property
    def numbers(self) -> tuple[float, float, float]:
        """As a kernel takes it: the magnitude, the next float32 above, the word."""
        return self.magnitude, float(np.nextafter(np.float32(self.magnitude), np.float32(np.inf))), min(self.word, END)

    @property
    def splits(self) -> bool:
        """Whether some entries of this magnitude are kept and others are not."""
        return math.isfinite(self.word)


EVERYTHING, NOTHING = Cut(0.0), Cut(math.inf)


def largest(entries: Entries, keep: int, *, exact: bool | None = None) -> Cut:
    """The cut that keeps the `keep` largest magnitudes of one parent; of those equal to the least, some by their words.

    exact: whether just so many are kept, or in expectation; None: the first up to 2**16 entries. If two entries have
    the very word that should part them (it has 24 bits: once in thousands of cuts), one more or less is
    kept. All that are kept of few are kept of more.
    """
    if keep <= 0 or keep >= entries.n:
        return NOTHING if keep <= 0 else EVERYTHING
    table = _around(entries, keep)
    place = table.place(keep)
    magnitude, larger = float(table.sizes[place]), table.larger(place)
    some, equals = keep - larger, int(table.reach[place]) - larger
    if some == equals:
        return Cut(magnitude)
    if exact or (exact is None and entries.n <= EXACT):
        (words,) = entries.each(_words_in_order, entries.keys[1])
        return Cut(magnitude, _parting(words[larger : larger + equals], some))
    return Cut(magnitude, below(some / equals))


def mass(entries: Entries, keep: int) -> float:
    """L1 norm of the `keep` largest entries of one parent, in float64."""
    if keep <= 0:
        return 0.0
    keep = min(keep, entries.n)
    table = _around(entries, keep)
    place = table.place(keep)
    return float(table.masses[place]) - float(table.sizes[place]) * (int(table.reach[place]) - keep)


def size(entries: Entries, rank: int) -> float:
    """The rank-th largest magnitude of one parent, 1 for the largest and n for the smallest."""
    table = _around(entries, rank)
    return float(table.sizes[table.place(rank)])


def _around(entries: Entries, keep: int) -> Table:
    (found,) = entries.each(magnitudes)
    return found.around(entries, keep)


def _words_in_order(entries: Entries, key: int) -> Array:
    """int32 (n,): the tie words of one parent's entries, from its largest magnitude down; those of equals ascend.

    key: the parent's, for what is learned of it is kept from run to run, and words are another run's.
    """
    (values,) = entries.read(0, entries.n, entries.chosen)
    at = torch.arange(entries.n, device=entries.device)
    words = tie_word((at % WIDTH).to(torch.int32), entries.words_of(0)[at // WIDTH]).cpu().numpy()
    return words[np.lexsort((words, -values.abs().cpu().numpy()))]  # type: ignore[no-any-return]


def _parting(words: Array, some: int) -> float:
    """The word below which `some` of these ascending words lie, or nearly so many if equals stand in the way."""
    word = words[some]
    fewer, more = np.searchsorted(words, word), np.searchsorted(words, word, side="right")
    return float(word if some - fewer <= more - some else word + 1)
