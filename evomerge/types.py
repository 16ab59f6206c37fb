"""The nouns of evomerge: frozen data that cross from room to room.

Read top down: what is searched (Variable, Knob), what is built (Recipe), what is asked (Work), what comes
back (Evaluation), what is told (Result). Only numpy is imported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

#: float64 (D,), every entry in [0, 1]: the optimizer's whole world.
Genome: TypeAlias = np.ndarray
#: Value of a knob in a recipe: one number or name for all parents, or one number per parent.
KnobValue: TypeAlias = float | bool | str | tuple[float, ...]
#: (index into Recipe.parents, stack, block): a block of a parent.
Source: TypeAlias = tuple[int, str, int]
#: A label beside the part that every 1-D tensor (norms, biases) carries, so that recipes can treat them apart.
VECTORS = "vectors"
#: Items of each task, by content hash.
Items: TypeAlias = Mapping[str, tuple[str, ...]]


# ---------------------------------------------------------------- methods


@dataclass(frozen=True)
class Knob:
    """One setting of a method: its default, its suggested search range and how a gene maps onto it.

    `scale` is "linear", "log" (low > 0) or "choice" (`values` lists them, low and high are unused).
    `step` is the optimizer's first standard deviation in gene units; `per_parent` knobs take one number each.
    """

    name: str
    default: float | bool | str | None
    low: float = 0.0
    high: float = 1.0
    scale: Literal["linear", "log", "choice"] = "linear"
    per_parent: bool = False
    values: tuple[float | bool | str, ...] = ()
    step: float = 1 / 6


@dataclass(frozen=True)
class Method:
    """A merge method: its maths and everything others must know to call it.

    `settle(entries, **knobs)` turns knobs, and what it learns of a tensor's entries, into a kernel and its numbers
    (evomerge.methods.entries, settled). The entries are the parents' tensors (`on="tensors"`), parent minus base
    (`on="deltas"`, the result is added to the base), or what the knob `differences` says (`on="either"`). `learns`
    False: it never looks at them. `keeps`: bytes per entry and parent of what it learns and keeps beside small tables.
    `arity` bounds the number of parents (upper bound None: any).
    """

    name: str
    settle: Callable[..., Any]
    knobs: tuple[Knob, ...]
    on: Literal["tensors", "deltas", "either"]
    source: str
    arity: tuple[int, int | None] = (1, None)
    plain: str | None = None  # linear stand-in for 1-D tensors, embeddings and head; None: the method itself
    learns: bool = True
    keeps: int = 0

    @property
    def needs_base(self) -> bool:
        return self.on == "deltas"

    def on_deltas(self, knobs: Mapping[str, Any]) -> bool:
        """Whether entries are differences from the base at these knobs."""
        default = self.knob("differences")
        return self.needs_base or (default is not None and bool(knobs.get("differences", default.default)))

    def knob(self, name: str) -> Knob | None:
        return next((k for k in self.knobs if k.name == name), None)


# ---------------------------------------------------------------- recipes


@dataclass(frozen=True)
class Blend:
    """A method with its knobs set."""

    method: str
    knobs: Mapping[str, KnobValue] = field(default_factory=dict)


@dataclass(frozen=True)
class Slot:
    """One block of the merged model: where its tensors come from and how each part is blended.

    `blends` maps a part name (or a substring of tensor names, or "*") to a Blend; the first match wins.
    """

    sources: tuple[Source, ...]
    blends: Mapping[str, Blend]
    scale: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """The whole merged model as data. `parents` and `base` are content digests; see evomerge.recipe_io."""

    parents: tuple[str, ...]
    base: str | None
    slots: tuple[Slot, ...]
    outer: Mapping[str, Blend]  # embeddings, final norm, head: same matching as Slot.blends
    seed: int = 0
    dtype: str = "float32"
    out_dtype: str = "float32"
    vocabulary: str = "equal"

    def data(self) -> dict[str, Any]:
        """The recipe as plain JSON data; evomerge.recipe_io reads it back."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    @cached_property
    def digest(self) -> str:
        """Name of the recipe: 16 hex digits over its JSON (the order of blends counts, that of knobs does not)."""
        text = json.dumps(self.data(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(noun: Any) -> Any:
    if isinstance(noun, Slot):
        return {f.name: _plain(getattr(noun, f.name)) for f in fields(noun)}
    if isinstance(noun, Mapping):  # blends by part: a list, since the first match wins
        return [{"part": part, "method": b.method, "knobs": _plain_knobs(b.knobs)} for part, b in noun.items()]
    return [_plain(n) for n in noun] if isinstance(noun, tuple) else noun


def _plain_knobs(knobs: Mapping[str, KnobValue]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in knobs.items()}


@dataclass(frozen=True)
class Pool:
    """What a space needs to know of the parents: names, content digests, blocks per stack, dtype, vocabulary policy."""

    names: tuple[str, ...]
    digests: tuple[str, ...]
    base: str | None
    stacks: Mapping[str, int]
    dtype: str = "float32"
    vocabulary: str = "equal"


@dataclass(frozen=True)
class Variable:
    """One gene: which knob it sets where, and how [0, 1] maps onto [low, high].

    `leading` marks the knob that scales the method's effect (weight, t): a common scale moves all of these.
    `levels` counts the values of a discrete gene, level i in the i-th of as many equal intervals; 0: continuous.
    Variables of equal knob, part and parent are pieces of one quantity over `depth`, (0, 1) being the whole model.
    """

    name: str
    knob: str
    low: float
    high: float
    scale: Literal["linear", "log", "choice"]
    default: float  # the gene of the knob's default
    step: float
    leading: bool = False
    levels: int = 0
    part: str = "rest"
    parent: str = "all"
    depth: tuple[float, float] = (0.0, 1.0)


# ---------------------------------------------------------------- evaluating


@dataclass(frozen=True)
class Candidate:
    """A genome with the number it was asked under; ids count up from 0 in each ask/tell phase."""

    id: int
    genome: Genome


class Judge(Protocol):
    """Ends a candidate's race from its own answers and numbers that were frozen when its batch was asked."""

    def stops(self, answered: Sequence[tuple[ItemScores, ...]]) -> bool: ...


@dataclass(frozen=True)
class Work:
    """What a worker is to do: build `recipe` and score it on `items`. The recipe travels, weights never do.

    In a race the items come in `chunks`, one rung each, counted from `rung`; `judge` may end it after any of them.
    `answered` holds the scores of the rungs that are on file: they are not asked again.
    """

    id: int | str
    phase: str
    recipe: Recipe
    items: Items
    genome: tuple[float, ...] | None = None
    rung: int = 0
    chunks: tuple[Items, ...] = ()
    judge: Judge | None = None
    answered: tuple[tuple[ItemScores, ...], ...] = ()

    @property
    def rungs(self) -> tuple[Items, ...]:
        return self.chunks or (self.items,)

    def over(self, answered: Sequence[tuple[ItemScores, ...]]) -> bool:
        """Whether these rungs are all there is to ask: the last one, or the judge says so."""
        return len(answered) >= len(self.rungs) or (self.judge is not None and self.judge.stops(answered))


@dataclass(frozen=True)
class ItemScores:
    """Scores of one task. values: float64 (n,), or (n, 2) of (log-likelihood, weight) pairs.

    margins: float64 (n,), log-probability of the right choice minus that of the best wrong one; None without choices.
    """

    task: str
    items: tuple[str, ...]
    values: np.ndarray
    margins: np.ndarray | None = None


@dataclass(frozen=True)
class Evaluation:
    """What came back of one rung: raw item scores, or an error code. `alias_of` names an equal recipe already scored.

    `last`: nothing more is asked of this candidate on this draw.
    """

    id: int | str
    phase: str
    recipe_digest: str
    items: Items
    scores: tuple[ItemScores, ...]
    genome: tuple[float, ...] | None = None
    rung: int = 0
    batch_size: int | None = None
    error_code: str | None = None
    alias_of: str | None = None
    last: bool = True


@dataclass(frozen=True)
class Metric:
    """How items of a task are scored. kind "mean": scores average; "pairs": sum(loglik) / sum(weight)."""

    name: str
    higher_is_better: bool
    kind: Literal["mean", "pairs"] = "mean"


@dataclass(frozen=True)
class Estimate:
    """A score with its standard error, higher is better; `fallback` names the rule that had to step in."""

    value: float
    stderr: float
    n_items: int
    fallback: str | None = None


@dataclass(frozen=True)
class Result:
    """What the optimizer is told. Fitness is maximised; a failed candidate has error_code and no fitness of its own.

    stderrs: of fitness, () if failed. answers: float64 (N,), oriented scores by place in the item bank, nan where not
    asked; only for optimizers that want them, and None if failed.
    """

    id: int
    fitness: tuple[float, ...]
    violation: float = 0.0
    error_code: str | None = None
    stderrs: tuple[float, ...] = ()
    answers: np.ndarray | None = field(default=None, compare=False, repr=False)
