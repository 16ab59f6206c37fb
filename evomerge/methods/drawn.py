"""How much of the parents' L1 norms random masks leave: looked up by density, not added up anew for every candidate.

An entry is kept if its word lies below that of the density. The masses below each word of a small tensor are added up
once; those below a few thousand words of a large one, which is cut at those words alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

from evomerge.methods.entries import Entries, peak, unit
from evomerge.methods.kernels import Optional, Values
from evomerge.methods.magnitudes import Array
from evomerge.methods.masks import WIDTH, below, columns, entry_words

#: Densities that are told apart where masses are looked up: one is rounded by 1/8192 at most.
LEVELS = 1 << 12
#: Words of a level are equal but for so many bits.
SHIFT = 24 - 12
#: Tensors from so many entries on are looked up: there a table takes less than the tensor.
LARGE = 1 << 16


def level(density: float) -> float:
    """The density that a large tensor is cut at: the next of LEVELS, and none or all only if so asked."""
    if density <= 0 or density >= 1:
        return density
    return min(max(round(density * LEVELS), 1), LEVELS - 1) / LEVELS


def mass(entries: Entries) -> float:
    """L1 norm of one parent's values, in float64."""
    return sum(float(value.abs().sum(dtype=torch.float64)) for _, (value,) in entries.blocks())


def norms(entries: Entries, densities: Sequence[float]) -> Iterator[tuple[float, float]]:
    """L1 norm of each parent and of what its mask leaves of it. densities: of large tensors only `level`s."""
    for drawn, density in zip(entries.each(drawn_masses, entries.keys[0]), densities, strict=True):
        yield drawn.below(1.0), drawn.below(density)


class Masses(NamedTuple):
    """Words of one parent's entries, int32 (n,), ascending, and the L1 norm before each and of all, float64 (n + 1,).

    Of large tensors n is LEVELS, and the words are the least ones of each level.
    """

    words: Array
    before: Array

    def below(self, density: float) -> float:
        """L1 norm of the entries that are kept."""
        return float(self.before[self.words.searchsorted(self.words.dtype.type(below(density)))])


def drawn_masses(entries: Entries, shared_key: int) -> Masses:
    """Of one parent. shared_key: that of `entries`; what is learned of a parent is kept by it, for runs differ."""
    (most,) = entries.each(peak)
    step = unit(most, entries.n)  # sums of whole numbers of it are exact in any order
    words, steps = (_one_by_one if entries.n < LARGE else _by_level)(entries, step)
    return Masses(words.cpu().numpy(), F.pad(steps.cumsum(0), (1, 0)).cpu().numpy() * step)


def _one_by_one(entries: Entries, step: float) -> tuple[torch.Tensor, torch.Tensor]:
    ((word, steps),) = _drawn(entries, step, -(-entries.n // WIDTH) * WIDTH)
    words, order = word.sort()
    return words, steps[order]


def _by_level(entries: Entries, step: float) -> tuple[torch.Tensor, torch.Tensor]:
    levels = torch.arange(LEVELS, dtype=torch.int32, device=entries.device) - LEVELS // 2
    found = torch.zeros(LEVELS, dtype=torch.float64, device=entries.device)
    for word, steps in _drawn(entries, step, WIDTH):
        found += ((word >> SHIFT) + LEVELS // 2).bincount(steps, minlength=LEVELS)
    return levels << SHIFT, found


def _drawn(entries: Entries, step: float, width: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Words and magnitudes, as whole numbers of the step, block by block; the last one is filled up with zeros."""
    column, rows = columns(entries.device), entries.words()[:, :, None]
    for start, (value,) in entries.blocks(width):
        steps = F.pad((value.abs().double() / step).round(), (0, -len(value) % WIDTH))
        (word,) = entry_words(column, rows[:, start // WIDTH :][:, : len(steps) // WIDTH], 1)
        yield word.view(-1), steps


@dataclass(frozen=True)
class Kept:
    """The magnitudes that survive a random mask, P tensors. extras: P tensors of ranks.

    numbers: the word below which an entry of rank 0 is kept, and by how much that rises with each rank.
    """

    random: bool = True

    def __call__(
        self, values: Values, numbers: torch.Tensor, column: Optional, words: Optional, extras: Values
    ) -> list[torch.Tensor]:
        drawn = enumerate(entry_words(column, words, len(values)))
        kept = [word.float() < limit(numbers[:, k], extras[k]) for k, word in drawn]
        return [torch.where(m, v.abs(), 0.0) for m, v in zip(kept, values, strict=True)]


def limit(line: torch.Tensor, rank: torch.Tensor) -> torch.Tensor:
    """float32: the word below which entries of this rank are kept, rounded as in the kernel."""
    return line[0] + line[1] * rank
