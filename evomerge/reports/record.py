"""The rows of a run folder, indexed for reading: which evaluation answers what, and where the run stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evomerge.journal import events, rows
from evomerge.rows import Commit, read_commit, read_evaluation
from evomerge.types import Evaluation

#: What a run does in each phase, in its order.
DOING = {
    "references": "scoring the references",
    "warm": "scoring the warm starts",
    "search": "searching",
    "control": "running the control",
    "selection": "scoring the finalists on selection items",
    "test": "scoring the finalists on test items",
}


@dataclass(frozen=True)
class Record:
    """A run folder as read: header row, the rows after it in file order, and the events beside them."""

    folder: Path
    header: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]

    @property
    def identity(self) -> Mapping[str, Any]:
        return self.header.get("identity") or {}

    @cached_property
    def evaluations(self) -> list[Evaluation]:
        return [read_evaluation(row) for row in self.rows if row["row"] == "evaluation"]

    @cached_property
    def counts(self) -> Counter[str]:
        """Models scored by phase, each counted once, however many rungs it took."""
        return Counter(phase for phase, *_ in {(e.phase, str(e.id), e.recipe_digest) for e in self.evaluations})

    @cached_property
    def commits(self) -> list[Commit]:
        """What the optimizer of the search was told, batch by batch."""
        return [read_commit(row) for row in self.rows if row["row"] == "commit" and row["phase"] == "search"]

    @property
    def references(self) -> dict[str, str]:
        """Recipe digests of base, parents and average by id, as far as they are scored."""
        return {str(e.id): e.recipe_digest for e in self.evaluations if e.phase == "references"}

    @cached_property
    def _by_id(self) -> dict[tuple[str, str], list[Evaluation]]:
        return _grouped(((e.phase, str(e.id)), e) for e in self.evaluations)

    @cached_property
    def _originals(self) -> dict[str, list[Evaluation]]:
        return _grouped((e.recipe_digest, e) for e in self.evaluations if e.alias_of is None)

    def evaluation(self, phase: str, ident: str, digest: str) -> Evaluation | None:
        """The evaluation of a recipe under an id, an alias carrying the scores of its original.

        The digest counts: after an extension, "mean" has named several recipes.
        """
        rows = [e for e in self._by_id.get((phase, ident), []) if e.recipe_digest == digest]
        if not rows or rows[-1].alias_of is None:
            return rows[-1] if rows else None
        originals = self._originals.get(digest, [])
        return next((o for o in originals if _same_items(o, rows[-1])), None)

    def stops(self, phase: str) -> list[Mapping[str, Any]]:
        return [row for row in self.rows if row["row"] == "stop" and row["phase"] == phase]

    def newest_stop(self, phase: str) -> Mapping[str, Any] | None:
        """The stop row that counts: each extension of a run writes its own."""
        return next(reversed(self.stops(phase)), None)

    def opened(self) -> int:
        """How often finalists were scored on the test items in this folder, by lineages put aside too."""
        aside = [rows(self.folder, path.name) for path in self.folder.glob("journal.*.jsonl")]
        tests = [row for lineage in aside for row in lineage if row["row"] == "stop" and row["phase"] == "test"]
        return sum(map(self.tested, self.stops("selection"))) + len(tests)

    def tested(self, selection: Mapping[str, Any]) -> bool:
        """Whether all finalists of a selection have test rows."""
        return all(self.evaluation("test", f["id"], f["digest"]) for f in selection["finalists"])


def load(folder: Path) -> Record:
    """Read a run folder, whether its run is over or not. Raises JournalError if it is none."""
    found = rows(folder)
    header = found[0] if found and found[0].get("row") == "header" else {}
    return Record(Path(folder), header, found[1:] if header else found, events(folder))


def state(record: Record) -> tuple[str, bool]:
    """What the run is at in words, and whether it is finished: whether its last row ends the test."""
    if not record.rows:
        return "nothing evaluated yet", False
    last, extended = record.rows[-1], record.newest_stop("selection") is not None
    phase, stopped = last["phase"], last["row"] == "stop"
    if stopped and last.get("reason") == "failures":
        return f"stopped: {last['failed']} of {last['evaluations']} candidates failed in phase {phase}", False
    if stopped and phase == "test":
        return f"finished, {record.counts['search']} evaluations in search", True
    return _under_way(phase, stopped, record.counts[phase], extended=extended), False


def _under_way(phase: str, stopped: bool, count: int, extended: bool) -> str:
    again = " again (an extension; scores are those of the last selection)" if extended and phase == "search" else ""
    so_far = f"{count} evaluation{'s' * (count != 1)} so far"
    return f"{phase} done, {so_far}" if stopped else f"{DOING[phase]}{again}, {so_far}"


def _same_items(one: Evaluation, other: Evaluation) -> bool:
    return {t: set(ids) for t, ids in one.items.items()} == {t: set(ids) for t, ids in other.items.items()}


def _grouped(pairs: Any) -> dict[Any, list[Evaluation]]:
    groups: dict[Any, list[Evaluation]] = {}
    for key, evaluation in pairs:
        groups.setdefault(key, []).append(evaluation)
    return groups
