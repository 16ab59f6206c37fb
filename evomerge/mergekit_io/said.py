"""A recipe's blends in mergekit's words, all of one method: mergekit has one for the whole YAML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from evomerge.errors import MergeError
from evomerge.mergekit_io.outer import number
from evomerge.mergekit_io.settings import PARAMETERS
from evomerge.methods import get
from evomerge.methods.knobs import per_parent
from evomerge.types import Blend, KnobValue, Recipe, Source


@dataclass(frozen=True)
class Said:
    """How one tensor is merged. shared: mergekit's parameter -> value; weight, density: by index of the parent.

    Passthrough is said as linear here: a weight for one parent, not normalised.
    """

    method: str
    shared: Mapping[str, float]
    weight: Mapping[int, float]
    density: Mapping[int, float]


def say(recipe: Recipe, sources: Sequence[Source], blend: Blend, name: str) -> Said:
    """The blend of the tensor `name`. Raises MergeError where mergekit has no words for it."""
    method = get(blend.method)
    if method.name not in PARAMETERS:
        raise MergeError(f"'{name}' is merged by {method.name}, which cannot be said to mergekit.")
    knobs = {k.name: k.default for k in method.knobs} | dict(blend.knobs)
    parents = [parent for parent, _, _ in sources]
    if len(set(parents)) < len(parents):
        raise MergeError(f"'{name}' has several sources from one parent; in mergekit a slice takes a model once.")
    if method.name == "slerp":
        return Said("slerp", {"t": _from_first(parents, number(knobs["t"] or 0.0), name)}, {}, {})
    if method.name == "passthrough":
        scale = knobs["scale"]
        return Said("linear", {"normalize": False}, {parents[0]: 1.0 if scale is None else number(scale)}, {})
    said = Said(
        method.name,
        _shared(knobs),
        _by_parent("weight", knobs, parents),
        _by_parent("density", knobs, parents) if "density" in knobs else dict.fromkeys(parents, 1.0),
    )
    _check_rescale(knobs, said, name)
    return _without_base(recipe, sources, said, name) if method.needs_base else said


def _from_first(parents: Sequence[int], t: float, name: str) -> float:
    """slerp's t, counted from the recipe's first parent, which mergekit gets as its base."""
    if sorted(parents) != [0, 1]:
        raise MergeError(f"'{name}' is a slerp of the parents {parents}; mergekit can say that of 0 and 1 alone.")
    return t if parents == [0, 1] else 1 - t


def _shared(knobs: Mapping[str, KnobValue | None]) -> dict[str, float]:
    names = {"scale": "lambda", "normalize": "normalize"}
    shared = {theirs: number(knobs[ours] or 0.0) for ours, theirs in names.items() if ours in knobs}
    shared["normalize"] = bool(shared["normalize"])
    if "rescale" in knobs:
        shared["rescale"] = knobs["rescale"] == "l1"
    return shared


def _by_parent(knob: str, knobs: Mapping[str, KnobValue | None], parents: Sequence[int]) -> dict[int, float]:
    value = knobs[knob]
    assert isinstance(value, int | float | tuple), f"{knob} is a number or one per parent"
    return dict(zip(parents, per_parent(knob, value, len(parents)), strict=True))


def _check_rescale(knobs: Mapping[str, KnobValue | None], said: Said, name: str) -> None:
    if knobs.get("rescale") == "inv_p" and min(said.density.values()) < 1:
        raise MergeError(
            f"'{name}' is rescaled by 1/density (inv_p), which mergekit cannot: it restores the L1 norm. Search "
            "with space.fixed.rescale=l1 for recipes that mergekit is to build."
        )


def _without_base(recipe: Recipe, sources: Sequence[Source], said: Said, name: str) -> Said:
    """The base as its own parent adds nothing, which leaves it out; unless its weight or block says otherwise."""
    (_, _, own_block), averaged = sources[0], said.method in ("task_arithmetic", "dare_linear")
    for parent, _, block in sources:
        if recipe.parents[parent] != recipe.base or said.weight[parent] == 0:
            continue
        if block != own_block or (averaged and said.shared["normalize"]):
            raise MergeError(f"'{name}' has the base as a weighted parent, which mergekit cannot say. Leave it out.")
    kept = {p for p in said.weight if recipe.parents[p] != recipe.base}
    weight, density = ({p: v for p, v in each.items() if p in kept} for each in (said.weight, said.density))
    return replace(said, weight=weight, density=density)


# ---------------------------------------------------------------- one method for all


def common_method(groups: Iterable[Mapping[str, Said]]) -> str:
    """The method that says all, by tensor name. Raises MergeError with two tensors that no method can both say."""
    named = [(name, said) for group in groups for name, said in group.items()]
    methods = sorted({said.method for _, said in named})
    if methods == ["linear"] and all(len(alone(said)) == 1 for _, said in named):
        return "passthrough"
    for method in methods:
        if all(_speaks(method, said) for _, said in named):
            return method
    first, second = (next(name for name, said in named if said.method == m) for m in methods[:2])
    raise MergeError(
        f"'{first}' is merged by {methods[0]} and '{second}' by {methods[1]}; a mergekit YAML has one method. Searches "
        "with space.mask_all=true use one method for all tensors."
    )


def _speaks(method: str, s: Said) -> bool:
    """Whether the method gives the same tensor: without dropped entries, DARE and trimming do nothing."""
    pairs = ({"task_arithmetic", "dare_linear"}, {"ties", "dare_ties"})
    alike = any({method, s.method} <= pair for pair in pairs)
    return s.method == method or (alike and all(d >= 1 for d in s.density.values()))


def in_method(method: str, s: Said) -> Said:
    """The same in the words of the common method."""
    if method == "passthrough":
        return replace(s, method=method, shared={}, weight=alone(s))
    shared = dict(s.shared)
    if method.startswith("dare"):
        shared.setdefault("rescale", False)
    if method == "task_arithmetic":
        shared.pop("rescale", None)
    return replace(s, method=method, shared=shared)


def alone(s: Said) -> dict[int, float]:
    """The factors of the parents that count."""
    counted = s.weight if len(s.weight) == 1 else {p: w for p, w in s.weight.items() if w != 0}
    return dict.fromkeys(counted, 1.0) if s.shared.get("normalize") else dict(counted)
