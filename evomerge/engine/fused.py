"""A kernel with everything around it as one function of stored entries, run in blocks; `loops` compiles it.

Both give the same bits on a CPU, for a kernel adds and multiplies in a fixed order and compilers may not fuse the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, NamedTuple, TypeAlias

import torch

from evomerge.methods.entries import BLOCK, LARGE_BLOCK
from evomerge.methods.settled import Kernel, Measure

#: `merge` or `add_up`.
Work: TypeAlias = Callable[..., None]


class Operands(NamedTuple):
    """Matrices (rows, columns) of entries, and what the kernel takes beside them: see `settled.Kernel`."""

    base: torch.Tensor | None
    parents: Sequence[torch.Tensor]
    numbers: torch.Tensor
    column: torch.Tensor | None
    words: torch.Tensor | None
    extras: Sequence[torch.Tensor]

    def split(self, rows: int) -> Iterator[Operands]:
        """The same, so many rows at a time."""
        each = (_split(tensor, rows) for tensor in (self.base, *self.parents, self.column, *self.extras))
        words = repeat(self.words) if self.words is None or self.words.shape[1] == 1 else self.words.split(rows, dim=1)
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
    return repeat(tensor) if whole or tensor is None else tensor.split(rows)


def eager(work: Work, kernel: Any, given: tuple[bool, ...], it: Operands, out: torch.Tensor) -> None:
    """Do `merge` or `add_up` a few rows at a time. given: which of the parents are differences already."""
    n, columns = it.parents[0].shape
    blocks = -(-n * columns // BLOCK.get(out.device.type, LARGE_BLOCK))
    step = -(-n // blocks)  # all alike: no short one at the end
    if step >= n:
        work(kernel, given, *it, out)
        return
    parts = out.split(step) if work is merge else repeat(out)
    for rows, part in zip(it.split(step), parts, strict=False):
        work(kernel, given, *rows, part)


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
) -> None:
    """Write the merged entries into `out`."""
    ground = None if base is None else base.float()
    merged = kernel(_values(ground, parents, given), numbers, column, words, extras)
    out.copy_(merged if ground is None else merged.add_(ground))


def _values(
    ground: torch.Tensor | None, parents: Sequence[torch.Tensor], given: tuple[bool, ...]
) -> list[torch.Tensor]:
    """Float32 copies of the parents, or their differences: a kernel may overwrite them. Compiled loops copy nothing."""
    return [_value(p, None if is_delta else ground) for p, is_delta in zip(parents, given, strict=True)]


def _value(stored: torch.Tensor, ground: torch.Tensor | None) -> torch.Tensor:
    if ground is not None and stored.dtype == torch.float32:
        return stored - ground
    value = stored.to(torch.float32, copy=True)
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
) -> None:
    """Add what the kernel measures of every entry to `out`, float64 (1, M)."""
    ground = None if base is None else base.float()
    measured = kernel(_values(ground, parents, given), numbers, column, words, extras)
    out += torch.stack([part.sum(dtype=torch.float64) for part in measured])  # one by one they would not fuse
