"""A worker process: opens the evaluator it is sent, answers jobs, and dies with its driver."""

from __future__ import annotations

import ctypes
import os
import pickle
import queue
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from evomerge.errors import ConfigError, MachineFailed
from evomerge.executors.crew import Fault, Kind
from evomerge.executors.jobs import Job, serve

Say = Callable[[Kind, Any], None]

PR_SET_PDEATHSIG = 1
CANNOT_OPEN = 7  # exit status after want of memory or an unreadable file; the reason is what was said last


def main(handle: int, evaluator: int, driver: int, threads: int) -> None:
    """handle: of the socket to the driver, a process of id `driver`. evaluator: handle of the file that holds it.

    threads: what torch computes with.
    """
    die_with(driver)
    for ours in (signal.SIGINT, signal.SIGTERM):  # sent to a whole group or job: the driver decides what they mean
        signal.signal(ours, signal.SIG_IGN)
    connection = Connection(handle)

    def say(kind: Kind, payload: Any = None) -> None:
        connection.send((kind, payload))

    jobs = listen(connection)
    bench = opened(os.pread(evaluator, os.fstat(evaluator).st_size, 0), threads, say)
    while True:
        answer(bench, jobs.get(), say)


def die_with(driver: int) -> None:
    """Be killed by the kernel when the driver's thread that started us ends, even inside native code (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != driver:  # it was gone before we asked
        os._exit(1)


def listen(connection: Connection) -> queue.SimpleQueue[Job]:
    """Jobs as they arrive, heard by a thread of its own that ends this process when the driver hangs up."""
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()

    def hear() -> None:
        while True:
            try:
                jobs.put(connection.recv())
            except (EOFError, OSError):
                os._exit(0)

    threading.Thread(target=hear, daemon=True).start()
    return jobs


def opened(evaluator: bytes, threads: int, say: Say) -> Any:
    """The live bench, or None after telling what is wrong. Want of memory or of a file ends us: worth another try."""
    import torch

    torch.set_num_threads(threads)  # as in the driver: another number gives other bits
    try:
        bench = _loaded(evaluator).open()
    except (MemoryError, OSError, torch.OutOfMemoryError, MachineFailed) as e:
        print(f"{type(e).__name__}: {e}", file=sys.stderr, flush=True)
        os._exit(CANNOT_OPEN)
    except BaseException as e:
        say("error", Fault.of(e))
        return None
    say("ready", tuple(getattr(bench, "notes", ())))
    return bench


def _loaded(evaluator: bytes) -> Any:
    try:
        return pickle.loads(evaluator)  # our driver's bytes, in a nameless file that only its workers inherit
    except (AttributeError, ImportError) as e:
        raise ConfigError(
            f"a worker cannot load what it is to do ({e}). Code of your own (a task, a measure, a callable) must lie "
            "in a module that can be imported, not in the script or notebook that is run; or use executor=local."
        ) from e


def answer(bench: Any, job: Job, say: Say) -> None:
    """Each rung as it is answered, then how the job ended."""
    try:
        for answered in serve(bench, job, lambda kind, **facts: say("event", (kind, facts))):
            say("row", answered)
        say("done", None)
    except MemoryError as e:
        say("full", str(e))
    except MachineFailed as e:  # to be killed
        say("sick", str(e))
    except BaseException as e:
        say("error", Fault.of(e))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
