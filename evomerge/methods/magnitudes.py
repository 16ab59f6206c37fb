"""The magnitudes of one parent's entries in order: a table of all that occur, or of ranges where they are too many.

Differences of 16-bit tensors take few distinct values (0.4 to 1% of the entries), so a table of them is small and
answers every question of rank. Those of float32 tensors hardly repeat: there only the upper 16 bits are counted, and
the one range that a question falls into is looked at again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch

from evomerge.errors import MergeError
from evomerge.methods.entries import Entries

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
#: Entries looked at together: few enough for a CPU's cache, and enough to outnumber their distinct values.
STRETCH = {"cpu": 1 << 17}
LARGE_STRETCH = 1 << 24
#: Distinct values that are always few enough for a table; of more entries, this share.
SMALL, SHARE = 1 << 16, 1 / 4
#: A run is its value, 31 bits, above its count, 33 bits: runs sort as one integer.
COUNT = 33
#: The bits of infinity; those of NaN are larger.
INFINITY = 0x7F800000
#: Ranges of which the tables are kept, the last that were asked for.
KEPT = 8


@dataclass(frozen=True, eq=False)
class Table:
    """Distinct magnitudes from the largest down, and how many entries reach each of them.

    sizes: float32 (D,). reach: int (D,), entries at least as large. above, mass_above: the number of the entries that
    are larger than any of these, and their L1 norm.
    """

    sizes: Array
    reach: Array
    above: int = 0
    mass_above: float = 0.0

    def around(self, entries: Entries, keep: int) -> Table:
        return self

    def place(self, keep: int) -> int:
        """Index of the keep-th largest magnitude, counting from 1 and from above."""
        return _place(self.reach, keep)

    def at(self, place: int) -> tuple[float, int, int]:
        """The magnitude at this index, how many entries are larger, and how many reach it."""
        reach = self.reach
        return self.sizes.item(place), reach.item(place - 1) if place else self.above, reach.item(place)

    @cached_property
    def masses(self) -> Array:
        """float64 (D,): L1 norm of the entries that reach each magnitude."""
        counts = np.diff(self.reach, prepend=self.above)
        return self.mass_above + np.cumsum(counts * self.sizes.astype(np.float64))


@dataclass(frozen=True, eq=False)
class Ranges:
    """Magnitudes by the upper 16 bits of their float32, from the largest down, and how many entries reach each range.

    keys: int32 (D,), those bits. reach: int (D,). masses: float64 (D,), L1 norm of the entries that reach each.
    """

    keys: Array
    reach: Array
    masses: Array
    tables: dict[int, Table] = field(default_factory=dict, repr=False)

    def around(self, entries: Entries, keep: int) -> Table:
        """The table of the range of the keep-th largest magnitude: one pass over the entries, unless it was kept."""
        place = _place(self.reach, keep)
        table = self.tables.pop(place, None) or self._table(entries, place)
        self.tables[place] = table  # the last that was asked for is the last in the dict
        if len(self.tables) > KEPT:
            del self.tables[next(iter(self.tables))]
        return table

    def _table(self, entries: Entries, place: int) -> Table:
        runs = _collect(_sharing(bits, int(self.keys[place]) << 16) for bits in _stretches(entries))
        larger = (int(self.reach[place - 1]), float(self.masses[place - 1])) if place else (0, 0.0)
        return _as_table(runs, int(self.reach[place]), *larger)


def _place(reach: Array, keep: int) -> int:
    return int(reach.searchsorted(reach.dtype.type(keep)))  # of the same dtype, or the array is copied


def magnitudes(entries: Entries) -> Table | Ranges:
    """The magnitudes of one parent: a fact for `Entries.each`. Raises MergeError for infinite entries and NaN.

    A table takes 8 bytes for each distinct value (16 once masses are asked for), at most 2 per entry of large tensors.
    """
    runs = _collect(_stretches(entries), sparing=True)
    if runs is None:
        return _ranges(entries)
    _demand_finite(entries, int(runs[-1] >> COUNT))
    return _as_table(runs, entries.n)


def _demand_finite(entries: Entries, largest: int) -> None:
    if largest >= INFINITY:
        raise MergeError(
            f"parent {entries.chosen[0] + 1} has infinite or NaN entries in a tensor of shape {entries.shape}, or an "
            "infinite difference from the base, and finite ones are wanted. Leave it out, or repair its files."
        )


def _stretches(entries: Entries) -> Iterator[torch.Tensor]:
    """The magnitudes' bits, int32 (entries,), which order as the magnitudes do."""
    size = STRETCH.get(entries.device.type, LARGE_STRETCH)
    for start in range(0, entries.n, size):
        (values,) = entries.read(start, min(start + size, entries.n), entries.chosen)
        yield values.view(torch.int32) & 0x7FFFFFFF


