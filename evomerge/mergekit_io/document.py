"""A mergekit YAML as checked nouns: its models, slices and settings, before any checkpoint is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evomerge.errors import MergeError, unknown
from evomerge.mergekit_io.contract import check_bases, check_inputs, check_method
from evomerge.mergekit_io.references import Reference, parse_reference
from evomerge.mergekit_io.settings import Settings, parse

DTYPES = ("float32", "bfloat16", "float16")
#: Keys that no recipe of ours has.
_THEIRS = ("merge_method", "models", "slices")
_KEYS = (
    *("merge_method", "models", "slices", "modules", "base_model", "parameters", "dtype", "out_dtype"),
    *("tokenizer_source", "tokenizer", "chat_template"),
)


@dataclass(frozen=True)
class Input:
    """A model of a slice. `blocks`: first and end, or None for all of them."""

    model: Reference
    blocks: tuple[int, int] | None
    settings: Settings


@dataclass(frozen=True)
class Slice:
    """Models merged with each other, block by block. `base` is the slice's own, or else the document's."""

    inputs: tuple[Input, ...]
    base: Reference | None
    settings: Settings
    where: str


@dataclass(frozen=True)
class Document:
    """The whole YAML. `vocabulary` is evomerge's word for its tokenizer source; `raw` the YAML's own mapping."""

    method: str
    base: Reference | None
    slices: tuple[Slice, ...]
    settings: Settings
    dtype: str | None
    out_dtype: str | None
    vocabulary: str
    raw: Mapping[str, Any]
    where: str


def is_mergekit(path: Path) -> bool:
    """Whether the file is a YAML mapping with one of mergekit's own keys."""
    try:
        raw = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    return isinstance(raw, dict) and not raw.keys().isdisjoint(_THEIRS)


def read_document(path: Path) -> Document:
    """The YAML, checked as far as it can be without its models. Raises MergeError."""
    raw, where = _mapping(path), str(path)
    check_keys(raw, _KEYS, where)
    method = check_method(raw.get("merge_method"), where)
    base = _base(raw, where)
    slices = _slices(raw, base, where)
    if base is None and len({s.base for s in slices}) == 1:
        base = slices[0].base
    document = Document(
        method=method,
        base=base,
        slices=slices,
        settings=parse(raw.get("parameters"), f"{where}: parameters"),
        dtype=_dtype(raw, "dtype", where),
        out_dtype=_dtype(raw, "out_dtype", where),
        vocabulary=_vocabulary(raw, base, where),
        raw=raw,
        where=where,
    )
    for part in slices:
        models = [i.model for i in part.inputs]
        check_inputs(method, models, part.base, part.where)
        check_bases(method, models, part.base, base, part.where)
    return document


def _mapping(path: Path) -> Mapping[str, Any]:
    try:
        raw = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        raise MergeError(f"cannot read {path}: {e}. Give a YAML file with a merge_method.") from e
    if not isinstance(raw, dict):
        found = "empty" if raw is None else f"a {type(raw).__name__}"
        raise MergeError(f"{path} is {found}; wanted a YAML mapping with merge_method, and models or slices.")
    return raw


def check_keys(raw: Any, keys: tuple[str, ...], where: str) -> None:
    if not isinstance(raw, Mapping):
        raise MergeError(f"{where} is {raw!r}; wanted a mapping with {', '.join(keys)}.")
    for key in raw:
        if key not in keys:
            raise MergeError(f"{where}: " + unknown("key", str(key), keys))


def _base(raw: Mapping[str, Any], where: str) -> Reference | None:
    if raw.get("base_model") is None:
        return None
    base = parse_reference(raw["base_model"], f"{where}: base_model")
    if base.lora is not None:
        raise MergeError(f"{where}: base_model {base} is a LoRA. Merge it into its model first.")
    return base


# ---------------------------------------------------------------- models and slices


