"""What one tensor is merged of, and the pieces in which it goes to a loop: as matrices, whatever the tensor's shape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch

from evomerge.engine import streams
from evomerge.engine.sources import Source
from evomerge.methods.entries import BLOCK, LARGE_BLOCK, Entries, extreme
from evomerge.methods.masks import WIDTH, columns

#: Entries of a piece of tensors that do not lie on the device.
STREAMED = 1 << 22


class Piece(NamedTuple):
    """Consecutive entries, seen as a matrix of so many columns."""

    start: int
    stop: int
    columns: int

    @property
    def rows(self) -> int:
        return (self.stop - self.start) // self.columns


class Laid(NamedTuple):
    """A piece laid out: base and parents as matrices, and columns and row words for kernels that draw."""

    piece: Piece
    base: torch.Tensor | None
    parents: Sequence[torch.Tensor]
    column: torch.Tensor | None
    words: torch.Tensor | None


@dataclass(eq=False)
class Inputs:
    """Sources and base of a tensor on the way to a device. keep: whether what is laid out is kept for later passes."""

    sources: Sequence[Source]
    base: Source | None
    entries: Entries
    keep: bool = False
    _laid: dict[Any, list[Laid]] = field(default_factory=dict, repr=False)

    @cached_property
    def all(self) -> list[Source]:
        return [*([] if self.base is None else [self.base]), *self.sources]

    @cached_property
    def given(self) -> tuple[bool, ...]:
        """Which of the sources are differences already."""
        return tuple(source.is_delta for source in self.sources)

    @cached_property
    def dtypes(self) -> frozenset[torch.dtype]:
        return frozenset(source.dtype for source in self.all)

    @cached_property
    def here(self) -> bool:
        """Whether everything lies on the device."""
        return all(source.whole is not None for source in self.all)

    @cached_property
    def peaks(self) -> tuple[float, float]:
        """At least the largest |value| of any parent, or difference, and the base's; kept with what is known of them.

        The first is 1 or more, for coefficients must be float32, too.
        """
        ground = 0.0 if self.base is None else self._peak(self.base, self.entries.joint)
        found = [self._peak(source, own) for source, own in zip(self.sources, self.entries.own, strict=True)]
        of_difference = [peak + (0.0 if is_delta else ground) for peak, is_delta in zip(found, self.given, strict=True)]
        return max(1.0, *of_difference), ground

    def _peak(self, source: Source, kept: dict[Any, Any]) -> float:
        """Largest |value| of a source as it is stored: half the bytes of differences in float32."""
        if "stored peak" not in kept:
            size, n = source.piece or BLOCK.get(self.entries.device.type, LARGE_BLOCK), self.entries.n
            kept["stored peak"] = max(extreme(source.flat(at, min(at + size, n))) for at in range(0, n, size))
        return kept["stored peak"]  # type: ignore[no-any-return]

    @cached_property
    def _size(self) -> int:
        """Entries of a piece, at least."""
        made = max((source.piece for source in self.all), default=0)
        if made or not self.here:
            return made or STREAMED
        return max(1, self.entries.n)

    # ------------------------------------------------------------ laid out

    @cached_property
    def kept(self) -> bool:
        """Whether what is laid out stays, and making it ready reads nothing."""
        return self.keep and self.here

    def laid(self, start: int, stop: int, *, draws: bool, width: int = 0) -> Iterable[Laid]:
        """The pieces of these row-major positions: kept where that makes no copies.

        draws: for a kernel that draws. width: columns of the tensor's own, if its rows and columns matter.
        """
        if not self.kept:
            return self._lay(start, stop, draws, width)
        key = (start, stop, draws, width)
        if key not in self._laid:
            self._laid[key] = list(self._lay(start, stop, draws, width))
        return self._laid[key]

    def _lay(self, start: int, stop: int, draws: bool, width: int) -> Iterator[Laid]:
        pieces = list(self._pieces(start, stop, draws, width))
        spans = [(piece.start, piece.stop) for piece in pieces]
        for piece, brought in zip(pieces, streams.brought(self.all, spans, self.entries.device), strict=True):
            matrices = [entries.view(-1, piece.columns) for entries in brought]
            base, parents = (None, matrices) if self.base is None else (matrices[0], matrices[1:])
            yield Laid(piece, base, parents, *(self._place(piece) if draws else (None, None)))

    def _pieces(self, start: int, stop: int, draws: bool, width: int) -> Iterator[Piece]:
        """One column where places do not matter; else rows of WIDTH, and what is left of rows at both ends."""
        if width or not draws:
            yield from _rows(start, stop, width or 1, self._size)
            return
        main = min(-(-start // WIDTH) * WIDTH, stop)
        end = max(main, stop // WIDTH * WIDTH)
        for first, last in ((start, main), (end, stop)):
            if first < last:
                yield Piece(first, last, 1)
        yield from _rows(main, end, WIDTH, self._size)

    def _place(self, piece: Piece) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Columns (entries, 1), None for whole rows, and row words (P + 1, rows, 1), of a piece."""
        words = self._words[:, piece.start // WIDTH : -(-piece.stop // WIDTH), None].contiguous()  # one stride for all
        if piece.columns == WIDTH:
            return None, words
        first = piece.start % WIDTH
        return columns(self.entries.device)[first : first + piece.rows, None], words

    @cached_property
    def _words(self) -> torch.Tensor:
        return self.entries.words()

    # ------------------------------------------------------------ any part

    def places(self, at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Columns and row words of these positions, int64: in their shape, and (P + 1, *shape)."""
        return (at % WIDTH).to(torch.int32), self._words[:, at // WIDTH]


def _rows(start: int, stop: int, columns: int, size: int) -> Iterator[Piece]:
    """Pieces of whole rows, of about `size` entries."""
    step = max(1, size // columns) * columns
    for at in range(start, stop, step):
        yield Piece(at, min(at + step, stop), columns)
