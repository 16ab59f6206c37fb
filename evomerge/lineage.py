"""Lineages of a run folder: --force puts a journal aside and starts anew from its winner."""

from __future__ import annotations

from pathlib import Path

from evomerge.journal import Journal, rows
from evomerge.recipe_io import from_data
from evomerge.types import Recipe


def retire(folder: Path) -> None:
    """Put the folder's journal aside (journal.1.jsonl, ...), so that a new lineage can start."""
    if not (folder / "journal.jsonl").is_file():
        return
    number = len(_retired(folder)) + 1
    Journal(folder).close()  # raises if another process is writing
    for name in ("journal", "events"):
        (folder / f"{name}.jsonl").rename(folder / f"{name}.{number}.jsonl")


def warm_start(folder: Path, force: bool) -> Recipe | None:
    """The winner of the lineage before this one; None if this is the first, or none of them found a winner."""
    newest = [folder / "journal.jsonl"] if force and (folder / "journal.jsonl").is_file() else []
    for path in [*newest, *reversed(_retired(folder))]:
        stops = [r for r in rows(folder, path.name) if r["row"] == "stop" and r["phase"] == "selection"]
        if stops:
            winner = next(f for f in stops[-1]["finalists"] if f["id"] == stops[-1]["winner"])
            return from_data(winner["recipe"])
    return None


def _retired(folder: Path) -> list[Path]:
    return sorted(folder.glob("journal.*.jsonl"), key=lambda p: int(p.name.split(".")[1]))
