"""Where the entries of one parent's tensor come from: stored whole, or made with the factors of an adapter."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import torch

from evomerge.methods.masks import WIDTH
from evomerge.models.family import Family

#: A part of a tensor, one slice per dimension.
Box: TypeAlias = tuple[slice, ...]
#: Entries that an adapter's difference is made of at a time: few enough to stay in a CPU's cache.
PIECE = 1 << 16


class Source(Protocol):
    """One parent's tensor. `is_delta`: its entries are the difference from the base already, in float32.

    whole: all of it, flat, if it lies on the device. away: the same on the host, whence it is brought piece by piece.
    piece: how many entries are best asked for at a time, 0 for any number. lasting: it may be kept from one candidate
    to the next, for it holds nothing that the family does not hold, too.
    """

    is_delta: bool
    lasting: bool
    dtype: torch.dtype
    piece: int
    whole: torch.Tensor | None
    away: torch.Tensor | None

    def flat(self, start: int, stop: int) -> torch.Tensor:
        """(stop - start,) at these row-major positions, on the device."""

    def box(self, box: Box) -> torch.Tensor:
        """A part, on the device."""


class Stored:
    """A tensor in its own dtype, on the device or on the host."""

    piece = 0

    def __init__(
        self, tensor: torch.Tensor, device: torch.device, *, is_delta: bool = False, lasting: bool = True
    ) -> None:
        self._tensor, self._device = tensor, device
        self._flat, self.dtype = tensor.reshape(-1), tensor.dtype
        self.is_delta, self.lasting = is_delta, lasting
        here = tensor.device.type == device.type and device.index in (None, tensor.device.index)
        self.whole: torch.Tensor | None = self._flat if here else None
        self.away: torch.Tensor | None = None if here else self._flat

    def flat(self, start: int, stop: int) -> torch.Tensor:
        part = self._flat[start:stop]
        return part if self.away is None else part.to(self._device, non_blocking=True)

    def box(self, box: Box) -> torch.Tensor:
        part = self._tensor[box]
        return part if self.away is None else part.to(self._device)


class LowRank:
    """left @ right of an adapter, float32 (m, r) and (r, n), made a few rows at a time.

    Always in the same groups of rows, for a product of another size may round otherwise: then a part has the bits of
    the whole.
    """

    is_delta = lasting = True
    dtype = torch.float32
    whole: torch.Tensor | None = None
    away: torch.Tensor | None = None

    def __init__(self, left: torch.Tensor, right: torch.Tensor) -> None:
        self._left, self._right = left, right
        width = right.shape[1]
        together = WIDTH // math.gcd(width, WIDTH)  # so many rows end where a row of WIDTH entries does
        self._group = max(1, PIECE // (width * together)) * together
        self.piece = self._group * width

    def flat(self, start: int, stop: int) -> torch.Tensor:
        width = self._right.shape[1]
        first = start // width
        rows = self._rows(first, -(-stop // width))
        return rows.view(-1)[start - first * width : stop - first * width]

    def box(self, box: Box) -> torch.Tensor:
        rows, columns = box
        return self._rows(rows.start, rows.stop)[:, columns]

    def _rows(self, first: int, end: int) -> torch.Tensor:
        """(end - first, n)"""
        start = first // self._group * self._group
        groups = [
            self._left[at : at + self._group] @ self._right for at in range(start, max(end, start + 1), self._group)
        ]
        made = groups[0] if len(groups) == 1 else torch.cat(groups)
        return made[first - start : end - start]


class Adapted:
    """An adapter's tensor, its base's plus left @ right: float32, made a few rows at a time."""

    is_delta = False
    lasting = True
    dtype = torch.float32
    whole: torch.Tensor | None = None
    away: torch.Tensor | None = None

    def __init__(self, ground: Stored, change: LowRank) -> None:
        self._ground, self._change, self.piece = ground, change, change.piece

    def flat(self, start: int, stop: int) -> torch.Tensor:
        return self._ground.flat(start, stop).float() + self._change.flat(start, stop)

    def box(self, box: Box) -> torch.Tensor:
        return self._ground.box(box).float() + self._change.box(box)


def source_of(family: Family, digest: str, name: str, device: torch.device, *, over: str | None) -> Source:
    """A parent's tensor, or an adapter's difference where that is wanted: from the base's tensor `over`."""
    if not family.is_adapter(digest):
        return Stored(family.home(digest, name, device), device)
    ground = Stored(family.home(family.model.digest, name, device), device)
    if not family.touches(digest, name):
        return ground
    factors = family.factors(digest, name, device)
    if factors is not None:
        return LowRank(*factors) if name == over else Adapted(ground, LowRank(*factors))
    if name == over:
        return Stored(family.delta(digest, name, device), device, is_delta=True, lasting=False)
    return Stored(family.home(digest, name, device), device, lasting=False)


def reader(sources: Sequence[Source], base: Source | None) -> Callable[[int, int, Sequence[int]], list[torch.Tensor]]:
    """float32 entries of the sources, less the base's if there is one: see `Entries.read`."""

    def read(start: int, stop: int, parents: Sequence[int]) -> list[torch.Tensor]:
        drawn = [sources[k] for k in parents]
        subtract = base is not None and not all(s.is_delta for s in drawn)
        ground = base.flat(start, stop).float() if base is not None and subtract else None
        return [_value(s.flat(start, stop), None if s.is_delta else ground) for s in drawn]

    return read


def _value(stored: torch.Tensor, ground: torch.Tensor | None) -> torch.Tensor:
    return stored.float() if ground is None else stored.float() - ground


def picker(
    sources: Sequence[Source], base: Source | None
) -> Callable[[torch.Tensor, Sequence[int]], list[torch.Tensor]] | None:
    """See `Entries.picked`: where everything lies on the device, else None."""
    if any(s.whole is None for s in (*sources, *([] if base is None else [base]))):
        return None

    def pick(at: torch.Tensor, parents: Sequence[int]) -> list[torch.Tensor]:
        ground = None if base is None or base.whole is None else base.whole[at].float()
        drawn = [(sources[k].whole, sources[k].is_delta) for k in parents]
        return [_value(whole[at], None if is_delta else ground) for whole, is_delta in drawn if whole is not None]

    return pick
