"""A recipe as a model that transformers loads, with its recipe and a model card that says how it was found."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from evomerge import build
from evomerge.errors import EvomergeError, MergeError, ParentError
from evomerge.journal import rows
from evomerge.mergekit_io import is_mergekit
from evomerge.mergekit_io import read as read_mergekit
from evomerge.models import speech, writer
from evomerge.models.blank import pick_dtype
from evomerge.models.depth import redrawn
from evomerge.models.family import Family, open_family
from evomerge.models.parent import finite
from evomerge.models.shards import Outline, write_shards
from evomerge.recipe_io import read_yaml, to_yaml
from evomerge.types import Recipe

#: Parameters of a model from which on a CPU's merging is compiled even for one candidate: it takes some ten seconds.
COMPILED = 1 << 31


def device_of(folder: Path) -> str:
    """The kind of device a run was searched on: another kind would round the winner's last bits differently."""
    return str(rows(folder)[0]["identity"]["device"])


def n_bytes(recipe: Recipe, family: Family) -> int:
    """Of the merged model's tensors."""
    return sum(outline.nbytes for outline in outlines(recipe, family).values())


def outlines(recipe: Recipe, family: Family) -> dict[str, Outline]:
    """Checkpoint name -> shape and dtype of the merged model's tensors."""
    dtype = pick_dtype(recipe.out_dtype)
    return {name: Outline(tuple(shape), dtype) for name, shape in sorted(build.shapes(recipe, family).items())}


def export(
    recipe: Recipe,
    family: Family,
    folder: Path,
    device: torch.device,
    card: str,
    told: Callable[[int], None] = lambda written: None,
) -> None:
    """Write model, config, tokenizer, recipe.yaml and README.md (the card).

    The tensors are made by the very functions that made the candidate in memory, on the same kind of device, so
    they are equal to it in every bit. They are written in pieces, and nothing is kept of a tensor that is done: memory
    does not grow with the model. told: the bytes of each piece.
    """
    config = speech.resized(redrawn(family.model.config, family.stacks, _drawn(recipe)), family)
    planned = outlines(recipe, family)
    writer.prepare_folder(folder, n_bytes(recipe, family))
    alone = _for_one(family, device)
    try:
        write_shards(folder, planned, lambda name: pieces(recipe, alone, name, device), told)
        writer.copy_setting(family.base_folder, folder, config, recipe.out_dtype)
        speech.save(family, folder)
        (folder / "recipe.yaml").write_text(to_yaml(recipe, {p.digest: p.name for p in family.all}))
        (folder / "README.md").write_text(card)
        writer.make_readable(folder)
    except (OSError, SafetensorError) as e:
        raise EvomergeError(f"writing {folder} failed ({e}). Make room, remove the incomplete folder, repeat.") from e


def pieces(recipe: Recipe, family: Family, name: str, device: torch.device) -> Iterator[torch.Tensor]:
    """One merged tensor in out_dtype, cut into consecutive pieces. Raises MergeError on NaN or infinity.

    What the family learned of the tensor is forgotten.
    """
    dtype = pick_dtype(recipe.out_dtype)
    for _, merged in build.merge_tensor(recipe, build.layers(recipe), family, name, device):
        piece = merged.to(dtype)
        if not finite(piece):
            raise MergeError(f"the recipe gives NaN or infinite entries in '{name}'")
        yield piece
    _forget(family)


def _for_one(family: Family, device: torch.device) -> Family:
    """The family without what pays over many candidates, and changes no bit: it is not worth it for one.

    On CUDA compiled loops have bits of their own, so there the model is merged as its candidate was.
    """
    alone = copy(family)
    alone.placement, alone.learned = family.placement or "disk", {}
    if family.compiles is None and device.type != "cuda":
        alone.compiles = sum(map(math.prod, family.shapes.values())) >= COMPILED
    return alone


def _forget(family: Family) -> None:
    """What methods keep of single tensors serves other candidates, and there are none; what is of all of them stays."""
    together = family.learned.get("together", {})
    family.learned = {"together": {key: known for key, known in together.items() if key[0] == "model"}}


def read_recipe(path: Path) -> tuple[Recipe, Family]:
    """A recipe file, ours or mergekit's, and its parents, found where it says; ours are checked by content."""
    if is_mergekit(path):
        recipe, family = read_mergekit(path, open_family)
        check_parents(recipe, family)
        return recipe, family
    recipe, locations = read_yaml(path)
    base = locations[recipe.base] if recipe.base else None
    named = [digest for digest in locations if digest != recipe.base or digest in recipe.parents]
    family = open_family([locations[d] for d in named], base, recipe.vocabulary)
    for digest, parent in zip(named, family.parents, strict=True):
        _check_digest(digest, parent, path)
    if family.base is not None and recipe.base:
        _check_digest(recipe.base, family.base, path)
    check_parents(recipe, family)
    return recipe, family


def _check_digest(digest: str, parent: Any, path: Path) -> None:
    if parent.digest != digest:
        raise ParentError(
            f"{parent.name} has the content {parent.digest}, {path} wants {digest}: another version. "
            "Give the path of the right checkpoint in the recipe."
        )


def _drawn(recipe: Recipe) -> dict[str, list[int]]:
    """The block that each block of the merged model has its config from: that of its first source."""
    drawn: dict[str, list[int]] = {}
    for slot in recipe.slots:
        _, stack, block = slot.sources[0]
        drawn.setdefault(stack, []).append(block)
    return drawn


def check_parents(recipe: Recipe, family: Family) -> None:
    """Every parent and block the recipe names is there. Raises ParentError (from find) or MergeError."""
    for digest in [*recipe.parents, *([recipe.base] if recipe.base else [])]:
        family.find(digest)
    build.check_vocabulary(recipe, family)
    missing = [b for b in (s for slot in recipe.slots for s in slot.sources) if b[2] >= family.stacks.get(b[1], 0)]
    if missing:
        _, stack, block = missing[0]
        raise MergeError(f"the recipe draws on block {block} of '{stack}'; its parents have {family.stacks}.")
    absent = [stack for stack in family.stacks if stack not in _drawn(recipe)]
    if absent:
        raise MergeError(f"the recipe has no slots for the stack '{absent[0]}', which its parents have.")


def model_card(title: str, recipe: Recipe, family: Family, report: str, facts: Mapping[str, Any]) -> str:
    """README.md of the exported model: front matter the hub reads, parents, the run's report, how to repeat it."""
    lines = ["---", "library_name: transformers", "tags: [merge, evomerge]"]
    hub = [p.name.partition("@")[0] for p in family.all if not Path(p.name).is_absolute()]  # else ORG/NAME@COMMIT
    lines += ["base_model:", *(f"- {name}" for name in hub)] if hub else []
    lines += ["---", "", f"# {title}", "", "A merge made with evomerge. `recipe.yaml` rebuilds it:"]
    lines += [
        "`evomerge merge recipe.yaml --to DIR`.",
        "",
        "| role | checkpoint | content digest |",
        "| --- | --- | --- |",
    ]
    roles = [("base" if p is family.base else "parent", p) for p in family.all]
    lines += [f"| {role} | {p.name} | `{p.digest}` |" for role, p in roles]
    methods = sorted({b.method for s in recipe.slots for b in s.blends.values()})
    lines += ["", f"Methods: {', '.join(methods)}; dtype {recipe.out_dtype}; recipe `{recipe.digest}`.", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", "The licences of the parents apply to their merge: check each before you share it.", "", report]
    return "\n".join(lines).rstrip() + "\n"
