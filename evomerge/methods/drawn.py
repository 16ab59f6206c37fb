"""How much of the parents' L1 norms random masks leave, by rank of the words and not by a look at every entry.

An entry is kept if its word lies below that of the density. The masses below a few thousand words are added up once,
and large tensors are cut at those words alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from evomerge.methods.entries import Entries
from evomerge.methods.kernels import Optional, Values
from evomerge.methods.masks import WIDTH, below, columns, entry_word, is_below, shared_word

#: Densities that are told apart where masses are looked up; far fewer than the square root of such a tensor's entries
#: would show.
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


def kept_masses(entries: Entries, densities: Sequence[float]) -> tuple[float, ...]:
    """L1 norm of what each parent's mask leaves, in float64. densities: of large tensors only `level`s."""
    if entries.n < LARGE:
        return entries.totals(Kept(), (tuple(map(below, densities)),), entries.parents)
    tables = entries.each(drawn_masses, entries.keys[0])
    places = (round(min(max(p, 0.0), 1.0) * LEVELS) for p in densities)
    return tuple(float(table[place]) for table, place in zip(tables, places, strict=True))


def drawn_masses(entries: Entries, shared_key: int) -> torch.Tensor:
    """float64 (LEVELS + 1,): L1 norm of one parent's entries whose words lie below each level.

    shared_key: that of `entries`; what is learned of a parent is kept by it, for it is another in another run.
    """
    found = torch.zeros(LEVELS, dtype=torch.float64, device=entries.device)
    column, rows = columns(entries.device), entries.words()[:, :, None]
    for start, (value,) in entries.blocks(WIDTH):
        size = F.pad(value.abs().double(), (0, -len(value) % WIDTH))  # no word of theirs adds to a mass
        words = rows[:, start // WIDTH :][:, : len(size) // WIDTH]
        level = (entry_word(shared_word(column, words[0]), words[1]) >> SHIFT) + LEVELS // 2
        found += level.view(-1).bincount(size, minlength=LEVELS)
    return torch.cat([found.new_zeros(1), found.cumsum(0)]).cpu()


@dataclass(frozen=True)
class Kept:
    """The magnitudes that survive a random mask, P tensors. numbers: the words below which entries are kept."""

    random: bool = True

    def __call__(
        self, values: Values, numbers: torch.Tensor, column: Optional, words: Optional, extras: Values
    ) -> list[torch.Tensor]:
        assert column is not None and words is not None
        shared = shared_word(column, words[0])
        drawn = [entry_word(shared, words[k + 1]) for k in range(len(values))]
        return [
            torch.where(is_below(u, numbers[0, k]), v.abs(), 0.0)
            for k, (u, v) in enumerate(zip(drawn, values, strict=True))
        ]
