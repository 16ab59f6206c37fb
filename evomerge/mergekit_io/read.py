"""From the file to the recipe, with its parents opened; and what mergekit would do otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from evomerge.mergekit_io.dialect import DIALECTS
from evomerge.mergekit_io.document import Document, read_document
from evomerge.mergekit_io.resolve import resolved
from evomerge.mergekit_io.settings import Settings
from evomerge.models.family import Family
from evomerge.types import Recipe


def read(path: Path, open_family: Callable[..., Family]) -> tuple[Recipe, Family]:
    """The recipe of a mergekit YAML, and its parents. open_family: evomerge.models.family.open_family.

    Raises MergeError for what mergekit would refuse, for unknown keys, which it would pass over, and for what a
    recipe cannot say; ParentError for models that cannot be opened.
    """
    document = read_document(path)
    base = document.base
    models = list(dict.fromkeys(i.model for s in document.slices for i in s.inputs if i.model != base))
    names = [m.name for m in models] or [b.name for b in (base,) if b]
    family = open_family(names, base.name if base else None, vocabulary=document.vocabulary)
    digests = {model: parent.digest for model, parent in zip(models, family.parents, strict=False)}
    if base and family.base:
        digests[base] = family.base.digest
    return resolved(document, family, digests), family


def notes(path: Path) -> list[str]:
    """Where evomerge reads this YAML otherwise than mergekit, or mergekit passes over a setting; one sentence each."""
    document = read_document(path)
    return [*_notes(document), *(f"{w}: mergekit's {document.method} does not read it." for w in _unread(document))]


def _notes(document: Document) -> Iterator[str]:
    if document.dtype not in (None, "float32"):
        yield f"dtype {document.dtype}: mergekit would compute in it; here all is computed in float32 and cast once."
    if document.raw.get("chat_template"):
        yield "chat_template auto: the base's chat template is kept."
    levels = [level for _, level, _ in _levels(document)]
    if any("int8_mask" in level for level in levels):
        yield "int8_mask changes no result and is left out."
    dropping = any(v < 1 for level in levels for rule in level.get("density", ()) for v in rule.values)
    if DIALECTS[document.method].random and dropping:
        yield "density below 1: which entries are dropped is drawn otherwise than in mergekit; the law is the same."
    if document.method == "arcee_fusion":
        yield "above a million entries mergekit estimates quartiles from a random sample; here they are exact."


def _levels(document: Document) -> Iterator[tuple[str, Settings, bool]]:
    """All `parameters:` blocks with their place, and whether they belong to one model."""
    yield "parameters", document.settings, False
    for part in document.slices:
        yield f"{part.where.rpartition(': ')[2]}.parameters", part.settings, False
        for i in part.inputs:
            yield f"parameters of {i.model}", i.settings, True


def _unread(document: Document) -> list[str]:
    """Settings that mergekit passes over: another method's, or a shared parameter under one model."""
    scopes = {p.name: p.scope for p in DIALECTS[document.method].parameters}
    found = [
        f"{name} ({where})"
        for where, level, of_model in _levels(document)
        for name in level
        if name not in scopes or (of_model and scopes[name] == "shared")
    ]
    return list(dict.fromkeys(found))
