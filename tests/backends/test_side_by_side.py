"""Calls side by side: in their order, the first error at once, and nobody waits for what is left behind."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from evomerge.backends.side_by_side import side_by_side

LEFT_BEHIND = """
import time
from evomerge.backends.side_by_side import side_by_side

def call(seconds, left):
    time.sleep(seconds)
    raise ValueError("over")

try:
    side_by_side(call, [0.05, 30.0], 2)
except ValueError:
    print("free", flush=True)
"""


@pytest.mark.parametrize("most", [1, 3, 9])
def test_answers_come_in_the_order_of_the_things_and_no_more_run_at_a_time(most):
    lock, running, peak = threading.Lock(), [0], [0]

    def square(n: int, left: threading.Event) -> int:
        with lock:
            running[0] += 1
            peak[0] = max(peak[0], running[0])
        time.sleep(0.01 * (6 - n))
        with lock:
            running[0] -= 1
        return n * n

    assert side_by_side(square, range(6), most) == [n * n for n in range(6)]
    assert peak[0] == min(most, 6)
    assert side_by_side(square, [], most) == []


def test_an_error_is_raised_at_once_and_the_others_are_told_to_leave():
    told = threading.Event()

    def call(n: int, left: threading.Event) -> None:
        if n == 0:
            raise ValueError("first")
        if left.wait(10):
            told.set()

    began = time.monotonic()
    with pytest.raises(ValueError, match="first"):
        side_by_side(call, [1, 0, 2, 3], 2)
    assert time.monotonic() - began < 2 and told.wait(2)


def test_the_end_of_the_process_waits_for_no_call():
    root = Path(__file__).resolve().parents[2]
    began = time.monotonic()
    run = subprocess.run([sys.executable, "-c", LEFT_BEHIND], capture_output=True, text=True, timeout=25, cwd=root)
    assert (run.returncode, run.stdout) == (0, "free\n"), run.stderr
    assert time.monotonic() - began < 15, "a call takes 30 s"
