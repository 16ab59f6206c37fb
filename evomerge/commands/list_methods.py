"""The table of all merge methods with their knobs."""

from __future__ import annotations

from collections.abc import Iterator

from evomerge.methods import METHODS
from evomerge.methods.coefficients import normalised
from evomerge.spaces.knobs import by_default, usual
from evomerge.types import Knob, Method

NOTE = (
    "* searched by default, normalised weights as shares: one gene fewer than parents\n"
    "  Defaults are those of recipes; searches hold normalize at false where differences are merged."
)
BASE = {"deltas": "yes", "tensors": "no", "either": "optional"}


def lines() -> Iterator[str]:
    """The table, line by line; each method is followed by its knobs."""
    yield f"{'method':<18}{'parents':<9}{'base':<10}source"
    yield f"  {'knob':<18}{'default':<10}search range"
    for method in METHODS.values():
        yield ""
        yield f"{method.name:<18}{_parents(method):<9}{BASE[method.on]:<10}{method.source}"
        yield from (_line(method, knob) for knob in method.knobs)
    yield f"\n{NOTE}"


def _parents(method: Method) -> str:
    low, high = method.arity
    return f"{low}+" if high is None else str(low) if low == high else f"{low} to {high}"


def _line(method: Method, knob: Knob) -> str:
    searched = knob.name in by_default(method, usual(method))
    return f"{'*' if searched else ' '} {knob.name:<18}{_said(knob.default):<10}{_range(method, knob)}"


def _range(method: Method, knob: Knob) -> str:
    if knob.scale == "choice":
        return ", ".join(map(_said, knob.values))
    shares = knob.name == "weight" and normalised(method, usual(method))
    words = [
        f"{knob.low:g} to {knob.high:g}",
        *(["log scale"] if knob.scale == "log" else []),
        *(["one per parent"] if knob.per_parent else []),
        *(["normalised"] if shares else []),
    ]
    return ", ".join(words)


def _said(value: object) -> str:
    """As YAML has it."""
    if isinstance(value, bool | None):
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:g}" if isinstance(value, int | float) else str(value)
