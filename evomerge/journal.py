"""The record of a run: two append-only files of JSON lines, the only truth a resumed search has.

`journal.jsonl` holds canonical rows (header, evaluation, commit, stop): the same for the same configuration,
whatever the kills, up to line order. `events.jsonl` holds what differs from run to run: times, hosts, attempts,
tracebacks. A row is one line, written by one call and fsynced before anyone relies on it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evomerge.errors import JournalError
from evomerge.lines import AppendOnly, read_lines
from evomerge.rows import Commit, commit_row, evaluation_row, merged, read_commit, read_evaluation
from evomerge.types import Evaluation, Items, Recipe, Work

SCHEMA = 2
#: An evaluation may stand in for equal ones of its own and later phases only: then a run that was extended
#: after its test has the same search rows as a run that had the larger budget from the start.
PHASES = ("references", "warm", "search", "control", "selection", "test")

Key = tuple[str, str, int, str]
Watch = Callable[..., None]


def unwatched(step: str, /, **facts: Any) -> None:
    """The watcher of a run nobody looks at."""


class Journal:
    """A run folder opened for writing; raises JournalError if another process has it open.

    `watch(step, ...)` is told every step, so that progress can be shown and crashes can be rehearsed.
    """

    def __init__(self, folder: Path, *, watch: Watch = unwatched):
        self.folder = Path(folder)
        self.watch = watch
        self._file = AppendOnly(self.folder / "journal.jsonl", watch=watch, lock=True)
        self._events = AppendOnly(self.folder / "events.jsonl")
        self._by_key: dict[Key, Evaluation] = {}
        self._originals: dict[tuple[str, str, str], Evaluation] = {}  # first full evaluation of (phase, recipe, items)
        self._begun: set[tuple[str, str]] = set()  # (phase, id) of whatever has a row
        self._commits: dict[tuple[str, int], Commit] = {}
        self._stops: dict[str, dict[str, Any]] = {}
        self.header: dict[str, Any] | None = None
        try:
            self._replay(self._file.rows)
        except BaseException:
            self.close()  # the lock must not outlive a journal that cannot be read
            raise

    # ------------------------------------------------------------ identity

    def begin(
        self,
        identity: Mapping[str, Any],
        versions: Mapping[str, str],
        notes: Sequence[str] = (),
        warm: Sequence[Recipe] = (),
    ) -> None:
        """Write the header, or check that the one on file says the same run. Raises JournalError if not.

        warm: kept whole, for where they came from may change or go.
        """
        if self.header is None:
            header = {"schema": SCHEMA, "identity": identity, "versions": versions, "notes": list(notes)}
            self._append({"row": "header", **header, **({"warm": [r.data() for r in warm]} if warm else {})})
            return
        changed = differences(self.header["identity"], json.loads(json.dumps(identity)))
        if changed:
            raise JournalError(
                f"{self.folder} holds another run: " + "; ".join(changed) + ". Use a new folder (run=DIR), restore the "
                "settings, or pass --force to start a new lineage here, warm-started from the old winner."
            )
        for line in differences(self.header["versions"], versions):
            self.event("version", text=line)
            self.watch("notes", notes=[f"library version of {line}; every genome is checked against the journal"])

    # ------------------------------------------------------------ evaluations

    def missing(self, works: Iterable[Work]) -> list[Work]:
        """The works with rungs that no row answers yet, each with the answers on file.

        Raises JournalError if a replayed genome or its recipe differs at all.
        """
        absent = []
        for work in works:
            known = self.rungs(work)
            if not (known and known[-1].last):
                absent.append(replace(work, answered=tuple(e.scores for e in known)))
        return absent

    def rungs(self, work: Work) -> list[Evaluation]:
        """What is on file of a work, rung by rung, aliases carrying the scores of their originals."""
        found: list[Evaluation] = []
        for rung, items in enumerate(work.rungs, work.rung):
            known = self._by_key.get(_key(work.phase, work.id, rung, work.recipe.digest))
            if known is None:
                break
            self._refuse_another(known, work)
            found.append(self._resolved(known, work, items))
        return found

    def paid(self, work: Work) -> int:
        """Items of a work that were scored for it; aliases cost nothing."""
        keys = (_key(work.phase, work.id, rung, work.recipe.digest) for rung, _ in enumerate(work.rungs, work.rung))
        rows = (self._by_key.get(key) for key in keys)
        return sum(sum(map(len, e.items.values())) for e in rows if e is not None and e.alias_of is None)

    def _refuse_another(self, known: Evaluation, work: Work) -> None:
        if (known.genome, known.recipe_digest) != (work.genome, work.recipe.digest):
            what = "genome" if known.genome != work.genome else "recipe"
            raise JournalError(
                f"replay of {work.phase} {work.id} in {self.folder} asked another {what} than the journal holds: a "
                "library or the machine's arithmetic has changed. Continue with the versions in the journal's "
                "header, or use a new folder."
            )

    def original(self, work: Work, items: Items) -> Evaluation | None:
        """A full evaluation of an equal recipe on equal items, in this phase or an earlier one."""
        where = (work.recipe.digest, _items_key(items))
        earlier = PHASES[: PHASES.index(work.phase) + 1]
        return next((e for p in earlier if (e := self._originals.get((p, *where)))), None)

    def add(self, evaluation: Evaluation) -> None:
        """Append one evaluation; on return it is on disk."""
        self._append(evaluation_row(evaluation))

    def begun(self, phase: str, ids: Iterable[int]) -> bool:
        """Whether any of these candidates has a row."""
        return any((phase, str(ident)) in self._begun for ident in ids)

    def view(self, works: Sequence[Work]) -> list[Evaluation]:
        """One evaluation per work, in their order: its rungs in one."""
        return [merged(self.rungs(work)) for work in works]

    def _resolved(self, evaluation: Evaluation, work: Work, items: Items) -> Evaluation:
        if evaluation.alias_of is None:
            return evaluation
        original = self.original(work, items)
        assert original is not None, "an alias is written after its original"
        return replace(evaluation, scores=original.scores)

    # ------------------------------------------------------------ commits and stops

    def commit(self, phase: str, batch: int, commit: Commit) -> None:
        """Write what the optimizer will be told about a batch."""
        self._append(commit_row(phase, batch, commit))

    def committed(self, phase: str, batch: int) -> Commit | None:
        """What was told for a batch and why, read back, or None if it was never committed."""
        return self._commits.get((phase, batch))

    def stop(self, phase: str, **outcome: Any) -> None:
        """Record why a phase ended and what it found; the newest row of a phase counts, and is not repeated."""
        row = json.loads(json.dumps({"row": "stop", "phase": phase, **outcome}))
        if self._stops.get(phase) != row:
            self._append(row)

    # ------------------------------------------------------------ events

    def event(self, kind: str, **facts: Any) -> None:
        """Append to events.jsonl: not canonical, not fsynced."""
        self._events.append({"event": kind, "time": time.time(), "pid": os.getpid(), **facts}, sync=False)

    def seconds(self) -> float:
        """Seconds of the search that earlier processes have written down; at least the limit that ended it."""
        written = [e["elapsed"] for e in self._events.rows if e.get("phase") == "search" and "elapsed" in e]
        return float(max([*written, self._stops.get("search", {}).get("seconds", 0.0)]))

    def close(self) -> None:
        self._file.close()
        self._events.close()

    # ------------------------------------------------------------ rows

    def _append(self, row: Mapping[str, Any]) -> None:
        self._file.append(row)
        self._take(json.loads(json.dumps(row)))

    def _replay(self, found: Sequence[dict[str, Any]]) -> None:
        _refuse_other_schema(found, self.folder)
        for row in found:
            self._take(row)

    def _take(self, row: dict[str, Any]) -> None:
        kind = row.get("row")
        if kind == "header":
            self.header = row
        elif kind == "evaluation":
            self._take_evaluation(read_evaluation(row))
        elif kind == "commit":
            self._commits[row["phase"], row["batch"]] = read_commit(row)
        elif kind == "stop":
            self._stops[row["phase"]] = row
        else:
            raise JournalError(f"{self.folder}/journal.jsonl has a row of unknown kind {kind!r}.")

    def _take_evaluation(self, e: Evaluation) -> None:
        self._by_key[_key(e.phase, e.id, e.rung, e.recipe_digest)] = e
        self._begun.add((e.phase, str(e.id)))
        if e.alias_of is None:
            self._originals.setdefault((e.phase, e.recipe_digest, _items_key(e.items)), e)


def rows(folder: Path, name: str = "journal.jsonl") -> list[dict[str, Any]]:
    """The canonical rows of a run, for reading only; a torn last line is left out."""
    path = Path(folder) / name
    if not path.is_file():
        raise JournalError(f"{folder} is not a run: it has no journal.jsonl. Give the folder a search wrote (run=DIR).")
    found = read_lines(path)[0]
    _refuse_other_schema(found, folder)
    return found


def newest_stop(found: Sequence[Mapping[str, Any]], phase: str) -> Mapping[str, Any] | None:
    """The row that ended a phase last; None if it has not ended yet."""
    return next((r for r in reversed(found) if r["row"] == "stop" and r["phase"] == phase), None)


def _refuse_other_schema(found: Sequence[Mapping[str, Any]], folder: Path) -> None:
    if found and found[0].get("row") == "header" and found[0].get("schema") != SCHEMA:
        raise JournalError(
            f"{folder} has journal schema {found[0].get('schema')}, this evomerge reads {SCHEMA}. Continue it "
            "with the evomerge that began it, or use a new folder."
        )


def events(folder: Path) -> list[dict[str, Any]]:
    path = Path(folder) / "events.jsonl"
    return read_lines(path)[0] if path.is_file() else []


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Human-readable leaves in which two plain data trees differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = sorted({*old, *new})
        return [d for k in keys for d in differences(old.get(k), new.get(k), f"{path}.{k}" if path else k)]
    return [] if old == new else [f"{path} was {old!r}, now {new!r}"]


def _key(phase: str, ident: int | str, rung: int, recipe_digest: str) -> Key:
    # a candidate's id is enough, and a replay that asks another genome must be seen, not evaluated anew
    return (phase, str(ident), rung, "" if phase in ("warm", "search", "control") else recipe_digest)


def _items_key(items: Items) -> str:
    return json.dumps(sorted((task, sorted(ids)) for task, ids in items.items()))
