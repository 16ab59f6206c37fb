"""The child process that makes a sweep's runs, seen from the sweep: whatever kills it ends one run only."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.sweep.child import PATIENCE, SOUND, tell_failure

#: The child looks for modules where we do; `python -m` would look into the working directory first.
_START = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from evomerge.sweep.child import serve
serve(int(sys.argv[2]))
"""
_HINTS = {
    "SIGKILL": "the system was out of memory, or somebody killed it",
    "SIGSEGV": "it crashed in native code",
    "SIGABRT": "native code gave up",
    "SIGBUS": "memory or a mapped file went away",
}


@dataclass(frozen=True)
class Order:
    """One run: its settings as KEY=VALUE, its folder (absolute), folders with config files of the user."""

    words: tuple[str, ...]
    folder: str
    config_dirs: tuple[str, ...]


class Child:
    """A process that makes one run after the other; after one that spoilt or killed it, the next has a new process.

    A context manager: at its end, however it comes, the process is stopped.
    """

    def __init__(self, cwd: str, env: Mapping[str, str] | None = None):
        self._cwd, self._env = cwd, env
        self._process: subprocess.Popen[bytes] | None = None
        self._answers = -1

    def make(self, order: Order) -> None:
        """Make a run and wait for its end; a process that died leaves failure.txt with the reason."""
        process = self._process or self._start()
        answer = self._ask(process, order)
        if answer != SOUND:
            self.close()
        if not answer:
            tell_failure(Path(order.folder), _why(process.returncode))

    def close(self) -> None:
        """Stop the process: it closes a run that is under way first."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        os.close(self._answers)
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE + 5)
        finally:  # it hangs, or we are asked to stop once more
            process.kill()
            process.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def _start(self) -> subprocess.Popen[bytes]:
        self._answers, theirs = os.pipe()
        line = [sys.executable, "-c", _START, json.dumps(sys.path), str(theirs)]
        self._process = subprocess.Popen(
            line, stdin=subprocess.PIPE, pass_fds=[theirs], cwd=self._cwd, env=self._env and dict(self._env)
        )
        os.close(theirs)
        return self._process

    def _ask(self, process: subprocess.Popen[bytes], order: Order) -> bytes:
        """The answer; b"" if the process died over it."""
        assert process.stdin is not None
        asked = {"words": order.words, "folder": order.folder, "config_dirs": order.config_dirs}
        try:
            process.stdin.write(json.dumps(asked).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return b""
        while not select.select([self._answers], [], [], 1.0)[0]:
            if process.poll() is not None:  # processes that it left behind may hold the pipe open
                return b""
        return os.read(self._answers, 64)


def _why(code: int) -> str:
    """A process's end in words."""
    if code >= 0:
        return f"the run's process ended with exit code {code}. The same line goes on with what was paid for."
    name = signal.Signals(-code).name
    hint = f": {_HINTS[name]}" if name in _HINTS else ""
    return f"the run's process was killed by {name}{hint}. The same line goes on with what was paid for."


def make_all(orders: Sequence[Order], cwd: str) -> None:
    """Make runs one after the other in this machine's own processes."""
    with Child(cwd) as child:
        for number, order in enumerate(orders, 1):
            announce(number, len(orders), order)
            child.make(order)


def announce(number: int, total: int, order: Order) -> None:
    print(f"\n{number} of {total}: {Path(order.folder).name}", file=sys.stderr, flush=True)
