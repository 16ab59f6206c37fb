"""Append-only files of JSON lines that survive a kill, a full disk and a second writer."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from evomerge.errors import JournalError


class AppendOnly:
    """A JSON-lines file opened for appending. `rows` are the lines it held when opened.

    A last line without its newline (full disk, power loss) is cut off at opening; damage anywhere else raises
    JournalError with the line number. With `lock`, a second writer is refused at once.
    """

    def __init__(self, path: Path, *, watch: Callable[[str], None] = lambda step: None, lock: bool = False):
        self.path, self._watch = path, watch
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as e:
            raise JournalError(f"cannot write {path}: {e.strerror}. Choose a writable folder with run=DIR.") from e
        try:
            if lock:
                self._lock()
            self.rows, self._end = read_lines(path)
            os.ftruncate(self._fd, self._end)
            _fsync_folder(path.parent)
        except BaseException:
            os.close(self._fd)  # else the lock would outlive a file that could not be read
            raise

    def append(self, row: Mapping[str, Any], *, sync: bool = True) -> None:
        """Write one line whole, then fsync; a short write is undone and raises JournalError.

        Ctrl-C while it is written undoes it; once it stands in the file it was paid for, and stays.
        """
        line = (json.dumps(row, allow_nan=False, separators=(",", ":")) + "\n").encode()
        start = self._end
        try:
            self._watch("write")
            self._write(line)
            self._watch("written")
            if sync:
                os.fsync(self._fd)
                self._watch("synced")
        except OSError as e:
            os.ftruncate(self._fd, start)
            self._end = start
            raise JournalError(
                f"cannot append to {self.path}: {e.strerror}. Nothing recorded is lost; make room and run the same "
                "command again."
            ) from e

    def _write(self, line: bytes) -> None:
        done = 0
        try:
            while done < len(line):  # on a full disk os.write may return short without an error
                done += os.write(self._fd, line[done:])
        except BaseException:
            os.ftruncate(self._fd, self._end)
            raise
        self._end += len(line)

    def _lock(self) -> None:
        writer = self.path.parent / "writer.json"  # flock may be silent on network disks: say who writes, too
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            who = writer.read_text().strip() if writer.is_file() else "another process"
            raise JournalError(
                f"{self.path.parent} is being written by {who}. Wait for it or stop it, or choose another run=DIR."
            ) from e
        write_whole(writer, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}) + "\n")

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:  # closed twice, the number might by then be another file's
            os.close(fd)


def write_whole(path: Path, text: str) -> None:
    """Replace a small file at once: readers see the old text or the new one, never a part."""
    beside = path.with_name(path.name + ".new")
    try:
        beside.write_text(text)
        os.replace(beside, path)
    except OSError as e:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise JournalError(f"cannot write {path}: {e.strerror}. Make room or choose a writable folder.") from e


def read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Rows of a JSON-lines file and the byte length of its whole lines."""
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    return [_parse(line, n, path) for n, line in enumerate(data[:end].splitlines(), 1)], end


def _parse(line: bytes, number: int, path: Path) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as e:
        raise JournalError(
            f"{path} is damaged at line {number} ({e}). Restore it from a copy, or start anew with another run=DIR."
        ) from e
    if not isinstance(row, dict):
        raise JournalError(f"{path} is damaged at line {number}: wanted an object, got {type(row).__name__}.")
    return row


def _fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
