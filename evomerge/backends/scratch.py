"""Folders for files that another process is to read for a while, and those that killed processes left behind."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from pathlib import Path

import psutil

HOUR = 3600.0


def new_folder(where: Path | None = None) -> Path:
    """A new folder, mode 0700, in `where` (None: in memory if there is such a place, else among temporary files).

    What processes of this machine left there when they were killed is removed first.
    """
    root = where or (Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir()))
    _clear(root)
    return Path(tempfile.mkdtemp(prefix=f"{_prefix()}{os.getpid()}-", dir=root))


def _prefix() -> str:
    return f"evomerge-{socket.gethostname()}-"


def _clear(root: Path) -> None:
    for found in root.glob(f"{_prefix()}*"):
        owner = found.name.removeprefix(_prefix()).partition("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)) and _untouched(found):
            shutil.rmtree(found, ignore_errors=True)


def _untouched(folder: Path) -> bool:
    """For an hour: the process may live in another container, where we do not see it."""
    try:
        return time.time() - folder.stat().st_mtime > HOUR
    except OSError:
        return False
