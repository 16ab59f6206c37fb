"""Which knobs of a method get genes, and over which ranges: what the config says, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias, cast

from evomerge.errors import ConfigError, unknown
from evomerge.methods.coefficients import normalised
from evomerge.spaces.shares import SHARE
from evomerge.types import Knob, KnobValue, Method, Pool

Scale: TypeAlias = Literal["linear", "log", "choice"]
#: Knobs that are searched by default beside the first one of a method: alpha bounds what RAM+'s r scales.
BESIDE = ("density", "alpha")


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


def usual(method: Method) -> dict[str, KnobValue]:
    """Every knob's default in a search: methods on deltas are not normalised, so that the weights' factor is a gene."""
    found: dict[str, KnobValue] = {k.name: k.default for k in method.knobs if k.default is not None}
    return {**found, "normalize": False} if method.on == "deltas" and "normalize" in found else found


def defaults(method: Method, pool: Pool) -> dict[str, KnobValue]:
    """The usual ones, for these parents: without a base, what can merge either merges tensors, as in mergekit."""
    found = usual(method)
    return {**found, "differences": False} if pool.base is None and "differences" in found else found


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
    if knob.name == "differences" and value and pool.base is None:
        raise ConfigError("space.fixed.differences is true and there is no base. Set parents.base, or leave it out.")
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
    held: Mapping[str, KnobValue],
    ranges: Mapping[str, Sequence[float]],
    scales: Mapping[str, str],
    pool: Pool,
) -> list[Knob]:
    """The knobs that get genes, with the ranges the user gave. held: those of space.fixed, as `pinned` gives them.

    Raises ConfigError for a bad range or none at all.
    """
    checked(method, dict.fromkeys(search or ()), "search")
    checked(method, ranges, "ranges")
    checked(method, scales, "scales")
    both = sorted(set(search or ()) & set(held))
    if both:
        raise ConfigError(f"space.search and space.fixed both name {both[0]}. Leave it out of one.")
    if "differences" in (search or ()) and pool.base is None:
        raise ConfigError("space.search names differences, and there is no base. Set parents.base, or leave it out.")
    names = by_default(method, {**defaults(method, pool), **held}) if search is None else search
    knobs = [k for k in method.knobs if k.name in names and k.name not in held]
    if not knobs:
        raise ConfigError(
            "the space has no knob to search. Name some in space.search, or take them out of space.fixed."
        )
    return [_ranged(k, ranges.get(k.name), scales.get(k.name)) for k in knobs]


def by_default(method: Method, values: Mapping[str, Any]) -> list[str]:
    """The first knob, densities, and the scale of the result where no weights say it already."""
    scaled = method.knob("weight") is None or normalised(method, values)
    return [method.knobs[0].name, *BESIDE, *(["scale"] if scaled else [])]


def shared(method: Method, knobs: Sequence[Knob], values: Mapping[str, Any], pool: Pool) -> list[Knob]:
    """The knobs with `share` in the place of a weight per parent that is normalised, whatever the other genes say."""
    fixed = not any(k.name.startswith("normalize") for k in knobs)
    fit = fixed and normalised(method, values) and len(pool.digests) > 1
    return [SHARE if fit and k.name == "weight" else k for k in knobs]


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
