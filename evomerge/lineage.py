"""What a search may begin from: the winner of a folder's earlier lineage, recipes, and finalists of other runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evomerge.errors import ConfigError, JournalError
from evomerge.journal import Journal, newest_stop, rows
from evomerge.recipe_io import from_data
from evomerge.types import Recipe

_REFERENCES = ("base", "average", "parent:")


def retire(folder: Path) -> None:
    """Put the folder's journal aside (journal.1.jsonl, ...), so that a new lineage can start."""
    if not (folder / "journal.jsonl").is_file():
        return
    number = len(_retired(folder)) + 1
    Journal(folder).close()  # raises if another process is writing
    for name in ("events", "journal"):  # in this order: a crash between them must not leave old times to the new one
        (folder / f"{name}.jsonl").rename(folder / f"{name}.{number}.jsonl")


def warm_starts(given: Sequence[str], folder: Path, force: bool, space: Any) -> tuple[tuple[Recipe, ...], list[str]]:
    """Recipes to begin from that the space can express, each once; and notes on those that it cannot.

    given: recipe files (ours or mergekit's) and run folders; a run that has begun keeps its own, whatever has become
    of them. Raises ConfigError if not one of a file or folder's recipes can be expressed.
    """
    if not isinstance(given, list | tuple) or not all(isinstance(path, str) for path in given):
        raise ConfigError(
            f"warm_start is {given!r}; wanted a list of recipe files and run folders: 'warm_start=[outputs/first]'."
        )
    if not force and (kept := _kept(folder)) is not None:
        return kept, []
    found: dict[str, Recipe] = {}
    notes = []
    for path in given:
        recipes = _read(Path(path))
        good = [r for r in recipes if space.encode(r) is not None]
        if not good:
            raise ConfigError(
                f"warm_start names {path}, and this space cannot express "
                f"{'it' if len(recipes) == 1 else f'any of its {len(recipes)} recipes'}: other parents, another "
                "method, more layer groups, or values outside the ranges. Widen the space, or leave it out."
            )
        if len(good) < len(recipes):
            notes.append(
                f"warm_start {path}: {len(recipes) - len(good)} of {len(recipes)} recipes lie outside this space"
            )
        found.update({r.digest: r for r in good})
    old = _winner_before(folder, force)
    if old is not None and space.encode(old) is not None:
        found.setdefault(old.digest, old)
    return tuple(found.values()), notes


def _read(path: Path) -> list[Recipe]:
    """A recipe file's recipe, or the finalists of a run that were not there before it: its front first."""
    from evomerge.export import read_recipe

    if not path.exists():
        raise ConfigError(
            f"warm_start names {path}, which is not there. Give recipe files or folders of finished runs."
        )
    if path.is_file():
        return [read_recipe(path)[0]]
    stop = newest_stop(rows(path), "selection")
    if stop is None:
        raise JournalError(f"warm_start names {path}, a run without a winner yet. Finish it: evomerge resume {path}")
    front = stop.get("front", [stop["winner"]])
    named = [f for f in stop["finalists"] if not str(f["id"]).startswith(_REFERENCES)]
    if not named:
        raise ConfigError(f"warm_start names {path}, whose search found nothing beside its references. Leave it out.")
    return [from_data(f["recipe"]) for f in sorted(named, key=lambda f: f["id"] not in front)]


def _kept(folder: Path) -> tuple[Recipe, ...] | None:
    """What the run in this folder began from; None if none has begun."""
    if not (folder / "journal.jsonl").is_file() or not (found := rows(folder)):
        return None
    return tuple(from_data(data) for data in found[0].get("warm", ()))


def _winner_before(folder: Path, force: bool) -> Recipe | None:
    """The winner of the lineage before this one; None if this is the first, or none of them found a winner."""
    newest = [folder / "journal.jsonl"] if force and (folder / "journal.jsonl").is_file() else []
    for path in [*newest, *reversed(_retired(folder))]:
        if stop := newest_stop(rows(folder, path.name), "selection"):
            winner = next(f for f in stop["finalists"] if f["id"] == stop["winner"])
            return from_data(winner["recipe"])
    return None


def _retired(folder: Path) -> list[Path]:
    return sorted(folder.glob("journal.*.jsonl"), key=lambda p: int(p.name.split(".")[1]))
