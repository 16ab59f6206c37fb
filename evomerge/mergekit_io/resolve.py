"""A mergekit YAML -> Recipe: every parameter resolved to a number for every tensor, as mergekit 0.1.5 resolves it.

mergekit's rules (its plan.py and parameter_resolver.py): a gradient runs over the blocks of its slice; settings of
one model are filtered by the name a tensor has in that model, all others by its name in the merged model; tensors
before the blocks (embeddings) take models and settings of the first slice, those after them (final norm, head) of
the last, all at depth 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from evomerge.errors import MergeError
from evomerge.mergekit_io import epsilon
from evomerge.mergekit_io.contract import differs
from evomerge.mergekit_io.dialect import DIALECTS, Parameter
from evomerge.mergekit_io.document import Document, Input, Slice
from evomerge.mergekit_io.keys import keyed
from evomerge.mergekit_io.outer import over_all
from evomerge.mergekit_io.references import Reference
from evomerge.mergekit_io.settings import Settings, find
from evomerge.mergekit_io.tensors import block_names, is_before_blocks, labels, only_stack, outer_names
from evomerge.methods import METHODS
from evomerge.models.family import Family, checkpoint_dtype
from evomerge.models.parent import Parent
from evomerge.types import Blend, KnobValue, Method, Recipe, Slot


@dataclass(frozen=True)
class Spot:
    """Where tensors are merged: their slice, its inputs in the method's order, and the depth t in the slice."""

    document: Document
    part: Slice
    inputs: tuple[Input, ...]
    t: float

    def levels(self, model: Input | None) -> list[Settings]:
        own = [model.settings] if model else []
        return [*own, self.part.settings, self.document.settings]

    @property
    def filters(self) -> list[str]:
        found = [rule.filter for i in (*self.inputs, None) for s in self.levels(i) for r in s.values() for rule in r]
        return [text for text in found if text not in (None, "*", "")]


def resolved(document: Document, family: Family, digests: Mapping[Reference, str]) -> Recipe:
    """The document's recipe. digests: model -> digest of its content."""
    stack, depth = only_stack(family, document.where)
    parts = [_bounded(part, depth) for part in document.slices]
    spots = [spot for part in parts for spot in _spots(document, part)]
    models = list(dict.fromkeys(i.model for spot in spots for i in spot.inputs))
    slots = tuple(_slot(spot, family, models, stack, number) for number, spot in enumerate(spots))
    used = {i.model for part in parts for i in part.inputs}
    return Recipe(
        parents=tuple(digests[m] for m in models),
        base=digests[document.base] if document.base else None,
        slots=slots,
        outer=_outer(document, parts, family, models),
        out_dtype=document.out_dtype or document.dtype or _promoted(family, [digests[m] for m in used]),
        vocabulary=document.vocabulary,
    )


def _bounded(part: Slice, depth: int) -> Slice:
    """The slice with all ranges given. Raises MergeError for a range outside the model, or of another length."""
    inputs = tuple(replace(i, blocks=i.blocks or (0, depth)) for i in part.inputs)
    lengths = [end - first for first, end in map(_range, inputs)]
    for i in inputs:
        if _range(i)[1] > depth:
            raise MergeError(f"{part.where}: layer_range {list(_range(i))} of {i.model}, which has {depth} blocks.")
    if len(set(lengths)) > 1:
        raise MergeError(f"{part.where} has layer ranges of {lengths} blocks; wanted equal lengths within a slice.")
    return replace(part, inputs=inputs)


def _range(model: Input) -> tuple[int, int]:
    assert model.blocks is not None, "ranges are given by now"
    return model.blocks


def _spots(document: Document, part: Slice) -> list[Spot]:
    """One per block of the slice."""
    first, end = _range(part.inputs[0])
    n = end - first
    inputs = in_order(document.method, part.inputs, part.base, part.where)
    shifted = ([replace(i, blocks=(_range(i)[0] + k, _range(i)[1])) for i in inputs] for k in range(n))
    return [Spot(document, part, tuple(s), k / (n - 1) if n > 1 else 1.0) for k, s in enumerate(shifted)]


def in_order(method: str, inputs: Sequence[Input], base: Reference | None, where: str) -> tuple[Input, ...]:
    """The inputs as our methods want them: slerp's base first; on differences, without the base.

    But the base comes first, to be given weight 0, where nothing else is merged, or where its block is not that of
    the first parent: a recipe's differences are from the base's tensor with the first parent's name. Raises MergeError
    if that is needed and the method has no such weights.
    """
    if method == "slerp":
        return tuple(sorted(inputs, key=lambda i: i.model != base))
    if not differs(method, base):
        return tuple(inputs)
    others = tuple(i for i in inputs if i.model != base)
    own = tuple(i for i in inputs if i.model == base)
    if others and others[0].blocks == own[0].blocks:
        return others
    if others and not DIALECTS[method].absent:
        raise MergeError(
            f"{where}: the base has layer_range {list(_range(own[0]))} and {others[0].model}, the first model beside "
            f"it, {list(_range(others[0]))}; wanted the same for {method}. Put a model with the base's blocks first."
        )
    return own + others


# ---------------------------------------------------------------- blends


