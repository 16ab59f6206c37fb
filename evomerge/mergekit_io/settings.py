"""mergekit's little language of parameters: scalars, gradients over depth, filters by name, and which level wins."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from evomerge.errors import MergeError, unknown
from evomerge.mergekit_io.dialect import KINDS, Kind, Parameter

_FLAGS = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True),
    **dict.fromkeys(("0", "false", "f", "no", "n", "off"), False),
}


@dataclass(frozen=True)
class Rule:
    """Values over the depth of a slice, for tensors whose name contains `filter` (None: all)."""

    filter: str | None
    values: tuple[float, ...]  # numbers, or flags

    def matches(self, name: str) -> bool:
        return self.filter in (None, "*") or str(self.filter) in name

    def at(self, t: float) -> float | None:
        """The value at depth t in [0, 1]: numbers are interpolated, flags step. None without values."""
        if not self.values:
            return None
        scaled = t * (len(self.values) - 1)
        first = int(scaled)
        if any(isinstance(v, bool) for v in self.values):
            return self.values[first]
        after, share = min(len(self.values) - 1, first + 1), scaled - first
        return (1 - share) * self.values[first] + share * self.values[after]


#: The first rule that matches decides; none at all leaves the choice to the next level.
Setting: TypeAlias = tuple[Rule, ...]
#: Settings by parameter, as one `parameters:` block has them.
Settings: TypeAlias = Mapping[str, Setting]


def find(parameter: Parameter, levels: Iterable[Settings], name: str, t: float) -> float | None:
    """The parameter's value for a tensor. levels: the most particular first. None if it is required and missing."""
    for settings in levels:
        rule = next((r for r in settings.get(parameter.name, ()) if r.matches(name)), None)
        value = rule.at(t) if rule else None
        if value is not None:
            return value
    return parameter.default


# ---------------------------------------------------------------- from YAML


def parse(raw: Any, where: str) -> Settings:
    """A `parameters:` block, checked. Raises MergeError for unknown names and for values of a wrong type."""
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise MergeError(f"{where} is {raw!r}; wanted parameters by name, such as 'weight: 0.5'.")
    for name in raw:
        if name not in KINDS:
            raise MergeError(f"{where}: " + unknown("parameter", str(name), KINDS))
    return {name: _setting(value, KINDS[name], f"{where}.{name}") for name, value in raw.items()}


def _setting(raw: Any, kind: Kind, where: str) -> Setting:
    if isinstance(raw, Mapping):
        return (_rule(raw, kind, where),)
    if isinstance(raw, list) and raw and all(isinstance(entry, Mapping) for entry in raw):
        return tuple(_rule(entry, kind, f"{where}[{i}]") for i, entry in enumerate(raw))
    return (Rule(None, _values(raw, kind, where)),)


def _rule(raw: Mapping[str, Any], kind: Kind, where: str) -> Rule:
    for key in raw:
        if key not in ("filter", "value"):
            raise MergeError(f"{where}: " + unknown("key", str(key), ("filter", "value")))
    if "value" not in raw:
        raise MergeError(f"{where} has a filter and no value. Add 'value:'.")
    if not isinstance(raw.get("filter"), str | None):
        raise MergeError(f"{where}.filter is {raw['filter']!r}; wanted text. Put it in quotes.")
    return Rule(raw.get("filter"), _values(raw["value"], kind, f"{where}.value"))


def _values(raw: Any, kind: Kind, where: str) -> tuple[float, ...]:
    convert = _flag if kind == "flag" else _number
    values = tuple(convert(v, where) for v in (raw if isinstance(raw, list) else [raw]))
    for value in values:
        if kind == "share" and not 0 < value <= 1:
            raise MergeError(f"{where} is {raw!r}; wanted shares in (0, 1]. A model is left out by a weight of 0.")
        if kind == "count" and value != int(value):
            raise MergeError(f"{where} is {raw!r}; wanted a whole number.")
    return values


def _number(raw: Any, where: str) -> float:
    """A finite number; also as text, for YAML reads 1e-3 as text."""
    try:
        number = math.nan if isinstance(raw, bool) else float(raw)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise MergeError(f"{where} is {raw!r}; wanted a finite number, or a list of numbers over the depth.")
    return number


def _flag(raw: Any, where: str) -> bool:
    """true or false, also as mergekit's pydantic spells them: 1, 0, "yes", "off", ..."""
    text = str(int(raw)) if isinstance(raw, float) and raw in (0, 1) else str(raw).lower()
    if text not in _FLAGS:
        raise MergeError(f"{where} is {raw!r}; wanted true or false.")
    return _FLAGS[text]
