"""Which documents serve search, selection and test: named by content, cut by seed, never by position."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from evomerge.errors import ConfigError, TaskError, unknown

Docs = Mapping[str, Mapping[str, Any]]  # documents by item id


@dataclass(frozen=True)
class Split:
    """How items are cut. `seed` is not the run's seed: runs of any seed share their test items.

    selection: share of the validation items kept for selection, in (0, 1). test: share cut off for the test,
    for tasks of a single split only. group: document field; documents of an equal value stay on one side. bank: at most
    so many search items a task (None: no limit); what is left out serves nothing, least of all the test.
    """

    seed: int = 0
    selection: float = 0.4
    test: float = 0.4
    group: str | None = None
    bank: int | None = 1000

    def __post_init__(self) -> None:
        if self.bank is not None and (type(self.bank) is not int or self.bank < 2):
            raise ConfigError(f"split.bank is {self.bank!r}; wanted a whole number from 2, or null for no limit.")
        for name in ("selection", "test"):
            share = getattr(self, name)
            if not 0 < share < 1:
                raise ConfigError(f"split.{name} is {share}; it is a share of the items, between 0 and 1.")


def as_split(split: Split | Mapping[str, Any] | None) -> Split:
    """The split itself, or one made from its keywords. Raises ConfigError for an unknown keyword."""
    if isinstance(split, Split):
        return split
    known = [f.name for f in fields(Split)]
    for name in split or {}:
        if name not in known:
            raise ConfigError(unknown("split option", name, known))
    return Split(**(split or {}))


def item_id(doc: Mapping[str, Any]) -> str:
    """Name of a document: 16 hex digits over its canonical JSON."""
    text = json.dumps(doc, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def digest(names: Iterable[str]) -> str:
    """16 hex digits over names, in their order."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def divide(name: str, docs: Docs, test: Docs | None, split: Split) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Items by side ("search", "selection", "test") and notes for the report.

    `docs` are for search and selection; without `test` documents they are cut three ways. A document (or group)
    that is also in the test is dropped from search. Raises TaskError if a side ends empty.
    """
    notes = []
    groups = _groups(name, docs, split.group)
    if test is None:
        order = _order(groups, name, split)
        tested, left = _take(order, groups, split.test)
        notes.append(f"{name}: one split only; {len(tested)} of {len(docs)} items were cut off for the test")
    else:
        held = _groups(name, test, split.group)
        tested = _order(held, name, split)
        left = [i for i in _order(groups, name, split) if groups[i] not in set(held.values())]
        if len(left) < len(docs):
            notes.append(f"{name}: {len(docs) - len(left)} of {len(docs)} search items are in the test too: dropped")
    selection, unlimited = _take(left, groups, split.selection)
    search = _first(unlimited, groups, split.bank)
    if len(search) < len(unlimited):
        notes.append(f"{name}: {len(search)} of {len(unlimited)} search items are used (split.bank={split.bank})")
    sides = {"search": tuple(search), "selection": tuple(selection), "test": tuple(tested)}
    _refuse_empty(name, sides, split)
    return sides, notes


def _groups(name: str, docs: Docs, field: str | None) -> dict[str, str]:
    """Group of each item: its value of `field`, or the item alone."""
    if field is None:
        return {i: i for i in docs}
    for doc in docs.values():
        if field not in doc:
            raise TaskError(unknown(f"document field in split.group of task '{name}':", field, doc))
    return {i: item_id({"group": doc[field]}) for i, doc in docs.items()}


def _order(groups: Mapping[str, str], name: str, split: Split) -> list[str]:
    """Items by keyed hash of their group, whatever the order they came in.

    Without groups the key holds the task; with groups it does not, so that the parallel versions of a group
    in several tasks (translations) are cut alike.
    """
    salt = f"{split.seed}/{name if split.group is None else ''}/"
    return sorted(groups, key=lambda i: (hashlib.sha256((salt + groups[i]).encode()).hexdigest(), i))


def _take(order: Sequence[str], groups: Mapping[str, str], share: float) -> tuple[list[str], list[str]]:
    """The first round(share * n) items in order, completed to whole groups, and the items left."""
    end = round(share * len(order))
    while 0 < end < len(order) and groups[order[end - 1]] == groups[order[end]]:
        end += 1
    return list(order[:end]), list(order[end:])


def _first(order: Sequence[str], groups: Mapping[str, str], limit: int | None) -> list[str]:
    """At most `limit` items in order, in whole groups; the first group whole even if it is larger."""
    end = len(order) if limit is None else min(limit, len(order))
    while 0 < end < len(order) and groups[order[end - 1]] == groups[order[end]]:
        end -= 1
    return [i for i in order if groups[i] == groups[order[0]]] if order and not end else list(order[:end])


def subtasks_of(name: str, docs: Docs, field: str | None) -> dict[str, str]:
    """Sub-task of each item: its value of `field`; empty if no document has it. Raises TaskError if only some do."""
    if field is None or not any(field in doc for doc in docs.values()):
        return {}
    for item, doc in docs.items():
        if field not in doc:
            raise TaskError(
                f"task '{name}': document {item} has no field '{field}', others have. task.subtask names a field that "
                f"all documents of a task have, or none. This one has: {', '.join(doc)}."
            )
    return {item: str(doc[field]) for item, doc in docs.items()}


def _refuse_empty(name: str, sides: Mapping[str, tuple[str, ...]], split: Split) -> None:
    counts = ", ".join(f"{side} {len(items)}" for side, items in sides.items())
    for side, items in sides.items():
        if not items:
            remedy = "Lower split.selection or split.test" if side == "search" else f"Raise split.{side}"
            raise TaskError(
                f"task '{name}' has no {side} items ({counts}; shares: selection {split.selection}, test {split.test},"
                f" group {split.group}). {remedy}, add documents, or choose a finer split.group."
            )
