"""How much of the parents' L1 norms random masks leave: looked up by density, not added up anew for every candidate.

An entry is kept if its word lies below that of the density. The masses below a few thousand words are added up once,
and large tensors are cut at those words alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from evomerge.methods.entries import Entries, peak, unit
from evomerge.methods.kernels import Optional, Values
from evomerge.methods.masks import WIDTH, below, columns, entry_words, is_below

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
    if entries.n < LARGE:
        after = entries.totals(Kept(), (tuple(map(below, densities)),), entries.parents)
        yield from zip(entries.each(mass), after, strict=True)
        return
    for table, density in zip(entries.each(drawn_masses, entries.keys[0]), densities, strict=True):
        yield float(table[-1]), float(table[round(min(max(density, 0.0), 1.0) * LEVELS)])


def drawn_masses(entries: Entries, shared_key: int) -> torch.Tensor:
    """float64 (LEVELS + 1,): L1 norm of one parent's entries whose words lie below each level.

    shared_key: that of `entries`; what is learned of a parent is kept by it, for it is another in another run.
    """
    (most,) = entries.each(peak)
    step = unit(most, entries.n)
    found = torch.zeros(LEVELS, dtype=torch.float64, device=entries.device)
    column, rows = columns(entries.device), entries.words()[:, :, None]
    for start, (value,) in entries.blocks(WIDTH):
        steps = (value.abs().double() / step).round()
        steps = F.pad(steps, (0, -len(value) % WIDTH))  # the words of these add nothing
        (word,) = entry_words(column, rows[:, start // WIDTH :][:, : len(steps) // WIDTH], 1)
        found += ((word >> SHIFT) + LEVELS // 2).view(-1).bincount(steps, minlength=LEVELS)
    return torch.cat([found.new_zeros(1), found.cumsum(0)]).cpu() * step


@dataclass(frozen=True)
class Kept:
    """The magnitudes that survive a random mask, P tensors. numbers: the words below which entries are kept.

    ranked: these are for rank 0, and rise by a second row of numbers with each rank (extras: P tensors).
    """

    ranked: bool = False
    random: bool = True

    def __call__(
        self, values: Values, numbers: torch.Tensor, column: Optional, words: Optional, extras: Values
    ) -> list[torch.Tensor]:
        drawn = enumerate(entry_words(column, words, len(values)))
        if self.ranked:
            kept = [word.float() < limit(numbers[:, k], extras[k]) for k, word in drawn]
        else:
            kept = [is_below(word, numbers[0, k]) for k, word in drawn]
        return [torch.where(m, v.abs(), 0.0) for m, v in zip(kept, values, strict=True)]


def limit(line: torch.Tensor, rank: torch.Tensor) -> torch.Tensor:
    """float32: the word below which entries of this rank are kept, rounded as in the kernel."""
    return line[0] + line[1] * rank
