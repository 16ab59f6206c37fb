"""The process in which a sweep's runs are made: orders come on stdin, one a line; each is answered on a pipe.

Only the sweep stops it, by closing stdin; so it also ends with a sweep that was killed. Signals to the whole group
(Ctrl-C on a terminal, Slurm's SIGTERM) are left to the sweep, which knows what they mean.
"""

from __future__ import annotations

import gc
import io
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

from evomerge.errors import EvomergeError, JournalError, SearchFailed
from evomerge.lines import write_whole
from evomerge.reports.sweep import FAILURE, held

SOUND, SPOILT = b"sound\n", b"spoilt\n"  # the answers: whether this process can make another run
#: Seconds that closing a run may take once the sweep is gone.
PATIENCE = 10.0
#: Seconds to wait for the run's last writer: that of a sweep that was just killed is about to end.
WRITER = 30.0


def serve(answers: int) -> None:
    """Make the runs that are ordered, until stdin ends. answers: file descriptor that each is answered on."""
    os.set_inheritable(answers, False)
    orders, busy = SimpleQueue[bytes](), Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, _leave_to_the_sweep)  # no SIG_IGN: processes of our own would inherit it
    for one in (signal.SIGUSR1, signal.SIGUSR2):  # Slurm's warnings reach every process of a job; unheard, they kill
        signal.signal(one, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, _stop)
    Thread(target=_listen, args=(orders, busy), daemon=True).start()
    try:
        while order := orders.get():
            sound = attempt(**json.loads(order))
            gc.collect()  # a live model may sit in a cycle, and the next run wants its memory
            busy.clear()
            os.write(answers, SOUND if sound else SPOILT)
    except KeyboardInterrupt:
        sys.exit(130)


def attempt(words: Sequence[str], folder: str, config_dirs: Sequence[str]) -> bool:
    """Make one run, or go on with it; whatever fails is written down. Returns whether others can be made here after it.

    Not so once candidates failed: a device error spoils its process for good.
    """
    where = Path(folder)
    try:
        if not _left_to_another(where):
            _run(words, where, config_dirs)
        return True
    except EvomergeError as e:
        tell_failure(where, str(e))
        return not isinstance(e, SearchFailed)
    except Exception as e:
        tell_failure(where, f"{type(e).__name__}: {e}\n\n{traceback.format_exc()}")
        return False


def tell_failure(folder: Path, reason: str) -> None:
    """Say why a run failed, and write it down if that can be done: other runs are to go on."""
    print(f"error: {reason}", file=sys.stderr, flush=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / FAILURE, reason + "\n")
    except (OSError, JournalError) as e:
        print(f"error: {e} (so there is no {FAILURE})", file=sys.stderr, flush=True)


def _run(words: Sequence[str], folder: Path, config_dirs: Sequence[str]) -> None:
    from evomerge import api, config
    from evomerge.commands import asking
    from evomerge.reports import markdown
    from evomerge.sweep import finished

    asking.hush()
    with suppress(OSError):  # where the folder is a file, the journal says so
        (folder / FAILURE).unlink(missing_ok=True)
    asked = finished.digest(config.settings(words, config_dirs))
    report = api.search(*words, run=folder, config_dirs=config_dirs, progress=True).report()
    write_whole(folder / "report.md", markdown.markdown(report))
    finished.stamp(folder, asked)
    print(report.verdict, file=sys.stderr, flush=True)


def _left_to_another(folder: Path) -> bool:
    """Whether another process goes on writing this run: then it is its run, and no failure."""
    end = time.monotonic() + WRITER
    while held(folder):
        if time.monotonic() > end:
            print(f"note: {folder} is being run by another process; it is left to that one", file=sys.stderr)
            return True
        time.sleep(0.2)
    return False


# ---------------------------------------------------------------- when to stop


def _listen(orders: SimpleQueue[bytes], busy: Event) -> None:
    """Take orders; when they end while a run is made, the sweep has stopped or died: stop, too."""
    lines = io.FileIO(0, closefd=False)  # sys.stdin has a lock that a thread must not hold when Python ends
    while order := lines.readline():
        busy.set()
        orders.put(order)
    orders.put(b"")
    if busy.is_set():
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(PATIENCE)
        os.kill(os.getpid(), signal.SIGKILL)


def _stop(signum: int, frame: Any) -> None:
    signal.signal(signal.SIGHUP, _leave_to_the_sweep)  # closing the run is not to be interrupted
    raise KeyboardInterrupt


def _leave_to_the_sweep(signum: int, frame: Any) -> None:
    pass
