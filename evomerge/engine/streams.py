"""Entries brought to a device piece by piece: on CUDA the next piece is copied while the one before is merged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from evomerge.engine.sources import Source

#: Positions of a piece, from and to.
Span = tuple[int, int]


def brought(
    sources: Sequence[Source], spans: Sequence[Span], device: torch.device
) -> Iterator[tuple[torch.Tensor, ...]]:
    """For each span the entries of every source, (stop - start,) on the device, good until the next is asked for."""
    if device.type != "cuda" or not any(s.away is not None for s in sources):
        yield from (tuple(s.flat(*span) for s in sources) for span in spans)
    elif spans:
        yield from overlapped(sources, spans, device)


def overlapped(
    sources: Sequence[Source], spans: Sequence[Span], device: torch.device
) -> Iterator[tuple[torch.Tensor, ...]]:
    """The same from the host by a stream of its own, through two buffers for each source that lies there."""
    buffers = Buffers(sources, max(stop - start for start, stop in spans), device)
    try:
        buffers.fetch(0, spans[0])
        for i, span in enumerate(spans):
            yield buffers.take(i, span)
            buffers.release(i)
            if i + 1 < len(spans):
                buffers.fetch(i + 1, spans[i + 1])
    finally:
        buffers.close()


class Buffers:
    """Two rows of buffers on a device, filled in turns on a side stream and emptied on the current one.

    Piece i lies in row i % 2. It is copied once piece i - 2 has been merged, and merged once it has been copied: events
    say so to the device, and the host waits for neither.
    """

    def __init__(self, sources: Sequence[Source], size: int, device: torch.device) -> None:
        self._sources, self._streams = sources, torch.get_device_module(device)
        self._main, self._side = self._streams.current_stream(device), _side_stream(device)
        self._rows = [[_buffer(source.away, size, device) for source in sources] for _ in range(2)]
        self._copied, self._merged = ([self._streams.Event() for _ in range(2)] for _ in range(2))
        self._side.wait_stream(self._main)  # the buffers' memory may still be in use there

    def fetch(self, i: int, span: Span) -> None:
        """Copy piece i from the host."""
        with self._streams.stream(self._side):
            self._side.wait_event(self._merged[i % 2])
            for source, buffer in zip(self._sources, self._rows[i % 2], strict=True):
                if source.away is not None and buffer is not None:
                    buffer[: span[1] - span[0]].copy_(source.away[slice(*span)], non_blocking=True)
            self._copied[i % 2].record(self._side)

    def take(self, i: int, span: Span) -> tuple[torch.Tensor, ...]:
        """Piece i, for what is computed from now on."""
        self._main.wait_event(self._copied[i % 2])
        pairs = zip(self._sources, self._rows[i % 2], strict=True)
        return tuple(s.flat(*span) if b is None else b[: span[1] - span[0]] for s, b in pairs)

    def release(self, i: int) -> None:
        """Piece i is not needed after what was computed until now."""
        self._merged[i % 2].record(self._main)

    def close(self) -> None:
        """To be called before the buffers are given up: a copy may be under way."""
        self._main.wait_stream(self._side)


def _buffer(away: torch.Tensor | None, size: int, device: torch.device) -> torch.Tensor | None:
    return None if away is None else torch.empty(size, dtype=away.dtype, device=device)


def _side_stream(device: torch.device) -> Any:
    streams: Any = torch.get_device_module(device)
    return streams.Stream(device) if device.type == "cuda" else streams.Stream()
