"""Which runs of a sweep are finished for these very settings: told without loading a model library."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from evomerge import config
from evomerge.lines import write_whole

STAMP = "finished.json"  # in a run's folder: what was asked when it finished, and its journal then
_WHERE = ("run", "executor")  # where a run is written and where it is computed change nothing in it


def digest(cfg: Any) -> str:
    """All that a run was asked: composed settings, the files they name (by size and time), our version."""
    plain = {key: value for key, value in config.plain(cfg).items() if key not in _WHERE}
    asked = [version("evomerge"), plain, [_facts(leaf) for leaf in _strings(plain)]]
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


def stamp(folder: Path, asked: str) -> None:
    """Say that a run has finished what was asked. asked: its `digest`, taken before it began."""
    write_whole(folder / STAMP, json.dumps({"asked": asked, "journal": _journal(folder)}) + "\n")


def is_finished(folder: Path, asked: str) -> bool:
    """Whether a run has finished exactly this, and nothing was added since. If in doubt, no: resuming is right."""
    try:
        found = json.loads((folder / STAMP).read_text())
        return bool(found == {"asked": asked, "journal": _journal(folder)})
    except (OSError, ValueError):
        return False


def _journal(folder: Path) -> str:
    return hashlib.sha256((folder / "journal.jsonl").read_bytes()).hexdigest()


def _strings(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from _strings(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _strings(value)


def _facts(name: str) -> list[tuple[str, int, int]]:
    """Sizes and times of a file, or of the files of a folder; nothing if the string names neither."""
    if os.path.isfile(name):
        paths = [name]
    elif name and os.path.isdir(name):
        paths = sorted(entry.path for entry in os.scandir(name) if entry.is_file())
    else:
        return []
    return [(path, (found := os.stat(path)).st_size, found.st_mtime_ns) for path in paths]
