"""Recipe <-> YAML that a person can read and edit: parents by name, equal slots written once as a range."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from evomerge.errors import MergeError, unknown
from evomerge.methods import get
from evomerge.types import Blend, Knob, Recipe, Slot


def from_data(data: Mapping[str, Any]) -> Recipe:
    """The recipe of `Recipe.data()`, equal in every bit."""
    slots = tuple(
        Slot(tuple((p, stack, block) for p, stack, block in s["sources"]), _blends(s["blends"]), s["scale"])
        for s in data["slots"]
    )
    rest = {k: data[k] for k in ("seed", "dtype", "out_dtype", "vocabulary")}
    return Recipe(tuple(data["parents"]), data["base"], slots, _blends(data["outer"]), **rest)


def _blends(entries: Sequence[Mapping[str, Any]]) -> dict[str, Blend]:
    return {e["part"]: Blend(e["method"], {k: _knob(v) for k, v in e["knobs"].items()}) for e in entries}


def _knob(value: Any) -> Any:
    return tuple(float(v) for v in value) if isinstance(value, list) else value


# ---------------------------------------------------------------- YAML


def to_yaml(recipe: Recipe, locations: Mapping[str, str]) -> str:
    """The recipe as text. locations: content digest -> folder or hub id, written beside the digests.

    A union of vocabularies has the tokens of all of `locations`, in their order, whether or not they are blended.
    """
    named = [{"digest": d, "path": locations.get(d, "?")} for d in recipe.parents]
    base = None if recipe.base is None else {"digest": recipe.base, "path": locations.get(recipe.base, "?")}
    data = recipe.data()
    text = {
        "parents": named,
        "base": base,
        "slots": _ranges(data["slots"]),
        "outer": data["outer"],
        **{k: data[k] for k in ("seed", "dtype", "out_dtype", "vocabulary")},
    }
    if recipe.vocabulary == "union":
        text["tokens_of"] = [{"digest": d, "path": path} for d, path in locations.items()]
    return str(yaml.safe_dump(text, sort_keys=False, width=110, default_flow_style=None))


def _ranges(slots: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Runs of consecutive slots that draw on the same block of the same parents with equal blends."""

    def alike(pair: tuple[int, Mapping[str, Any]]) -> tuple[Any, ...]:
        number, slot = pair
        offset = {block - number for _, _, block in slot["sources"]}
        sources = [(p, stack) for p, stack, _ in slot["sources"]]
        return repr((sorted(offset), sources, slot["blends"], slot["scale"])), len(offset) == 1

    runs = []
    for (_, simple), members in groupby(enumerate(slots), key=alike):
        run = [slot for _, slot in members]
        for part in [run] if simple else [[slot] for slot in run]:
            runs.append(_range(part))
    return runs


def _range(run: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    blocks = [[p, stack, [block, block + len(run)]] for p, stack, block in run[0]["sources"]]
    return {"sources": blocks, "blends": run[0]["blends"], "scale": run[0]["scale"]}


def read_yaml(path: Path) -> tuple[Recipe, dict[str, str]]:
    """A recipe file and where its parents lie (digest -> path). Raises MergeError for what is no recipe."""
    try:
        text = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as e:
        raise MergeError(f"cannot read the recipe {path}: {e}. Give a YAML file as `evomerge export` writes it.") from e
    keys = ("parents", "base", "slots", "outer", "seed", "dtype", "out_dtype", "vocabulary", "tokens_of")
    if not isinstance(text, dict) or not {"parents", "slots", "outer"} <= set(text):
        raise MergeError(f"{path} is no recipe: wanted the keys {', '.join(keys)}.")
    for key in text:
        if key not in keys:
            raise MergeError(f"{path}: " + unknown("key", str(key), keys))
    return _checked(_recipe(text, path), path), _locations(text)


def _recipe(text: Mapping[str, Any], path: Path) -> Recipe:
    defaults = {"seed": 0, "dtype": "float32", "out_dtype": "float32", "vocabulary": "equal"}
    try:
        data = {
            **defaults,
            **text,
            "parents": [p["digest"] for p in text["parents"]],
            "base": text["base"]["digest"] if text.get("base") else None,
            "slots": [slot for run in text["slots"] for slot in _unrolled(run)],
        }
        return from_data(data)
    except (KeyError, TypeError, ValueError) as e:
        raise MergeError(
            f"{path} is not a whole recipe ({type(e).__name__}: {e}). Compare it with an exported one."
        ) from e


def _unrolled(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    first, last = run["sources"][0][2]
    return [
        {
            **run,
            "sources": [[p, stack, low + i] for p, stack, (low, _) in run["sources"]],
            "scale": run.get("scale", 1.0),
        }
        for i in range(last - first)
    ]


def _locations(text: Mapping[str, Any]) -> dict[str, str]:
    listed = [*text.get("tokens_of", ()), *text["parents"], *([text["base"]] if text.get("base") else [])]
    return {p["digest"]: p["path"] for p in listed}


def _checked(recipe: Recipe, path: Path) -> Recipe:
    """Methods and knobs known, knobs of the right length, weights that do not cancel under normalisation."""
    for where, blends in [(s.sources, s.blends) for s in recipe.slots] + [(recipe.parents, recipe.outer)]:
        for part, blend in blends.items():
            _check_blend(blend, len(where), f"{path}: part '{part}'")
    return recipe


def _check_blend(blend: Blend, n_parents: int, where: str) -> None:
    method = get(blend.method)
    for name, value in blend.knobs.items():
        knob = method.knob(name)
        if knob is None:
            raise MergeError(f"{where}: " + unknown(f"knob of {method.name}", name, [k.name for k in method.knobs]))
        if isinstance(value, tuple) and len(value) != n_parents:
            raise MergeError(f"{where}: {name} has {len(value)} values for {n_parents} parents; wanted one each.")
        _check_value(knob, value, where)
    weight = blend.knobs.get("weight")
    total = weight * n_parents if isinstance(weight, int | float) else sum(weight) if isinstance(weight, tuple) else 1.0
    if method.name == "linear" and blend.knobs.get("normalize", True) and total == 0:
        raise MergeError(
            f"{where}: the weights {weight} sum to zero and are to be normalised. Change one, or normalize."
        )


def _check_value(knob: Knob, value: Any, where: str) -> None:
    """Raises MergeError for what is no choice of the knob, no finite number, or no share."""
    if knob.scale == "choice":
        if value not in knob.values:
            raise MergeError(f"{where}: " + unknown(knob.name, str(value), map(str, knob.values)))
        return
    if value is None and (knob.default is None or knob.name == "scale"):  # as mergekit's passthrough has it
        return
    each = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in each):
        raise MergeError(f"{where}: {knob.name} is {value!r}; wanted a finite number, or one for each parent.")
    if knob.name == "density" and not all(0 < v <= 1 for v in each):
        raise MergeError(
            f"{where}: density is {value!r}; wanted more than 0 and at most 1. Weight 0 leaves a parent out."
        )
