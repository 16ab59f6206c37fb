"""A Recipe -> mergekit's YAML: slices of equal blocks, numbers in place of gradients, filters by tensor name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from evomerge.errors import MergeError
from evomerge.mergekit_io.dialect import DIALECTS, Parameter
from evomerge.mergekit_io.filters import setting
from evomerge.mergekit_io.runs import Run, runs_of
from evomerge.mergekit_io.said import Said
from evomerge.models.family import Family
from evomerge.types import Recipe


def to_mergekit(recipe: Recipe, family: Family, locations: Mapping[str, str]) -> str:
    """The recipe as a YAML for mergekit 0.1.5. locations: content digest -> folder or hub id.

    Raises MergeError with the first reason why mergekit cannot say it.
    """
    _check_whole(recipe)
    method, runs = runs_of(recipe, family)
    digests: dict[int | None, str | None] = {None: recipe.base, **dict(enumerate(recipe.parents))}
    used = [digests[model] for model in runs[0].blocks]
    if len(set(used)) < len(used):
        raise MergeError("two parents have the same content; mergekit takes a model once in a slice. Leave one out.")
    names = {model: _named(digests[model], recipe, family, locations) for run in runs for model in run.blocks}
    common = _common(method, runs)
    base = _base(method, runs[0], recipe, family)
    text = {
        "merge_method": method,
        **({} if base is None else {"base_model": _named(base, recipe, family, locations)}),
        "dtype": "float32",
        "out_dtype": recipe.out_dtype,
        **({} if recipe.vocabulary == "equal" else {"tokenizer": {"source": recipe.vocabulary}}),
        **({"parameters": common} if common else {}),
        "slices": [_slice(method, run, names, common) for run in runs],
    }
    body = yaml.safe_dump(text, sort_keys=False, width=110, default_flow_style=None)
    return "".join(f"# {line}\n" for line in _header(recipe, method, runs)) + str(body)


def _base(method: str, run: Run, recipe: Recipe, family: Family) -> str | None:
    """What stands as base_model. Raises MergeError where it must be left out and something else needs it."""
    if method == "slerp":
        return recipe.parents[0]
    if DIALECTS[method].base != "optional" or None in run.blocks:
        return recipe.base
    adapters = any(family.is_adapter(digest) for digest in recipe.parents)
    if adapters or recipe.vocabulary == "base":
        needed = "LoRAs lie over it" if adapters else "the vocabulary is its own"
        raise MergeError(
            f"{method} as it is has no base_model in mergekit, and {needed}. Search with space.fixed.differences=true "
            "for recipes that mergekit is to build."
        )
    return None


def _check_whole(recipe: Recipe) -> None:
    scaled = [slot.scale for slot in recipe.slots if slot.scale != 1.0]
    if scaled or not recipe.slots:
        what = f"a slot of scale {scaled[0]}" if scaled else "no slots"
        raise MergeError(f"the recipe has {what}, which mergekit cannot say. Wanted slots of scale 1.0.")


def _named(digest: str | None, recipe: Recipe, family: Family, locations: Mapping[str, str]) -> Any:
    """A model as mergekit reads it: text, or a mapping where '@' and '+' belong to a folder's name."""
    where = locations.get(str(digest))
    if digest is None or where is None:
        raise MergeError(f"where the model {digest} lies is not known. Wanted a folder or hub id for every digest.")
    if family.is_adapter(digest):
        base = locations[str(recipe.base)]
        parts = {"model": _path(base), "lora": _path(where)}
        return f"{base}+{where}" if parts == {"model": base, "lora": where} else parts
    return where if _path(where) == where else {"model": _path(where)}


def _path(where: str) -> Any:
    plain = not set("@+") & set(where) or not Path(where).exists()
    return where if plain else {"path": where}


# ---------------------------------------------------------------- parameters


def _slice(method: str, run: Run, names: Mapping[int | None, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    sources = []
    for model, first in run.blocks.items():
        own = {} if model is None else _settings(method, run, model)
        settings = {"parameters": own} if own else {}
        sources.append({"model": names[model], "layer_range": [first, first + run.length], **settings})
    shared = {name: value for name, value in _settings(method, run, None).items() if name not in common}
    return {"sources": sources, **({"parameters": shared} if shared else {})}


def _common(method: str, runs: Sequence[Run]) -> dict[str, Any]:
    """The shared settings that are one number for the whole model."""
    first, *others = (_settings(method, run, None) for run in runs)
    return {n: v for n, v in first.items() if not isinstance(v, list) and all(o.get(n) == v for o in others)}


def _settings(method: str, run: Run, parent: int | None) -> dict[str, Any]:
    """A parent's own settings in a run, or for None those that all parents share.

    Numbers that are mergekit's default are left out; flags are written always, for their defaults differ by method.
    """
    found = {}
    for parameter in DIALECTS[method].parameters:
        if parameter.knob is not None and (parameter.scope == "shared") == (parent is None):
            said = setting({n: _value(s, parameter, parent) for n, s in run.tensors.items()})
            if parameter.kind == "flag" or said != parameter.default:
                found[parameter.name] = said
    return found


def _value(said: Said, parameter: Parameter, parent: int | None) -> float:
    given = said.shared.get(parameter.name) if parent is None else said.own.get(parameter.name, {}).get(parent)
    value = parameter.default if given is None else given
    return 0.0 if value is None else value  # no weight: the parent is not among this tensor's


def _header(recipe: Recipe, method: str, runs: Sequence[Run]) -> list[str]:
    lines = [f"Recipe {recipe.digest} of evomerge, for mergekit 0.1.5: mergekit-yaml THIS.yml FOLDER"]
    if any(said.drops for run in runs for said in run.tensors.values()):
        lines.append(
            f"{method} draws which entries it drops: mergekit's masks differ from evomerge's, by chance alone."
            if DIALECTS[method].random
            else "Trimming: where magnitudes are equal, mergekit may keep other entries than evomerge."
        )
    if method == "slerp" and recipe.base not in (None, recipe.parents[0]):
        lines.append("mergekit takes config and tokenizer from the model at t = 0; evomerge takes its base's.")
    return lines
