"""The user's own files as items: prompts line by line, texts in passages, cut into splits by content."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from evomerge.errors import TaskError, unknown
from evomerge.tasks.splits import Split, as_split, digest, divide, item_id

Document = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Corpus:
    """Documents by item id, and which items serve which split; equal documents are one item."""

    measure: str
    docs: Mapping[str, Document]
    items: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
    split: Split

    @classmethod
    def cut(cls, measure: str, docs: Sequence[Document], split: Split | Mapping[str, Any] | None) -> Corpus:
        """Three ways, by hash; split.group is heeded if the documents have that field. Raises TaskError if too few."""
        rule, named = as_split(split), {item_id(doc): doc for doc in docs}
        if not all(rule.group in doc for doc in docs):
            rule = replace(rule, group=None)
        items, notes = divide(measure, named, None, rule)
        return cls(measure, named, items, tuple(notes), rule)

    def pick(self, items: Sequence[str]) -> list[Document]:
        """The documents of these items, in their order. Raises TaskError for an item that is not here."""
        for item in items:
            if item not in self.docs:
                raise TaskError(
                    f"measure '{self.measure}' has no item '{item}' among its {len(self.docs)}. Items are named by "
                    "their content: has its file changed since the run began?"
                )
        return [self.docs[item] for item in items]

    def identity(self) -> dict[str, Any]:
        items = {split: {"count": len(ids), "digest": digest(ids)} for split, ids in self.items.items()}
        return {"split": asdict(self.split), "items": items}


def read_prompts(measure: str, file: str, field: str) -> list[Document]:
    """Documents that hold a prompt in `field`: the lines of a .jsonl file, or the non-empty lines of any other."""
    path = located(measure, file)
    return _records(measure, path, field) if path.suffix == ".jsonl" else _lines(measure, path, field)


def read_passages(measure: str, file: str, field: str, size: int) -> list[Document]:
    """Documents that hold a text in `field`: those of a .jsonl file as they are, any other file cut into passages.

    size: characters of a passage at most; one ends after a paragraph, else a line, else a word.
    """
    path = located(measure, file)
    if path.suffix == ".jsonl":
        return _records(measure, path, field)
    return [{field: passage} for passage in passages(_read(measure, path), size)]


def passages(text: str, size: int) -> list[str]:
    """A text in pieces of up to `size` characters that together are the text, but for pieces of mere space."""
    pieces, start = [], 0
    while start < len(text):
        end = start + size
        if end < len(text):
            end = next(
                (at + len(mark) for mark in ("\n\n", "\n", " ") if (at := text.rfind(mark, start, end)) > start), end
            )
        pieces.append(text[start:end])
        start = end
    return [piece for piece in pieces if piece.strip()]


def located(measure: str, file: str) -> Path:
    """Absolute, since the working directory may change. Raises TaskError if there is no such file."""
    path = Path(file).expanduser().resolve()
    if not path.is_file():
        raise TaskError(f"measures.{measure}.file '{file}' is no file. Give a UTF-8 text file or a .jsonl file.")
    return path


def _read(measure: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # a byte order mark is no text
    except UnicodeDecodeError as e:
        raise TaskError(f"measures.{measure}.file '{path}' is not UTF-8 ({e}). Convert it: iconv -t UTF-8.") from e


def _lines(measure: str, path: Path, field: str) -> list[Document]:
    return [{field: line} for line in _read(measure, path).splitlines() if line.strip()]


def _records(measure: str, path: Path, field: str) -> list[Document]:
    """Lines end at a line feed alone: JSON strings may hold the other separators of str.splitlines."""
    numbered = enumerate(_read(measure, path).split("\n"), start=1)
    return [_record(f"measures.{measure}.file '{path}' line {k}", line, field) for k, line in numbered if line.strip()]


def _record(where: str, line: str, field: str) -> Document:
    try:
        doc = json.loads(line)
    except ValueError as e:
        raise TaskError(f"{where} is no JSON ({e}). Wanted one object a line.") from e
    if not isinstance(doc, dict):
        raise TaskError(f"{where} is {type(doc).__name__}; wanted an object with the field '{field}'.")
    if field not in doc:
        raise TaskError(f"{where}: {unknown('field', field, doc)} Set the measure's `field`.")
    if not isinstance(doc[field], str) or not doc[field].strip():
        raise TaskError(f"{where}: '{field}' is {doc[field]!r}; wanted a text that is not empty.")
    return doc
