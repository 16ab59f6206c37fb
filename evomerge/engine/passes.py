"""One tensor of one candidate: its entries merged into a target, whole or a part, in the pieces that suit a device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch

from evomerge.engine import fused, loops
from evomerge.engine.pieces import Inputs, Piece
from evomerge.engine.sources import Box
from evomerge.methods.entries import Entries
from evomerge.methods.settled import Settled


@dataclass(eq=False)
class Pass:
    """What merges one tensor: what the method settled, and what it runs on."""

    settled: Settled
    inputs: Inputs
    compiles: bool = False

    @property
    def entries(self) -> Entries:
        return self.inputs.entries

    @property
    def numbers(self) -> torch.Tensor:
        return _as_tensor(self.settled.numbers, self.entries.device)

    def takes(self, start: int, stop: int) -> bool:
        """Whether `flat` can merge these positions: of a tensor that is seen in rows, whole rows."""
        width = self._width
        return not width or (start % width == 0 and stop % width == 0)

    @property
    def _width(self) -> int:
        """Columns of a tensor whose rows or columns have extras of their own: it is seen in its own rows."""
        vectors = any(extra.numel() < self.entries.n for extra in self.settled.extras)
        return self.settled.width if vectors else 0

    # ------------------------------------------------------------ consecutive entries

    def flat(self, start: int, stop: int, out: torch.Tensor) -> None:
        """Merge the entries at these row-major positions into `out`, (stop - start,) and contiguous."""
        self._settle_on(out.dtype)
        with suppress(loops.NotCompiled):
            return self._flat(start, stop, out)
        self.compiles = False
        self._flat(start, stop, out)

    def prepared(self, out: torch.Tensor) -> loops.Call:
        """`flat` of all entries but for its last step, which is returned: where nothing is read, a call of code."""
        whole = partial(self.flat, 0, self.entries.n, out)
        if not self.inputs.kept:
            return whole
        self._settle_on(out.dtype)
        calls = []
        for piece, operands in self._operands(0, len(out)):
            call = self._bound(operands, _part(out, piece), piece.rows)
            if call is None:  # not compiled yet
                return whole
            calls.append(call)
        return calls[0] if len(calls) == 1 else partial(_in_turn, calls)

    def _bound(self, operands: fused.Operands, out: torch.Tensor, rows: int) -> loops.Call | None:
        what = (fused.merge, self.settled.kernel, self.inputs.given, operands, out)
        return loops.bound(*what) if self.compiles and rows > 1 else partial(fused.eager, *what)

    def _settle_on(self, dtype: torch.dtype) -> None:
        """Whether to compile: if it is wanted and can be done."""
        self.compiles = self.compiles and loops.possible(self.entries.device.type, self.inputs.dtypes | {dtype})

    def _flat(self, start: int, stop: int, out: torch.Tensor) -> None:
        for piece, operands in self._operands(start, stop):
            self._run(fused.merge, operands, _part(out, piece, start), piece.rows)

    def totals(self, m: int) -> tuple[float, ...]:
        """The sums over all entries of the m tensors that the kernel, a Measure, returns."""
        self._settle_on(torch.float64)
        with suppress(loops.NotCompiled):
            return self._totals(m)
        self.compiles = False
        return self._totals(m)

    def _totals(self, m: int) -> tuple[float, ...]:
        out = torch.zeros(1, m, dtype=torch.float64, device=self.entries.device)
        for piece, operands in self._operands(0, self.entries.n):
            self._run(fused.add_up, operands, out, piece.rows)
        return tuple(out[0].tolist())

    def _run(self, work: fused.Work, operands: fused.Operands, out: torch.Tensor, rows: int) -> None:
        run = loops.compiled if self.compiles and rows > 1 else fused.eager
        run(work, self.settled.kernel, self.inputs.given, operands, out)

    def _operands(self, start: int, stop: int) -> Iterator[tuple[Piece, fused.Operands]]:
        """What each piece is merged of, one after the other."""
        numbers, draws, width = self.numbers, self.settled.kernel.random, self._width
        for piece, base, parents, column, words in self.inputs.laid(start, stop, draws=draws, width=width):
            extras = [self._extra_of(extra, piece) for extra in self.settled.extras]
            yield piece, fused.Operands(base, parents, numbers, column, words, extras)

    def _extra_of(self, extra: torch.Tensor, piece: Piece) -> torch.Tensor:
        if extra.numel() == self.entries.n:
            return extra.reshape(-1)[piece.start : piece.stop].view(-1, piece.columns)
        if extra.shape[0] == 1:  # one per column
            return extra
        return extra[piece.start // piece.columns : piece.stop // piece.columns]

    # ------------------------------------------------------------ any part

    def box(self, box: Box, out: torch.Tensor) -> None:
        """Merge a part, one slice per dimension, into `out` of the part's shape."""
        inputs = self.inputs
        at = positions(self.entries.shape, box, self.entries.device)
        column, words = inputs.places(at) if self.settled.kernel.random else (None, None)
        operands = fused.Operands(
            None if inputs.base is None else inputs.base.box(box),
            [s.box(box) for s in inputs.sources],
            self.numbers,
            column,
            words,
            [self._extra_at(extra, at) for extra in self.settled.extras],
        )
        fused.merge(self.settled.kernel, inputs.given, *operands, out)

    def _extra_at(self, extra: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        if extra.numel() == self.entries.n:
            return extra.reshape(-1)[at]
        width = self.settled.width
        return extra.expand(self.entries.n // width, width)[at // width, at % width]


def _part(out: torch.Tensor, piece: Piece, start: int = 0) -> torch.Tensor:
    """The entries of a piece of those from `start` on."""
    return out[piece.start - start : piece.stop - start].view(-1, piece.columns)


def _in_turn(calls: Sequence[loops.Call]) -> None:
    for call in calls:
        call()


@lru_cache(1 << 10)
def _as_tensor(numbers: tuple[tuple[float, ...], ...], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.array(numbers)).float().to(device)  # torch.tensor() takes three times as long


def positions(shape: Sequence[int], box: Box, device: torch.device) -> torch.Tensor:
    """int64 (*box): row-major position of each element in the whole tensor."""
    at = torch.zeros((), dtype=torch.int64, device=device)
    for size, part in zip(shape, box, strict=True):
        at = at.unsqueeze(-1) * size + torch.arange(part.start, part.stop, device=device)
    return at
