"""Ctrl-C that cannot be lost: Python drops an exception that is raised inside a destructor or a callback from C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def kept() -> Iterator[Callable[[], None]]:
    """Within, a KeyboardInterrupt that a signal's handler raises is raised again by what is yielded, if it got lost.

    Handlers stay as they are in all else: who ignores Ctrl-C goes on ignoring it. Outside the main thread, which
    alone gets signals, this does nothing.
    """
    came: list[int] = []

    def check() -> None:
        if came:
            raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in SIGNALS} if _in_main_thread() else {}
    ours = {number: partial(_noted, handler, came) for number, handler in before.items() if callable(handler)}
    for number, handler in ours.items():
        signal.signal(number, handler)
    try:
        yield check
    finally:
        for number in ours:
            signal.signal(number, before[number])


def _noted(handler: Callable[..., Any], came: list[int], number: int, frame: FrameType | None) -> None:
    try:
        handler(number, frame)
    except KeyboardInterrupt:
        came.append(number)
        raise


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
