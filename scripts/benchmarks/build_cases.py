"""What is built: every method at the middle of its knobs' ranges, moved a little from candidate to candidate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evomerge.mergekit_io.dialect import DIALECTS
from evomerge.methods import get
from evomerge.spaces.references import uniform
from evomerge.types import Blend, Knob, KnobValue, Pool, Recipe

#: Shares kept as the papers have them, in place of the middle.
TYPICAL = {"density": 0.3}
TOLD = ("density", "rescale")
#: How far knobs move: candidates of neighbouring numbers are alike, and no two are equal.
MOVE, STEP = 0.1, (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Case:
    """A method over so many parents. held: (knob, value) of those that stay where they are."""

    method: str
    parents: int
    held: tuple[tuple[str, KnobValue], ...] = ()

    @property
    def settings(self) -> str:
        """In words: density and rescaling, which methods of one kernel differ by, and what is held."""
        told = {k.name: TYPICAL.get(k.name, k.default) for k in get(self.method).knobs if k.name in TOLD}
        return ", ".join(f"{name}={value}" for name, value in (told | dict(self.held)).items())


def cases(methods: Sequence[str], counts: Sequence[int], *, mergekit: bool = False) -> Iterator[Case]:
    """Each method over each number of parents, or the nearest one it takes.

    Also as mergekit means it: where it rescales otherwise, or always where it is to be compared.
    """
    for name in methods:
        low, high = get(name).arity
        for parents in dict.fromkeys(max(low, min(n, high or n)) for n in counts):
            yield Case(name, parents)
            held = mergekits(name)
            if held and (mergekit or "rescale" in dict(held)):
                yield Case(name, parents, held)


def mergekits(name: str) -> tuple[tuple[str, KnobValue], ...]:
    """The knobs that mergekit has at other values than ours, or no parameter for."""
    if name not in DIALECTS:
        return ()
    rescales = {p.default for p in DIALECTS[name].parameters if p.knob == "rescale"}
    rescale = {"rescale": "l1"} if True in rescales else {}
    held: dict[str, KnobValue] = {**DIALECTS[name].silent, **rescale}
    return tuple((k.name, held[k.name]) for k in get(name).knobs if k.name in held and not _stays(k, held[k.name]))


def _stays(knob: Knob, value: KnobValue) -> bool:
    """Whether a knob has this value in every candidate."""
    return knob.scale == "choice" and knob.default == value


def candidate(pool: Pool, case: Case, number: int) -> Recipe:
    """The recipe over the pool's first parents, one blend for every tensor."""
    knobs = {k.name: value for k in get(case.method).knobs if (value := _value(k, case.parents, number)) is not None}
    blend = Blend(case.method, {**knobs, **dict(case.held)})
    return uniform(pool, pool.digests[: case.parents], blend, seed=1, dtype=pool.dtype)


def _value(knob: Knob, parents: int, number: int) -> KnobValue | None:
    if knob.scale == "choice":
        return knob.default
    if knob.per_parent:
        return tuple(_number(knob, number + 0.1 * k) for k in range(parents))
    return _number(knob, number)


def _number(knob: Knob, place: float) -> float:
    middle = math.sqrt(knob.low * knob.high) if knob.scale == "log" else (knob.low + knob.high) / 2
    moved = TYPICAL.get(knob.name, middle) * (1 + MOVE * ((place * STEP) % 1 - 0.5))
    return min(knob.high, max(knob.low, moved))
