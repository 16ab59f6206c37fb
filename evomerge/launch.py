"""A prepared search is run in its folder; the folder tells what it was started with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from evomerge.errors import JournalError
from evomerge.journal import Journal, Watch, unwatched
from evomerge.lineage import retire
from evomerge.lines import write_whole
from evomerge.overrides import key_of
from evomerge.phases import search
from evomerge.preparation import Prepared

LIBRARIES = ("evomerge", "torch", "transformers", "lm-eval", "cma", "numpy")


def run(prepared: Prepared, folder: Path, command: Mapping[str, Any], watch: Watch = unwatched) -> str:
    """Search in this folder, or go on with what it holds; returns the winner's id."""
    if prepared.new_lineage:
        retire(folder)
    journal = Journal(folder, watch=watch)
    try:
        versions = {name: version(name) for name in LIBRARIES}
        journal.begin(prepared.identity, versions, prepared.notes, prepared.plan.warm)
        write_whole(folder / "command.json", json.dumps(command, indent=1) + "\n")  # what `evomerge resume` repeats
        watch("begin", folder=str(folder))
        watch("notes", notes=[*prepared.notes, *prepared.advice])
        return search(prepared.plan, journal)
    finally:
        prepared.plan.executor.close()
        journal.close()


def command_of(folder: Path) -> tuple[list[str], list[str], str]:
    """What a run was started with: overrides (without run=), config folders, where its relative paths start."""
    path = folder / "command.json"
    if not path.is_file():
        raise JournalError(
            f"{folder} has no command.json: no run was started there. Start one: evomerge search run={folder}"
        )
    try:
        found = json.loads(path.read_text())
        cwd = found["cwd"] if Path(found["cwd"]).is_dir() else "."
        words = [word for word in found["overrides"] if key_of(word) != "run"]
        return words, list(found["config_dirs"]), cwd
    except (ValueError, KeyError, TypeError) as e:
        raise JournalError(f"{path} is damaged ({e}). Repeat the command that started the run instead.") from e
