"""A kernel with everything around it as one function of stored entries, run in blocks; `loops` compiles it.

Both give the same bits on a CPU, for a kernel adds and multiplies in a fixed order and compilers may not fuse the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, NamedTuple, TypeAlias

import torch

from evomerge.methods.entries import BLOCK, LARGE_BLOCK
from evomerge.methods.masks import columns
from evomerge.methods.settled import Kernel, Measure

#: `merge` or `add_up`.
Work: TypeAlias = Callable[..., None]


class Operands(NamedTuple):
    """Matrices (rows, columns) of entries, and what the kernel takes beside them: see `settled.Kernel`.

    column: None beside words where rows are whole ones of `masks`.
    """

    base: torch.Tensor | None
    parents: Sequence[torch.Tensor]
    numbers: torch.Tensor
    column: torch.Tensor | None
    words: torch.Tensor | None
    extras: Sequence[torch.Tensor]

    def split(self, rows: int) -> Iterator[Operands]:
        """The same, so many rows at a time."""
        each = (_split(tensor, rows) for tensor in (self.base, *self.parents, self.column, *self.extras))
        words = (
            repeat(self.words)
            if self.words is None or self.words.shape[1] == 1
            else torch.split(self.words, rows, dim=1)
        )
        n = len(self.parents)
        for word, base, *others in zip(words, *each, strict=False):  # what is the same for all has no end
            yield Operands(base, others[:n], self.numbers, others[n], word, others[n + 1 :])

    def kinds(self) -> tuple[Any, ...]:
        """What is the same for operands that differ in the number of rows alone, two or more.

        Loops on a GPU count in 32 bits where these are enough, so whether they are belongs to the kind.
        """
        first = self.parents[0]
        dtypes = [parent.dtype for parent in self.parents]
        extras = [(extra.dtype, extra.shape[-1], extra.shape[0] == 1) for extra in self.extras]
        base = None if self.base is None else self.base.dtype
        return (first.shape[-1], first.numel() < 1 << 31, self.numbers.shape, base, *dtypes, *extras)


def _split(tensor: torch.Tensor | None, rows: int) -> Iterable[torch.Tensor | None]:
    """Rows together; what is one row for all, every time."""
    whole = tensor is None or tensor.dim() == 1 or tensor.shape[0] == 1
    return repeat(tensor) if whole or tensor is None else torch.split(tensor, rows)


def eager(work: Work, kernel: Any, given: tuple[bool, ...], it: Operands, out: torch.Tensor) -> None:
    """Do `merge` or `add_up` a few rows at a time. given: which of the parents are differences already."""
    n, columns = it.parents[0].shape
    blocks = -(-n * columns // BLOCK.get(out.device.type, LARGE_BLOCK))
    step = -(-n // blocks)  # all alike: no short one at the end
    if step >= n:
        work(kernel, given, *it, out)
        return
    parts = torch.split(out, step) if work is merge else repeat(out)
    # the same memory for every block: it stays in the cache, wherever the allocator has holes
    room = torch.empty(len(it.parents) + 1, step, columns, device=out.device)
    for rows, part in zip(it.split(step), parts, strict=False):
        work(kernel, given, *rows, part, room[:, : len(rows.parents[0])].unbind())


def merge(
    kernel: Kernel,
    given: tuple[bool, ...],
    base: torch.Tensor | None,
    parents: Sequence[torch.Tensor],
    numbers: torch.Tensor,
    column: torch.Tensor | None,
    words: torch.Tensor | None,
    extras: Sequence[torch.Tensor],
    out: torch.Tensor,
    room: Sequence[torch.Tensor] | None = None,
) -> None:
    """Write the merged entries into `out`. room: where float32 copies of the base and of the parents may be."""
    ground, values = _values(base, parents, given, room)
    merged = kernel(values, numbers, _column(column, words), words, extras)
    out.copy_(merged if ground is None else merged.add_(ground))


def _column(given: torch.Tensor | None, words: torch.Tensor | None) -> torch.Tensor | None:
    """The columns. Those of whole rows are made here: a loop counts faster than it reads integers (with AVX2)."""
    return columns(words.device) if given is None and words is not None else given


def _values(
    base: torch.Tensor | None,
    parents: Sequence[torch.Tensor],
    given: tuple[bool, ...],
    room: Sequence[torch.Tensor] | None,
) -> tuple[torch.Tensor | None, list[torch.Tensor]]:
    """The base in float32, and float32 copies of the parents, or their differences: a kernel may overwrite these.

    Compiled loops copy nothing.
    """
    first, *others = room or (None,) * (len(parents) + 1)
    ground = None if base is None else base.float() if first is None else first.copy_(base)
    grounds = [None if is_delta else ground for is_delta in given]
    return ground, [_value(*each) for each in zip(parents, grounds, others, strict=True)]


def _value(stored: torch.Tensor, ground: torch.Tensor | None, room: torch.Tensor | None) -> torch.Tensor:
    if ground is not None and stored.dtype == torch.float32:
        return torch.sub(stored, ground, out=room)
    value = stored.to(torch.float32, copy=True) if room is None else room.copy_(stored)
    return value if ground is None else value.sub_(ground)


def add_up(
    kernel: Measure,
    given: tuple[bool, ...],
    base: torch.Tensor | None,
    parents: Sequence[torch.Tensor],
    numbers: torch.Tensor,
    column: torch.Tensor | None,
    words: torch.Tensor | None,
    extras: Sequence[torch.Tensor],
    out: torch.Tensor,
    room: Sequence[torch.Tensor] | None = None,
) -> None:
    """Add what the kernel measures of every entry to `out`, float64 (1, M). room: see `merge`."""
    values = _values(base, parents, given, room)[1]
    measured = kernel(values, numbers, _column(column, words), words, extras)
    out += torch.stack([part.sum(dtype=torch.float64) for part in measured])  # one by one they would not fuse
