"""Which knobs of a method get genes, and over which ranges: what the config says, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias, cast

from evomerge.errors import ConfigError, unknown
from evomerge.types import Knob, KnobValue, Method, Pool

Scale: TypeAlias = Literal["linear", "log", "choice"]


def check_arity(
    method: Method,
    pool: Pool,
    *,
    setting: str = "method",
    remedy: str = "Change parents.models (the base may be one).",
) -> None:
    """Raises ConfigError, in the words of the setting that named the method, if it cannot merge these parents."""
    low, high = method.arity
    n = len(pool.digests)
    if n < low or (high is not None and n > high):
        wanted = f"exactly {low}" if low == high else f"at least {low}"
        raise ConfigError(f"space.{setting}={method.name} takes {wanted} parents, got {n}. {remedy}")
    if method.needs_base and pool.base is None:
        raise ConfigError(
            f"space.{setting}={method.name} merges differences from a base. Set parents.base, or use linear."
        )


def defaults(method: Method) -> dict[str, KnobValue]:
    """Every knob's default; methods on deltas are not normalised, so that the weights' common factor is a gene."""
    found: dict[str, KnobValue] = {k.name: k.default for k in method.knobs if k.default is not None}
    return {**found, "normalize": False} if method.on == "deltas" and "normalize" in found else found


def checked(method: Method, given: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    for name in given:
        knob = method.knob(name)
        if knob is None:
            raise ConfigError(
                f"space.{where}: " + unknown(f"knob of {method.name}", name, [k.name for k in method.knobs])
            )
        if where == "per_parent" and not knob.per_parent:
            raise ConfigError(f"space.per_parent names {name}, of which {method.name} has one number for all parents.")
    return given


def pinned(method: Method, fixed: Mapping[str, Any], pool: Pool) -> dict[str, KnobValue]:
    """The values of space.fixed, checked: known choices, numbers, one per parent where a list is given."""
    return {name: _pinned(method.knob(name), value, pool) for name, value in checked(method, fixed, "fixed").items()}


def _pinned(knob: Knob | None, value: Any, pool: Pool) -> KnobValue:
    assert knob is not None, "names were checked before"
    if knob.scale == "choice":
        if value not in knob.values:
            raise ConfigError(f"space.fixed.{knob.name} is {value!r}; wanted {', '.join(map(str, knob.values))}.")
        return knob.values[knob.values.index(value)]  # 1 is meant as True
    each = value if isinstance(value, list | tuple) else [value]
    good = all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in each)
    n = len(pool.digests)
    if not good or (each is value and not (knob.per_parent and len(each) == n)):
        wanted = f"a number, or a list of {n} (one per parent)" if knob.per_parent else "a number"
        raise ConfigError(f"space.fixed.{knob.name} is {value!r}; wanted {wanted}.")
    return tuple(float(v) for v in each) if each is value else float(value)


def chosen(
    method: Method,
    search: Sequence[str] | None,
    fixed: Mapping[str, Any],
    ranges: Mapping[str, Sequence[float]],
    scales: Mapping[str, str],
) -> list[Knob]:
    """The knobs that get genes, with the ranges the user gave. Raises ConfigError for a bad range or none at all."""
    names = list(search) if search is not None else [k.name for k in method.knobs if _by_default(method, k)]
    checked(method, dict.fromkeys(names), "search")
    checked(method, ranges, "ranges")
    checked(method, scales, "scales")
    both = sorted(set(search or ()) & set(fixed))
    if both:
        raise ConfigError(f"space.search and space.fixed both name {both[0]}. Leave it out of one.")
    knobs = [k for k in method.knobs if k.name in names and k.name not in fixed]
    if not knobs:
        raise ConfigError(
            "the space has no knob to search. Name some in space.search, or take them out of space.fixed."
        )
    return [_ranged(k, ranges.get(k.name), scales.get(k.name)) for k in knobs]


def _by_default(method: Method, knob: Knob) -> bool:
    return knob is method.knobs[0] or knob.name == "density"


def _ranged(knob: Knob, limits: Sequence[float] | None, scale: str | None) -> Knob:
    if knob.scale == "choice" and (limits is not None or scale is not None):
        setting = "ranges" if limits is not None else "scales"
        raise ConfigError(
            f"space.{setting}.{knob.name} is set, but {knob.name} is a choice of {', '.join(map(str, knob.values))}. "
            "Leave it out, or set one in space.fixed."
        )
    if limits is not None and (len(limits) != 2 or not -math.inf < limits[0] < limits[1] < math.inf):
        raise ConfigError(f"space.ranges.{knob.name} is {list(limits)}; wanted [low, high] with low < high.")
    low, high = limits or (knob.low, knob.high)
    scale = scale or knob.scale
    if scale not in (knob.scale, "linear", "log"):
        raise ConfigError(f"space.scales.{knob.name} is '{scale}'; wanted linear or log.")
    if scale == "log" and low <= 0:
        raise ConfigError(f"space.ranges.{knob.name} starts at {low} on a log scale; wanted above 0, or scale linear.")
    step = knob.step * (knob.high - knob.low) / (high - low) if scale == "linear" == knob.scale else knob.step
    return replace(knob, low=float(low), high=float(high), scale=cast(Scale, scale), step=min(step, 0.5))
