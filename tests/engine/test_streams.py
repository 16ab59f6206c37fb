"""Pieces brought to a device: through two buffers in turns, and the same entries however they come.

On a CPU streams and events do nothing, so what is tried here is the order of copies; `-m gpu` tries them at work.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.engine.sources import LowRank, Stored
from evomerge.engine.streams import brought, overlapped

CPU = torch.device("cpu")


class Away(Stored):
    """A tensor on the host as a device would see it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        super().__init__(tensor, CPU)
        self.whole, self.away = None, tensor.reshape(-1)


def spans_of(edges: list[int]) -> list[tuple[int, int]]:
    return list(pairwise(edges))


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.lists(st.integers(0, 300), min_size=2, max_size=9, unique=True).map(sorted))
def test_every_piece_has_its_own_entries_until_the_next_is_asked_for(edges):
    one, two = torch.arange(300.0), torch.arange(300).to(torch.bfloat16)
    left, right = torch.randn(30, 2), torch.randn(2, 10)
    sources = [Away(one.view(30, 10)), Stored(one, CPU), Away(two), LowRank(left, right)]
    made = LowRank(left, right)
    for (start, stop), pieces in zip(spans_of(edges), overlapped(sources, spans_of(edges), CPU), strict=True):
        assert torch.equal(pieces[0], one[start:stop]) and torch.equal(pieces[1], one[start:stop])
        assert torch.equal(pieces[2], two[start:stop]) and torch.equal(pieces[3], made.flat(start, stop))


def test_two_buffers_serve_any_number_of_pieces_and_the_next_is_never_copied_over_the_one_in_use():
    source, places = Away(torch.arange(1000.0)), []
    for (piece,) in overlapped([source], spans_of(list(range(0, 1001, 100))), CPU):
        places.append(piece.data_ptr())
    assert len(set(places)) == 2 and all(a != b for a, b in pairwise(places))


def test_copies_wait_for_the_merge_before_the_last_and_merges_for_their_copies(monkeypatch):
    told: list[tuple[str, int]] = []

    class Event(torch.cpu.Event):
        made = 0

        def __init__(self) -> None:
            self.number, Event.made = Event.made, Event.made + 1

        def record(self, stream=None) -> None:
            told.append(("record", self.number))

    class Stream(torch.cpu.Stream):
        def wait_event(self, event) -> None:
            told.append(("wait", event.number))

    monkeypatch.setattr(torch.cpu, "Event", Event)
    monkeypatch.setattr(torch.cpu, "Stream", Stream)
    monkeypatch.setattr(torch.cpu, "current_stream", lambda device=None: Stream())
    for _ in overlapped([Away(torch.arange(30.0))], spans_of([0, 10, 20, 30]), CPU):
        told.append(("merge", -1))
    copied, merged = (0, 1), (2, 3)  # events, by row of buffers
    wanted = [("wait", merged[0]), ("record", copied[0])]
    for i in range(3):
        wanted += [("wait", copied[i % 2]), ("merge", -1), ("record", merged[i % 2])]
        wanted += [("wait", merged[(i + 1) % 2]), ("record", copied[(i + 1) % 2])] if i < 2 else []
    assert told == wanted


@pytest.mark.parametrize("spans", [[], [(0, 4)], [(0, 4), (4, 9)]])
def test_what_lies_on_the_device_is_not_copied(spans):
    tensor = torch.arange(9.0)
    pieces = [piece for (piece,) in brought([Stored(tensor, CPU)], spans, CPU)]
    assert [p.data_ptr() for p in pieces] == [tensor[start:].data_ptr() for start, _ in spans]
