"""One tensor of one candidate: its entries merged into a target, whole or a part, in the pieces that suit a device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import torch

from evomerge.engine import fused, streams
from evomerge.engine.sources import Box, Source
from evomerge.methods.entries import Entries
from evomerge.methods.masks import WIDTH, columns
from evomerge.methods.settled import Settled

#: Entries of a piece of tensors that do not lie on the device.
STREAMED = 1 << 22


class Piece(NamedTuple):
    """Consecutive entries, seen as a matrix of so many columns."""

    start: int
    stop: int
    columns: int


class Laid(NamedTuple):
    """A piece laid out: base and parents as matrices, and for kernels that draw their columns and row words."""

    piece: Piece
    base: torch.Tensor | None
    parents: Sequence[torch.Tensor]
    column: torch.Tensor | None
    words: torch.Tensor | None


@dataclass(eq=False)
class Pass:
    """What merges one tensor: sources and base on the way to a device, and what the method settled."""

    settled: Settled
    sources: Sequence[Source]
    base: Source | None
    entries: Entries
    compiles: bool = False
    laid: dict[Any, list[Laid]] | None = None  # of earlier passes over the same sources

    @cached_property
    def numbers(self) -> torch.Tensor:
        return _as_tensor(self.settled.numbers, self.entries.device)

    @cached_property
    def given(self) -> tuple[bool, ...]:
        return tuple(source.is_delta for source in self.sources)

    def takes(self, start: int, stop: int) -> bool:
        """Whether `flat` can merge these positions: of a tensor that is seen in rows, whole rows."""
        width = self.settled.width
        return not self._vectors or (start % width == 0 and stop % width == 0)

    @property
    def _vectors(self) -> bool:
        """Whether extras belong to rows or columns of the tensor: then it is seen in its own rows."""
        return any(extra.numel() < self.entries.n for extra in self.settled.extras)

    # ------------------------------------------------------------ consecutive entries

    def flat(self, start: int, stop: int, out: torch.Tensor) -> None:
        """Merge the entries at these row-major positions into `out`, (stop - start,) and contiguous."""
        self._settle_on(out.dtype)
        with suppress(fused.NotCompiled):
            return self._flat(start, stop, out)
        self.compiles = False
        self._flat(start, stop, out)

    def _settle_on(self, dtype: torch.dtype) -> None:
        """Whether to compile: if it is wanted and can be done."""
        dtypes = {dtype, *(source.dtype for source in self._inputs)}
        self.compiles = self.compiles and fused.possible(self.entries.device.type, dtypes)

    def _flat(self, start: int, stop: int, out: torch.Tensor) -> None:
        for piece, operands in self._operands(start, stop):
            part = out[piece.start - start : piece.stop - start].view(-1, piece.columns)
            self._run(fused.merge, operands, part, rows=len(part))

    def totals(self, m: int) -> tuple[float, ...]:
        """The sums over all entries of the m tensors that the kernel, a Measure, returns."""
        self._settle_on(torch.float64)
        with suppress(fused.NotCompiled):
            return self._totals(m)
        self.compiles = False
        return self._totals(m)

    def _totals(self, m: int) -> tuple[float, ...]:
        out = torch.zeros(1, m, dtype=torch.float64, device=self.entries.device)
        for piece, operands in self._operands(0, self.entries.n):
            self._run(fused.add_up, operands, out, rows=(piece.stop - piece.start) // piece.columns)
        return tuple(out[0].tolist())

    def _run(self, work: fused.Work, operands: fused.Operands, out: torch.Tensor, *, rows: int) -> None:
        run = fused.compiled if self.compiles and rows > 1 else fused.eager
        run(work, self.settled.kernel, self.given, operands, out)

    def _pieces(self, start: int, stop: int) -> Iterator[Piece]:
        if self._vectors:
            yield from _rows(start, stop, self.settled.width, self._size)
            return
        main = -(-start // WIDTH) * WIDTH
        if start < min(main, stop):
            yield Piece(start, min(main, stop), min(main, stop) - start)
        end = max(main, stop // WIDTH * WIDTH)
        yield from _rows(main, end, WIDTH, self._size)
        if end < stop:
            yield Piece(end, stop, stop - end)

    @property
    def _size(self) -> int:
        """Entries of a piece, at least."""
        made = max((source.piece for source in self._inputs), default=0)
        if made or not self._here:
            return made or STREAMED
        return max(1, self.entries.n)

    @property
    def _here(self) -> bool:
        """Whether everything lies on the device."""
        return all(source.whole is not None for source in self._inputs)

    @cached_property
    def _inputs(self) -> list[Source]:
        return [*([] if self.base is None else [self.base]), *self.sources]

    def _operands(self, start: int, stop: int) -> Iterator[tuple[Piece, fused.Operands]]:
        """What each piece is merged of, one after the other."""
        for it in self._lay(start, stop):
            extras = self._extras(it.piece) if self.settled.extras else ()
            yield it.piece, fused.Operands(it.base, it.parents, self.numbers, it.column, it.words, extras)

    def _lay(self, start: int, stop: int) -> Iterable[Laid]:
        """The pieces laid out: kept where that makes no copies."""
        if self.laid is None or not self._here:
            return self._layout(start, stop)
        key = (start, stop, self.settled.kernel.random, self.settled.width if self._vectors else 0)
        if key not in self.laid:
            self.laid[key] = list(self._layout(start, stop))
        return self.laid[key]

    def _layout(self, start: int, stop: int) -> Iterator[Laid]:
        pieces = list(self._pieces(start, stop))
        spans = [(piece.start, piece.stop) for piece in pieces]
        for piece, brought in zip(pieces, streams.brought(self._inputs, spans, self.entries.device), strict=True):
            matrices = [entries.view(-1, piece.columns) for entries in brought]
            base, parents = (None, matrices) if self.base is None else (matrices[0], matrices[1:])
            yield Laid(piece, base, parents, *self._place(piece))

    def _place(self, piece: Piece) -> tuple[torch.Tensor, torch.Tensor] | tuple[None, None]:
        """Columns and row words of a piece, for kernels that draw."""
        if not self.settled.kernel.random:
            return None, None
        first = piece.start % WIDTH  # 0 but for a head
        words = self._words[:, piece.start // WIDTH : -(-piece.stop // WIDTH), None].contiguous()  # one stride for all
        return self._columns[first : first + piece.columns], words

    @cached_property
    def _words(self) -> torch.Tensor:
        return self.entries.words()

    @cached_property
    def _columns(self) -> torch.Tensor:
        return columns(self.entries.device)

    def _extras(self, piece: Piece) -> list[torch.Tensor]:
        found = []
        for extra in self.settled.extras:
            if extra.numel() == self.entries.n:
                found.append(extra.reshape(-1)[piece.start : piece.stop].view(-1, piece.columns))
            elif extra.shape[0] == 1:  # one per column
                found.append(extra)
            else:
                found.append(extra[piece.start // piece.columns : piece.stop // piece.columns])
        return found

    # ------------------------------------------------------------ any part

    def box(self, box: Box, out: torch.Tensor) -> None:
        """Merge a part, one slice per dimension, into `out` of the part's shape."""
        at = positions(self.entries.shape, box, self.entries.device)
        column = words = None
        if self.settled.kernel.random:
            column = (at % WIDTH).to(torch.int32)
            words = self._words[:, at // WIDTH]
        operands = fused.Operands(
            None if self.base is None else self.base.box(box),
            [s.box(box) for s in self.sources],
            self.numbers,
            column,
            words,
            [self._extra_at(extra, at) for extra in self.settled.extras],
        )
        fused.merge(self.settled.kernel, self.given, *operands, out)

    def _extra_at(self, extra: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        if extra.numel() == self.entries.n:
            return extra.reshape(-1)[at]
        width = self.settled.width
        return extra.expand(self.entries.n // width, width)[at // width, at % width]


@lru_cache(1 << 10)
def _as_tensor(numbers: tuple[tuple[float, ...], ...], device: torch.device) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float32, device=device)


def _rows(start: int, stop: int, columns: int, size: int) -> Iterator[Piece]:
    """Pieces of whole rows, of about `size` entries."""
    step = max(1, size // columns) * columns
    for at in range(start, stop, step):
        yield Piece(at, min(at + step, stop), columns)


def positions(shape: Sequence[int], box: Box, device: torch.device) -> torch.Tensor:
    """int64 (*box): row-major position of each element in the whole tensor."""
    at = torch.zeros((), dtype=torch.int64, device=device)
    for size, part in zip(shape, box, strict=True):
        at = at.unsqueeze(-1) * size + torch.arange(part.start, part.stop, device=device)
    return at
