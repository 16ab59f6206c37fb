"""One tensor of all parents as a method sees it: read in blocks, and what was learned of it kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch

from evomerge.errors import MergeError
from evomerge.methods.masks import WIDTH, row_words
from evomerge.methods.settled import Measure

T = TypeVar("T")
CPU = torch.device("cpu")
#: Entries of a block: float32 copies of all parents stay in the cache of a CPU, and fill a GPU.
BLOCK = {"cpu": 1 << 16}
LARGE_BLOCK = 1 << 22
#: Whole numbers of so many bits are exact in float64.
EXACT = 53


@dataclass(eq=False)
class Entries:
    """The entries of P parents (or of their differences from the base) at the places of one tensor of this shape.

    read(start, stop, parents) gives them at these row-major positions for these of the parents: tensors, float32
    (stop - start,), not to be written to. chosen: those of the parents that are looked at, P numbers. keys: what the
    random words of a place depend on, one shared by all parents and one for each. What `once` and `each` have computed
    stays in `joint` and, parent by parent, in `own`. ground(start, stop): float32 entries of the base, where there is
    one. pick, adder: faster ways to `picked` and `totals`. model: the entries of all tensors of these parents, and
    `model_learned` what a method keeps of those.
    """

    shape: tuple[int, ...]
    read: Callable[[int, int, Sequence[int]], Sequence[torch.Tensor]]
    keys: tuple[int, ...]
    device: torch.device = CPU
    joint: dict[Any, Any] = field(default_factory=dict)
    own: tuple[dict[Any, Any], ...] = ()
    chosen: Sequence[int] = ()
    ground: Callable[[int, int], torch.Tensor] | None = None
    model: Callable[[], Sequence[Entries]] | None = None
    pick: Callable[[torch.Tensor, Sequence[int]], list[torch.Tensor]] | None = None
    adder: Callable[..., tuple[float, ...]] | None = None
    model_learned: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.own = self.own or tuple({} for _ in self.keys[1:])
        self.chosen = self.chosen or range(len(self.own))

    @classmethod
    def of(cls, values: torch.Tensor, keys: Sequence[int] | None = None) -> Entries:
        """Entries that lie in memory: float32 (P, *shape)."""
        flat = values.reshape(len(values), -1)
        keys = range(len(values) + 1) if keys is None else keys
        return cls(
            tuple(values.shape[1:]), lambda a, b, which: [flat[k, a:b] for k in which], tuple(keys), values.device
        )

    @property
    def parents(self) -> int:
        return len(self.keys) - 1

    @cached_property
    def n(self) -> int:
        return math.prod(self.shape)

    @property
    def width(self) -> int:
        """Entries of a row, the last dimension; a tensor of one dimension is one row."""
        return self.shape[-1] if self.shape else 1

    def blocks(self, width: int = 1) -> Iterator[tuple[int, Sequence[torch.Tensor]]]:
        """(start, P tensors (entries,)) from first to last, each a whole number of rows of `width` entries."""
        size = max(1, BLOCK.get(self.device.type, LARGE_BLOCK) // width) * width
        for start in range(0, self.n, size):
            yield start, self.read(start, min(start + size, self.n), self.chosen)

    def once(self, fact: Callable[..., T], *args: Any) -> T:
        """fact(self, *args), computed once for these parents together."""
        key = (fact, args)
        if key not in self.joint:
            self.joint[key] = fact(self, *args)
        return self.joint[key]  # type: ignore[no-any-return]

    def each(self, fact: Callable[..., T], *args: Any) -> tuple[T, ...]:
        """fact(alone(k), *args) for every parent, computed once for each, whichever parents stand beside it."""
        key = (fact, args)
        for k in [k for k, own in enumerate(self.own) if key not in own]:
            self.own[k][key] = fact(self.alone(k), *args)
        return tuple([own[key] for own in self.own])

    def alone(self, k: int) -> Entries:
        """The entries of one parent."""
        return self._alone[k]

    @cached_property
    def _alone(self) -> list[Entries]:
        return [
            Entries(self.shape, self.read, (self.keys[0], key), self.device, {}, (own,), (chosen,), self.ground)
            for key, own, chosen in zip(self.keys[1:], self.own, self.chosen, strict=True)
        ]

    def picked(self, at: torch.Tensor) -> list[torch.Tensor]:
        """The entries at these positions, ascending int64 (m,): P tensors, float32 (m,)."""
        if self.pick is not None:
            return self.pick(at, self.chosen)
        parts = []
        for start, values in self.blocks():
            low, high = torch.searchsorted(at, torch.tensor([start, start + len(values[0])], device=at.device)).tolist()
            parts.append([value[at[low:high] - start] for value in values])
        return [torch.cat(pieces) for pieces in zip(*parts, strict=True)]

    def totals(
        self, measure: Measure, numbers: tuple[tuple[float, ...], ...], m: int, extras: Sequence[torch.Tensor] = ()
    ) -> tuple[float, ...]:
        """The sums over all entries, in float64, of the m tensors that a measure returns: one pass.

        extras: tensors of all entries.
        """
        if self.adder is not None:
            return self.adder(measure, numbers, m, extras)
        total = torch.zeros(m, dtype=torch.float64, device=self.device)
        row = torch.tensor(numbers, dtype=torch.float32, device=self.device)
        for start, values in self.blocks():
            at = torch.arange(start, start + len(values[0]), device=self.device)
            column, words = (
                ((at % WIDTH).to(torch.int32), self.words()[:, at // WIDTH]) if measure.random else (None, None)
            )
            found = measure(values, row, column, words, [extra.reshape(-1)[at] for extra in extras])
            total += torch.stack([part.sum(dtype=torch.float64) for part in found])
        return tuple(total.tolist())

    def everywhere(self) -> Sequence[Entries]:
        """The entries of all tensors of these parents. Raises MergeError where there is one tensor alone."""
        if self.model is None:
            raise MergeError("a whole model is needed, and one tensor is given. Use the method's scope 'tensor'.")
        return self.model()

    def words(self) -> torch.Tensor:
        """int32 (P + 1, rows): see `masks`. Each parent's are kept with what else is known of it."""
        own = [self._words(*of) for of in zip(self.own, self.keys[1:], strict=True)]
        return torch.stack([self.shared_words(), *own])

    def shared_words(self) -> torch.Tensor:
        """int32 (rows,): the row words that all parents share."""
        return self._words(self.joint, self.keys[0])

    def _words(self, kept: dict[Any, Any], key: int) -> torch.Tensor:
        if ("words", key) not in kept:
            kept["words", key] = row_words(key, self.n, self.device)
        return kept["words", key]  # type: ignore[no-any-return]


def peak(entries: Entries) -> float:
    """Largest |value| of one parent; inf where one is NaN."""
    return max((extreme(value) for _, (value,) in entries.blocks()), default=0.0)


def extreme(value: torch.Tensor) -> float:
    """Largest |value| of a tensor of any dtype; inf where one is NaN."""
    low, high = torch.aminmax(value)
    found = max(-float(low), float(high))
    return found if found == found else math.inf  # of a NaN both are NaN


def unit(most: float, n: int) -> float:
    """A power of two: n values of at most `most`, rounded to multiples of it, add up exactly in float64.

    So they do in any order: sums by bins, which a GPU adds up in an order of the moment, are the same every time.
    """
    return 2.0 ** (math.frexp(most)[1] - EXACT + n.bit_length()) if 0 < most < math.inf else 1.0