def _slices(raw: Mapping[str, Any], base: Reference | None, where: str) -> tuple[Slice, ...]:
    if raw.get("modules"):
        raise MergeError(f"{where}: 'modules' (models of several towers) cannot be built. Use models or slices.")
    forms = [form for form in ("models", "slices") if raw.get(form)]
    if len(forms) != 1:
        raise MergeError(f"{where} has {' and '.join(forms) or 'neither models nor slices'}; wanted exactly one.")
    entries = raw[forms[0]]
    if not isinstance(entries, list):
        raise MergeError(f"{where}: {forms[0]} is {entries!r}; wanted a list.")
    if forms == ["models"]:
        return (_whole(entries, base, f"{where}: models"),)
    return tuple(_slice(entry, base, f"{where}: slices[{i}]") for i, entry in enumerate(entries))


def _whole(entries: list[Any], base: Reference | None, where: str) -> Slice:
    """All blocks as one slice. A base that is not listed comes last, whatever the method: as mergekit has it."""
    inputs = [_input(entry, f"{where}[{i}]", sliced=False) for i, entry in enumerate(entries)]
    if base is not None and all(i.model != base for i in inputs):
        inputs.append(Input(base, None, {}))
    return Slice(tuple(inputs), base, {}, where)


def _slice(raw: Any, base: Reference | None, where: str) -> Slice:
    check_keys(raw, ("sources", "base_model", "parameters"), where)
    if not isinstance(raw.get("sources"), list) or not raw["sources"]:
        raise MergeError(f"{where}.sources is {raw.get('sources')!r}; wanted a list of models with layer_range.")
    return Slice(
        inputs=tuple(_input(s, f"{where}.sources[{i}]", sliced=True) for i, s in enumerate(raw["sources"])),
        base=_base(raw, where) or base,
        settings=parse(raw.get("parameters"), f"{where}.parameters"),
        where=where,
    )


def _input(raw: Any, where: str, *, sliced: bool) -> Input:
    check_keys(raw, ("model", "parameters", *(("layer_range",) if sliced else ())), where)
    if raw.get("model") is None:
        raise MergeError(f"{where} has no model. Add 'model:'.")
    blocks = _blocks(raw.get("layer_range"), f"{where}.layer_range") if sliced else None
    settings = parse(raw.get("parameters"), f"{where}.parameters")
    return Input(parse_reference(raw["model"], f"{where}.model"), blocks, settings)


def _blocks(raw: Any, where: str) -> tuple[int, int]:
    whole = isinstance(raw, list) and len(raw) == 2 and all(type(n) is int for n in raw)
    if not whole or not 0 <= raw[0] < raw[1]:
        raise MergeError(f"{where} is {raw!r}; wanted [first, end], two whole numbers with 0 <= first < end.")
    return raw[0], raw[1]


# ---------------------------------------------------------------- dtype and vocabulary


def _dtype(raw: Mapping[str, Any], key: str, where: str) -> str | None:
    if raw.get(key) is None:
        return None
    name = str(raw[key]).removeprefix("torch.")
    if name not in DTYPES:
        raise MergeError(f"{where}: " + unknown(key, name, DTYPES))
    return name


def _vocabulary(raw: Mapping[str, Any], base: Reference | None, where: str) -> str:
    if raw.get("chat_template") not in (None, "auto"):
        raise MergeError(f"{where}: chat_template cannot be set. Remove it: the merge keeps the template of its base.")
    source, settings = raw.get("tokenizer_source"), raw.get("tokenizer")
    if source and settings:
        raise MergeError(f"{where} has tokenizer_source and tokenizer; wanted one. Keep tokenizer.source.")
    if settings is not None:
        where += ": tokenizer"
        check_keys(settings, ("source", "tokens", "pad_to_multiple_of"), where)
        for key in ("tokens", "pad_to_multiple_of"):
            if settings.get(key):
                raise MergeError(f"{where}.{key} is not supported. Remove it, and give source alone.")
        source = settings.get("source", "union")
    return _policy(source, base, where)


def _policy(source: Any, base: Reference | None, where: str) -> str:
    if not source:
        return "equal"
    if source == "union":
        return "union"
    if base is not None and (source == "base" or parse_reference(source, f"{where}: source") == base):
        return "base"
    raise MergeError(
        f"{where}: the tokenizer of {source!r} is wanted, and base_model is {base}. Wanted 'union' or 'base', or make "
        "that model the base_model."
    )
