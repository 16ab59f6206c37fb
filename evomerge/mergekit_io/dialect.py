"""mergekit 0.1.5's methods as it declares them: what each reads, how many models it takes, what it cannot be told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from evomerge.types import KnobValue

#: "share": a number in (0, 1]; "count": a whole number.
Kind: TypeAlias = Literal["number", "share", "count", "flag"]
Scope: TypeAlias = Literal["shared", "input", "non_base"]


@dataclass(frozen=True)
class Parameter:
    """A parameter of a mergekit method. `knob` is ours (None: it changes no result); `default` None: required.

    `least`: the smallest value with a meaning, of this method alone: slerp's t may be negative, nearswap's may not.
    Scope "shared" has one value per tensor, "input" one per model, "non_base" one per model other than the base.
    """

    name: str
    knob: str | None
    scope: Scope
    default: float | bool | None
    kind: Kind = "number"
    least: float = -math.inf


@dataclass(frozen=True)
class Dialect:
    """What mergekit has for one of our methods.

    base: whether a base is wanted, makes the method merge differences ("optional"), or is a model like the others.
    models: the least and most of them beside the base, or of all where it is ignored. silent: our knobs that mergekit
    has no parameter for, each with the value at which both mean the same. absent: a model of weight 0 is as if it were
    not there. divided: the flag under which mergekit divides by the weights' sum, even if that is 0. random: which
    entries are dropped is drawn.
    """

    parameters: tuple[Parameter, ...] = ()
    base: Literal["required", "optional", "ignored"] = "required"
    models: tuple[int, int | None] = (0, None)
    silent: Mapping[str, KnobValue] = field(default_factory=dict)
    absent: bool = False
    divided: str | None = None
    random: bool = False


def _flag(name: str, default: bool) -> Parameter:
    return Parameter(name, name, "shared", default, "flag")


def _number(name: str, default: float | None, scope: Scope = "shared", *, least: float = -math.inf) -> Parameter:
    return Parameter(name, name, scope, default, least=least)


_INT8_MASK = Parameter("int8_mask", None, "shared", False, "flag")


def _of_differences(
    *more: Parameter, normalize: bool, rescale: bool, sparse: bool = True, random: bool = False, **silent: KnobValue
) -> Dialect:
    """Task arithmetic and its kin, which mergekit makes of one class."""
    parameters = (
        _number("weight", None, "non_base"),
        Parameter("density", "density" if sparse else None, "non_base", 1.0, "share"),
        *more,
        Parameter("lambda", "scale", "shared", 1.0),
        _flag("normalize", normalize),
        Parameter("rescale", "rescale" if sparse else None, "shared", rescale, "flag"),
        _INT8_MASK,
    )
    return Dialect(parameters, silent=silent, absent=True, random=random)


_GAMMA = _number("gamma", 0.01, "non_base", least=0.0)
_EPSILON = Parameter("epsilon", "epsilon_frac", "non_base", 0.15)
_RAM_EPSILON = _number("epsilon", 1e-5, least=0.0)

#: By method, with mergekit's defaults, which are not always ours.
DIALECTS: Mapping[str, Dialect] = {
    "linear": Dialect(
        (_number("weight", None, "input"), _flag("normalize", True)),
        base="ignored",
        models=(1, None),
        absent=True,
        divided="normalize",
    ),
    "slerp": Dialect((_number("t", None),), models=(1, 1)),
    "nuslerp": Dialect(
        (_number("weight", None, "non_base"), _flag("nuslerp_flatten", True), _flag("nuslerp_row_wise", False)),
        base="optional",
        models=(2, 2),
    ),
    "multislerp": Dialect(
        (_number("weight", None, "non_base"), _flag("normalize_weights", True), _number("eps", 1e-8)),
        base="optional",
        models=(1, None),
        divided="normalize_weights",
    ),
    "karcher": Dialect(
        (Parameter("max_iter", "max_iter", "shared", 10, "count"), _number("tol", 1e-5)),
        base="ignored",
        models=(1, None),
        silent={"weight": 1.0},
    ),
    "task_arithmetic": _of_differences(normalize=False, rescale=False, sparse=False),
    "ties": _of_differences(normalize=True, rescale=False, scope="tensor"),
    "dare_linear": _of_differences(normalize=False, rescale=True, random=True),
    "dare_ties": _of_differences(normalize=False, rescale=True, random=True),
    "della": _of_differences(_EPSILON, normalize=True, rescale=True, random=True),
    "della_linear": _of_differences(_EPSILON, normalize=False, rescale=True, random=True),
    "breadcrumbs": _of_differences(_GAMMA, normalize=False, rescale=False),
    "breadcrumbs_ties": _of_differences(_GAMMA, normalize=False, rescale=False),
    "sce": Dialect(
        (_number("select_topk", 1.0), _INT8_MASK), silent={"scale": 1.0, "select": "deltas", "guard": "absolute"}
    ),
    "ram": Dialect((_RAM_EPSILON,)),
    "ramplus_tl": Dialect((_number("r", 0.1), _number("alpha", 0.2), _RAM_EPSILON)),
    "model_stock": Dialect(
        (_flag("filter_wise", False),), models=(2, None), silent={"clamp_t": "none", "t_scale": 1.0}
    ),
    "nearswap": Dialect((_number("t", None, least=0.0),), models=(1, 1)),
    "arcee_fusion": Dialect(models=(1, 1), silent={"iqr_factor": 1.5}),
    "passthrough": Dialect((_number("scale", 1.0, "input"),), base="ignored", models=(1, 1)),
}

#: Every parameter of any method: a setting of another name is refused.
KINDS: Mapping[str, Kind] = {p.name: p.kind for dialect in DIALECTS.values() for p in dialect.parameters}

#: Methods that are one and the same where nothing is dropped: sums of differences, and sums after an election.
ALIKE = (
    frozenset({"task_arithmetic", "dare_linear", "della_linear", "breadcrumbs"}),
    frozenset({"ties", "dare_ties", "della", "breadcrumbs_ties"}),
)
