"""How a tensor is merged, in mergekit's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from evomerge.errors import MergeError
from evomerge.mergekit_io.dialect import ALIKE, DIALECTS, Parameter
from evomerge.mergekit_io.epsilon import room
from evomerge.mergekit_io.outer import number
from evomerge.methods import get
from evomerge.methods.knobs import per_parent
from evomerge.types import Blend, KnobValue, Method, Recipe, Source

#: A method's knobs with all that the blend leaves out at its default.
Knobs = Mapping[str, KnobValue | None]


@dataclass(frozen=True)
class Said:
    """How one tensor is merged: mergekit's parameter -> value, of `own` ones by index of the parent.

    base: whether it is merged as differences from the base. Passthrough is said as linear here: a weight for one
    parent, not normalised.
    """

    method: str
    base: bool
    shared: Mapping[str, float] = field(default_factory=dict)
    own: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

    @property
    def weight(self) -> Mapping[int, float]:
        return self.own.get("weight", {})

    @property
    def drops(self) -> bool:
        """Whether entries are dropped."""
        return any(density < 1 for density in self.own.get("density", {}).values())


def say(recipe: Recipe, sources: Sequence[Source], blend: Blend, name: str) -> Said:
    """The blend of the tensor `name`. Raises MergeError where mergekit has no words for it."""
    method = get(blend.method)
    if method.name not in DIALECTS:
        raise MergeError(f"'{name}' is merged by {method.name}, which cannot be said to mergekit.")
    knobs = {k.name: k.default for k in method.knobs} | dict(blend.knobs)
    parents = [parent for parent, _, _ in sources]
    if len(set(parents)) < len(parents):
        raise MergeError(f"'{name}' has several sources from one parent; in mergekit a slice takes a model once.")
    if method.name == "slerp":
        return Said("slerp", False, {"t": _from_first(parents, number(knobs["t"] or 0.0), name)})
    if method.name == "passthrough":
        scale = 1.0 if knobs["scale"] is None else number(knobs["scale"])
        return Said("linear", False, {"normalize": False}, {"weight": {parents[0]: scale}})
    said = _in_parameters(method, knobs, parents, name)
    _check_sayable(method, knobs, said, name)
    said = _without_base(recipe, sources, said, name) if said.base else said
    _check_present(recipe, said, parents, name)
    return said


def _from_first(parents: Sequence[int], t: float, name: str) -> float:
    """slerp's t, counted from the recipe's first parent, which mergekit gets as its base."""
    if sorted(parents) != [0, 1]:
        raise MergeError(f"'{name}' is a slerp of the parents {parents}; mergekit can say that of 0 and 1 alone.")
    return t if parents == [0, 1] else 1 - t


def _in_parameters(method: Method, knobs: Knobs, parents: Sequence[int], name: str) -> Said:
    shared: dict[str, float] = {}
    own: dict[str, Mapping[int, float]] = {}
    for parameter in DIALECTS[method.name].parameters:
        if parameter.knob is None:
            continue
        if parameter.scope == "shared":
            shared[parameter.name] = _as_theirs(parameter, knobs[parameter.knob], name)
        else:
            own[parameter.name] = _by_parent(parameter.knob, knobs, parents)
    if "epsilon_frac" in knobs:
        densities = own["density"]
        own["epsilon"] = {p: share * room(densities[p]) for p, share in own["epsilon"].items() if densities[p] < 1}
    return Said(method.name, method.on_deltas(knobs), shared, own)


def _as_theirs(parameter: Parameter, value: KnobValue | None, name: str) -> float:
    if parameter.knob == "rescale":
        return value == "l1"
    if value is None:
        raise MergeError(
            f"'{name}' has no {parameter.knob}, but a quantile of its own, which mergekit cannot say. Search with "
            f"space.fixed.{parameter.knob}=NUMBER for recipes that mergekit is to build."
        )
    if parameter.kind == "flag":
        return bool(value)
    return round(number(value)) if parameter.kind == "count" else number(value)


def _by_parent(knob: str, knobs: Knobs, parents: Sequence[int]) -> dict[int, float]:
    value = knobs[knob]
    assert isinstance(value, int | float | tuple), f"{knob} is a number or one per parent"
    return dict(zip(parents, per_parent(knob, value, len(parents)), strict=True))


# ---------------------------------------------------------------- what cannot be said


def _check_sayable(method: Method, knobs: Knobs, said: Said, name: str) -> None:
    for knob, wanted in DIALECTS[method.name].silent.items():
        given = knobs[knob]
        if given != wanted and not _alike(method, knob, given):
            raise MergeError(
                f"'{name}' is merged by {method.name} with {knob} {given}, and mergekit knows no other than {wanted}. "
                f"Search with space.fixed.{knob}={wanted} for recipes that mergekit is to build."
            )
    if knobs.get("rescale") == "inv_p" and said.drops:
        raise MergeError(
            f"'{name}' is rescaled by 1/density (inv_p), which mergekit cannot: it restores the L1 norm. Search "
            "with space.fixed.rescale=l1 for recipes that mergekit is to build."
        )


def _alike(method: Method, knob: str, given: KnobValue | None) -> bool:
    """Whether all parents have the same of a knob, as all have in mergekit."""
    known = method.knob(knob)
    return known is not None and known.per_parent and (not isinstance(given, tuple) or len(set(given)) == 1)


def _without_base(recipe: Recipe, sources: Sequence[Source], said: Said, name: str) -> Said:
    """The base as its own parent adds nothing, which leaves it out; unless its weight or block says otherwise."""
    bases = {parent for parent, _, _ in sources if recipe.parents[parent] == recipe.base}
    (_, _, own_block) = sources[0]
    averaged = said.method in ALIKE[0] and said.shared["normalize"]
    alone = not DIALECTS[said.method].absent and len(bases) < len(sources)
    for parent, _, block in sources:
        if parent in bases and (alone or (said.weight.get(parent) != 0 and (block != own_block or averaged))):
            raise MergeError(f"'{name}' has the base as a weighted parent, which mergekit cannot say. Leave it out.")
    own = {key: {p: v for p, v in each.items() if p not in bases} for key, each in said.own.items()}
    return replace(said, own=own)


def _check_present(recipe: Recipe, said: Said, parents: Sequence[int], name: str) -> None:
    """Every slice names all models, for final norm and head are merged from those of the first."""
    wanted = [p for p, digest in enumerate(recipe.parents) if not said.base or digest != recipe.base]
    left_out = [p for p in wanted if p not in parents]
    if left_out and not DIALECTS[said.method].absent:
        raise MergeError(
            f"'{name}' is merged by {said.method} without parent {left_out[0]} of the recipe, which mergekit cannot "
            "say. Use the same parents for all tensors."
        )
