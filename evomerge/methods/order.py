"""How many entries of a tensor survive by magnitude: cuts, kept masses and quantiles for any count, without a sort."""

from __future__ import annotations

import math
import struct
from typing import NamedTuple

import numpy as np
import torch

from evomerge.methods.entries import Entries
from evomerge.methods.magnitudes import INFINITY, Array, Table, magnitudes
from evomerge.methods.masks import END, WIDTH, below, tie_word

#: Tensors of up to so many entries keep exactly as many as asked; larger ones in expectation.
EXACT = 1 << 16
_FLOAT, _BITS = struct.Struct("f"), struct.Struct("I")


class Cut(NamedTuple):
    """What is kept of one parent: entries above `magnitude`, and of its equals those with a tie word below `word`."""

    magnitude: float
    word: float = math.inf

    @property
    def numbers(self) -> tuple[float, float, float]:
        """As a kernel takes it: the magnitude, the next float32 above, the word."""
        return self.magnitude, _next(self.magnitude), min(self.word, END)

    @property
    def splits(self) -> bool:
        """Whether some entries of this magnitude are kept and others are not."""
        return math.isfinite(self.word)


def _next(size: float) -> float:
    """The next float32 above one of 0 or more."""
    (bits,) = _BITS.unpack(_FLOAT.pack(size))  # numpy's nextafter takes as long as a small tensor's merge
    (found,) = _FLOAT.unpack(_BITS.pack(min(bits + 1, INFINITY)))
    return float(found)


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
    magnitude, larger, reach = table.at(table.place(keep))
    if keep == reach:
        return Cut(magnitude)
    if exact or (exact is None and entries.n <= EXACT):
        (words,) = entries.each(_words_in_order, entries.keys[0])
        return Cut(magnitude, _parting(words[larger:reach], keep - larger))
    return Cut(magnitude, below((keep - larger) / (reach - larger)))


def mass(entries: Entries, keep: int) -> float:
    """L1 norm of the `keep` largest entries of one parent, in float64."""
    if keep <= 0:
        return 0.0
    keep = min(keep, entries.n)
    table = _around(entries, keep)
    place = table.place(keep)
    magnitude, _, reach = table.at(place)
    return float(table.masses[place]) - magnitude * (reach - keep)


def size(entries: Entries, rank: int) -> float:
    """The rank-th largest magnitude of one parent, 1 for the largest and n for the smallest."""
    table = _around(entries, rank)
    return table.at(table.place(rank))[0]


def _around(entries: Entries, keep: int) -> Table:
    (found,) = entries.each(magnitudes)
    return found.around(entries, keep)


def _words_in_order(entries: Entries, key: int) -> Array:
    """int32 (n,): the tie words of one parent's entries, from its largest magnitude down; those of equals ascend.

    key: that of the words, for what is learned of a parent is kept from run to run, and words are another run's.
    """
    (values,) = entries.read(0, entries.n, entries.chosen)
    at = torch.arange(entries.n, device=entries.device)
    words = tie_word((at % WIDTH).to(torch.int32), entries.shared_words()[at // WIDTH]).cpu().numpy()
    return words[np.lexsort((words, -values.abs().cpu().numpy()))]


def _parting(words: Array, some: int) -> float:
    """The word below which `some` of these ascending words lie, or nearly so many if equals stand in the way."""
    word = words[some]
    fewer, more = np.searchsorted(words, word), np.searchsorted(words, word, side="right")
    return float(word if some - fewer <= more - some else word + 1)