def _sharing(bits: torch.Tensor, upper: int) -> torch.Tensor:
    """Those with the upper 16 bits of this one."""
    if bits.device.type != "cpu":
        return bits[(bits ^ upper) < 1 << 16]
    several = bits.numpy()  # four times as fast as torch here
    return torch.from_numpy(several[(several ^ upper) < 1 << 16])


def _value(bits: Array) -> Array:
    return np.ascontiguousarray(bits, dtype=np.int32).view(np.float32)


# ---------------------------------------------------------------- all values


def _collect(stretches: Iterable[torch.Tensor], sparing: bool = False) -> Array | None:
    """uint64 (D,): the runs of all stretches, ascending; None as soon as they are too many, if `sparing`."""
    merged, parts, seen = np.empty(0, np.uint64), [], 0
    for bits in stretches:
        parts.append(_runs(bits))
        seen += len(bits)
        if sum(map(len, parts)) > max(SMALL, len(merged)):
            merged, parts = _merged([merged, *parts]), []
            if sparing and _many(merged, seen):
                return None
    merged = _merged([merged, *parts])
    return None if sparing and _many(merged, seen) else merged


def _many(runs: Array, entries: int) -> bool:
    return len(runs) > max(SMALL, SHARE * entries)


def _runs(bits: torch.Tensor) -> Array:
    if bits.device.type != "cpu":
        values, sizes = torch.unique(bits, return_counts=True)
        return _packed(values.cpu().numpy(), sizes.cpu().numpy())
    ordered = bits.numpy()  # a copy already; numpy sorts integers several times as fast as torch does
    ordered.sort()
    starts = _starts(ordered)
    return _packed(ordered[starts], np.diff(starts, append=len(ordered)))


def _merged(parts: list[Array]) -> Array:
    """Runs of equal values joined into one."""
    runs = np.sort(np.concatenate(parts))
    values, starts = runs >> COUNT, _starts(runs >> COUNT)
    counts = np.add.reduceat(runs & ((1 << COUNT) - 1), starts) if len(runs) else runs
    return _packed(values[starts], counts)


def _starts(ordered: Array) -> Array:
    """Where runs of equal values begin."""
    changes = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    return np.concatenate(([0], changes)) if len(ordered) else changes


def _packed(values: Array, counts: Array) -> Array:
    # only zeros can be 2**33 in number: their count is not needed
    return values.astype(np.uint64) << COUNT | counts.astype(np.uint64) & ((1 << COUNT) - 1)


def _as_table(runs: Array | None, up_to: int, above: int = 0, mass_above: float = 0.0) -> Table:
    """The table of these runs; `up_to` entries reach the least of them."""
    assert runs is not None
    runs = runs[::-1]
    reach = np.cumsum(runs & ((1 << COUNT) - 1), dtype=np.int64) + above
    reach[-1:] = up_to
    return Table(_value(runs >> COUNT), reach.astype(_integers(up_to)), above, mass_above)


def _integers(largest: int) -> Any:
    return np.int32 if largest < 2**31 else np.int64


# ---------------------------------------------------------------- ranges


def _ranges(entries: Entries) -> Ranges:
    counts = torch.zeros(1 << 15, dtype=torch.int64, device=entries.device)
    lower = torch.zeros(1 << 15, dtype=torch.float64, device=entries.device)
    for bits in _stretches(entries):
        keys = bits >> 16
        counts += torch.bincount(keys, minlength=len(counts))
        lower += torch.bincount(keys, (bits & 0xFFFF).double(), minlength=len(lower))  # integers: exact in any order
    keys = counts.nonzero().flatten().flip(0)
    found, least = counts[keys].cpu().numpy(), (keys.cpu().numpy() << 16).astype(np.int32)
    _demand_finite(entries, int(least[0]))
    size = _value(least).astype(np.float64)
    step = _value(least + 1) - size  # between neighbours: all magnitudes of a range have one exponent
    masses = np.cumsum(found * size + lower[keys].cpu().numpy() * step)
    return Ranges(least >> 16, np.cumsum(found).astype(_integers(entries.n)), masses)
