"""KEY=VALUE as Hydra reads it: Python data as override text, and combinations of settings as names of folders."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from evomerge.errors import ConfigError

#: "budget.evaluations=50", or several settings by their keys: {"budget.evaluations": 50, "space.method": "ties"}.
Settings: TypeAlias = str | Mapping[str, Any]

SHOWN = 24  # characters of a long value that its folder's name shows
LONGEST = 200  # characters of a name; file systems take 255 bytes
_PLAIN = re.compile(r"[A-Za-z0-9_.+-]+")  # needs no quotes anywhere: in Hydra, in a shell, in a path


def overrides(settings: Iterable[Settings]) -> list[str]:
    """Settings as Hydra's overrides, in their order; strings stay as they are. Raises ConfigError for what is none."""
    found: list[str] = []
    for one in settings:
        if isinstance(one, str):
            found.append(one)
        elif isinstance(one, Mapping):
            found += [assign(key, value) for key, value in one.items()]
        else:
            raise ConfigError(f"setting {one!r} is a {type(one).__name__}; wanted 'KEY=VALUE' or {{'KEY': value}}.")
    return found


def assign(key: str, value: Any) -> str:
    """`key=value` such that Hydra reads back this very value, whatever commas, quotes or spaces it holds."""
    return f"{key}={text(value)}"


def text(value: Any) -> str:
    """None, booleans, numbers, strings, paths, and lists and mappings of them, in Hydra's grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | os.PathLike):
        return _text_of_string(os.fspath(value))
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_text_of_key(k)}:{text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(text, value))}]"
    raise ConfigError(
        f"setting {value!r} is a {type(value).__name__}; wanted numbers, strings, paths, lists or mappings."
    )


def _text_of_string(string: str) -> str:
    return string if _reads_back(string) else QuotedString(string, Quote.single).with_quotes()


def _text_of_key(key: Any) -> str:
    if not isinstance(key, str) or not _reads_back(key):
        raise ConfigError(f"key {key!r} cannot be given to Hydra; wanted a word of letters, digits and ._+-")
    return key


def _reads_back(string: str) -> bool:
    """Whether Hydra takes the bare word for this string, and not for a number, a truth value or null."""
    return bool(_PLAIN.fullmatch(string)) and value_of(f"key={string}") == string


def key_of(override: str) -> str:
    """`++space.ranges.weight=[0,1]` -> `space.ranges.weight`."""
    return override.lstrip("+~").partition("=")[0]


def value_of(override: str) -> Any:
    """The value as plain data. Raises ConfigError if Hydra cannot read it."""
    try:
        return OverridesParser.create().parse_override(override).value()
    except HydraException as e:
        raise ConfigError(f"'{override}' cannot be read: {str(e).splitlines()[0]}") from e


# ---------------------------------------------------------------- names


def name(combination: Iterable[str]) -> str:
    """Folder name of a combination of overrides: "optimizer=cma_es,seed=1", sorted by key.

    Values that are single plain words stand as they are; of others (paths, lists, quoted text) the end is shown and
    a digest keeps them apart. Equal values have equal names however they are quoted or spaced.
    """
    whole = ",".join(sorted(f"{_file_name(key_of(one))}={_short(value_of(one))}" for one in combination))
    return whole if len(whole) <= LONGEST else f"{whole[:LONGEST]}~{_digest(whole)}"


def _short(value: Any) -> str:
    plain = text(value)
    if _PLAIN.fullmatch(plain) and len(plain) <= SHOWN:
        return plain
    return f"{_file_name(plain)[-SHOWN:].lstrip('-.')}~{_digest(value)}"  # no plain word holds a tilde


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def _file_name(plain: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "-", plain).strip("-.")
