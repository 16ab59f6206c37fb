"""Starting a process that works for this one, hearing how it ended, and making sure that it does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fcntl import F_GETFL, F_SETFL, fcntl
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import IO, Any

from evomerge.executors.shares import Share

WORDS = 600  # characters of a dead worker's stderr that are told
CHATTER = 2**20  # bytes of stderr that are kept


class Process:
    """One worker process: our end of its socket, and what it says on stderr."""

    def __init__(self, popen: subprocess.Popen[bytes], connection: Connection, stderr: IO[bytes]):
        self.connection = connection
        self._popen, self._stderr = popen, stderr

    @property
    def ended(self) -> bool:
        return self._popen.poll() is not None

    def send(self, message: Any) -> None:
        """Nothing is raised if it is dead: that is heard by who waits for it."""
        if os.fstat(self._stderr.fileno()).st_size > CHATTER:
            os.ftruncate(self._stderr.fileno(), 0)
        with suppress(OSError):
            self.connection.send(message)

    def kill(self) -> None:
        """End it and its children at once: it leads a group of its own."""
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)

    def bury(self) -> str:
        """Wait until it is gone; returns how it ended, with its last words."""
        try:
            self._popen.wait(5)  # its socket is closed: it is ending by itself
        except subprocess.TimeoutExpired:
            self.kill()
            self._popen.wait()
        self.kill()  # children it left
        self.connection.close()
        end = os.fstat(self._stderr.fileno()).st_size
        words = os.pread(self._stderr.fileno(), WORDS, max(0, end - WORDS)).decode(errors="replace").strip()
        self._stderr.close()
        return f"{_ending(self._popen.returncode)}{'; its last words: ' + words if words else ''}"


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"ended by signal {-status}"


class Spawner:
    """Starts workers from one thread that lives as long as they are wanted.

    The kernel kills a worker when the thread that started it ends, so it may not be the caller's: that of a notebook's
    cell may be gone before the search is.
    """

    def __init__(self, evaluator: bytes):
        self._evaluator = _unnamed_file()  # not sent: a pipe would be full before the worker is there to read
        self._evaluator.write(evaluator)
        self._evaluator.flush()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="evomerge-spawner")

    def start(self, share: Share) -> Process:
        return self._thread.submit(self._start, share).result()

    def close(self) -> None:
        self._thread.shutdown()
        self._evaluator.close()

    def _start(self, share: Share) -> Process:
        ours, theirs = Pipe()
        stderr = _unnamed_file()
        fcntl(stderr, F_SETFL, fcntl(stderr, F_GETFL) | os.O_APPEND)  # truncated by us, written on by the worker
        handles = theirs.fileno(), self._evaluator.fileno()
        words = map(str, (*handles, os.getpid(), share.threads))
        popen = subprocess.Popen(
            [sys.executable, "-P", "-m", "evomerge.executors.worker", *words],
            env={**os.environ, **share.environment, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
            pass_fds=handles,
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            start_new_session=True,  # Ctrl-C is for the driver
        )
        theirs.close()
        return Process(popen, ours, stderr)


def _unnamed_file() -> IO[bytes]:
    """A file for nobody else, which lives as long as its owner."""
    return tempfile.TemporaryFile()
