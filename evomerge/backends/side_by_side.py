"""Calls in threads that nobody waits for: who is interrupted goes at once, and leaves behind what is under way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import TypeAlias, TypeVar

T = TypeVar("T")
R = TypeVar("R")
#: Place, answer, error: one of the last two is None.
Done: TypeAlias = tuple[int, R | None, BaseException | None]


def side_by_side(call: Callable[[T, threading.Event], R], things: Sequence[T], most: int) -> list[R]:
    """call(thing, left) of each in their order, `most` of them at a time; `left` is set once nobody wants the answers.

    Raises the first error there is, at once. The threads are daemons (those of concurrent.futures are joined at the
    end of the process): neither an interrupt nor an exit waits for a call.
    """
    left, places, done = threading.Event(), SimpleQueue[int](), SimpleQueue[Done[R]]()
    for place in range(len(things)):
        places.put(place)
    for _ in range(min(most, len(things))):
        threading.Thread(target=_work, args=(call, things, left, places, done), daemon=True).start()
    try:
        found = dict(_taken(done) for _ in things)
    finally:
        left.set()
    return [found[place] for place in range(len(things))]


def _work(
    call: Callable[[T, threading.Event], R],
    things: Sequence[T],
    left: threading.Event,
    places: SimpleQueue[int],
    done: SimpleQueue[Done[R]],
) -> None:
    while not left.is_set():
        try:
            place = places.get_nowait()
        except Empty:
            return
        try:
            done.put((place, call(things[place], left), None))
        except BaseException as e:  # for the one who asked, and who would wait for ever otherwise
            done.put((place, None, e))


def _taken(done: SimpleQueue[Done[R]]) -> tuple[int, R]:
    place, answer, error = done.get()
    if error is not None:
        raise error
    return place, answer  # type: ignore[return-value]  # R may be Optional itself