def _slot(spot: Spot, family: Family, models: Sequence[Reference], stack: str, number: int) -> Slot:
    blocks = [_range(i)[0] for i in spot.inputs]
    blends, called = {}, {}
    for rest in block_names(family, stack, blocks[0]):
        own = [f"{stack}.{block}.{rest}" for block in blocks]
        blends[f"{stack}.{number}.{rest}"] = _blend(spot, f"{stack}.{number}.{rest}", own)
        called[f"{stack}.{number}.{rest}"] = labels(family, own[0])
    sources = tuple((models.index(i.model), stack, block) for i, block in zip(spot.inputs, blocks, strict=True))
    return Slot(sources, keyed(blends, called, spot.filters))


def _outer(
    document: Document, parts: Sequence[Slice], family: Family, models: Sequence[Reference]
) -> Mapping[str, Blend]:
    first = _outer_spot(document, parts[0], len(parts[0].inputs))
    last = _outer_spot(document, parts[-1], len(parts[0].inputs))  # mergekit counts the first slice's models here, too
    blends = {}
    for name in outer_names(family):
        spot = first if is_before_blocks(name) else last
        blend = _blend(spot, name, [name] * len(spot.inputs))
        blends[name] = over_all(blend, [models.index(i.model) for i in spot.inputs], len(models), spot.part.where)
    filters = [*first.filters, *last.filters, "embed", "norm"]
    return keyed(blends, {name: labels(family, name) for name in blends}, filters)


def _outer_spot(document: Document, part: Slice, n_inputs: int) -> Spot:
    inputs = part.inputs[:n_inputs]
    if differs(document.method, part.base) and all(i.model != part.base for i in inputs):
        raise MergeError(
            f"{part.where}: mergekit merges final norm and head from the first {n_inputs} models of the last slice, as "
            f"many as the first slice has, and the base {part.base} is not among them. List it first in both."
        )
    return Spot(document, part, in_order(document.method, inputs, part.base, part.where), 0.0)


def _blend(spot: Spot, name: str, own_names: Sequence[str]) -> Blend:
    """The blend of one tensor. own_names: what it is called in each of the spot's inputs."""
    method = METHODS[spot.document.method]
    knobs = _unsaid(method, spot)
    for parameter in DIALECTS[method.name].parameters:
        if parameter.knob is None:
            continue
        if parameter.scope == "shared":
            knobs[parameter.knob] = _as_ours(parameter, _value(parameter, spot, None, name))
        else:
            pairs = zip(spot.inputs, own_names, strict=True)
            knobs[parameter.knob] = values = tuple(float(_value(parameter, spot, i, own)) for i, own in pairs)
            if method.name == "passthrough":
                return Blend(method.name, {parameter.knob: values[0]})
    _check_weights(knobs, spot, name)
    if "epsilon_frac" in knobs:
        found = knobs["epsilon_frac"], knobs["density"]
        knobs["epsilon_frac"] = epsilon.shares(*found, f"{spot.part.where}: '{name}'")  # type: ignore[arg-type]
    return Blend(method.name, knobs)


def _unsaid(method: Method, spot: Spot) -> dict[str, KnobValue]:
    """Knobs that no parameter sets, where mergekit's meaning is not our default."""
    wanted = dict(DIALECTS[method.name].silent)
    if method.on == "either":
        wanted["differences"] = differs(method.name, spot.part.base)
    knobs = {name: method.knob(name) for name in wanted}
    return {name: value for name, value in wanted.items() if (knob := knobs[name]) is None or knob.default != value}


def _value(parameter: Parameter, spot: Spot, model: Input | None, name: str) -> float:
    if parameter.scope == "non_base" and model and model.model == spot.part.base:
        return 0.0 if parameter.name == "weight" else float(parameter.default or 0.0)
    value = find(parameter, spot.levels(model), name, spot.t)
    if value is None:
        of = f" of {model.model}" if model else ""
        raise MergeError(
            f"{spot.part.where}: {spot.document.method} needs {parameter.name} for '{name}'{of}, and nothing sets it. "
            f"Add 'parameters: {{{parameter.name}: NUMBER}}'."
        )
    if parameter.kind == "count" and value != int(value):
        raise MergeError(
            f"{spot.part.where}: {parameter.name} of '{name}' is {value:g} at its depth; wanted whole numbers. Give "
            "one number in place of the list."
        )
    if value < parameter.least:
        raise MergeError(
            f"{spot.part.where}: {parameter.name} of '{name}' is {value:g}; wanted {parameter.least:g} or more."
        )
    return value


def _as_ours(parameter: Parameter, value: float) -> KnobValue:
    if parameter.knob == "rescale":
        return "l1" if value else "none"
    return int(value) if parameter.kind == "count" else value


def _check_weights(knobs: Mapping[str, KnobValue], spot: Spot, name: str) -> None:
    flag = DIALECTS[spot.document.method].divided
    weight = knobs.get("weight")
    if flag and knobs[flag] and isinstance(weight, tuple) and abs(sum(weight)) < 1e-8:
        raise MergeError(
            f"{spot.part.where}: the weights {weight} of '{name}' sum to zero and are to be normalised. Change one, or "
            f"set {flag}: false."
        )


def _promoted(family: Family, digests: Sequence[str]) -> str:
    """The dtype that holds all checkpoints' values."""
    checkpoints = [p for p in map(family.find, digests) if isinstance(p, Parent)]
    dtypes = [getattr(torch, checkpoint_dtype(p)) for p in checkpoints or [family.model]]
    common = dtypes[0]
    for dtype in dtypes[1:]:
        common = torch.promote_types(common, dtype)
    return str(common).removeprefix("torch.")
