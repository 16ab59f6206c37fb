"""A recipe as a model that transformers loads, with its recipe and a model card that says how it was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from evomerge import build
from evomerge.errors import EvomergeError, JournalError, MergeError, ParentError
from evomerge.journal import rows
from evomerge.models import layout, writer
from evomerge.models.blank import pick_dtype
from evomerge.models.family import Family, bytes_of
from evomerge.models.parent import open_parent
from evomerge.recipe_io import from_data, read_yaml, to_yaml
from evomerge.types import Recipe


def finalist(folder: Path, wanted: str = "winner") -> tuple[Recipe, str]:
    """A finalist's recipe and id from a run's journal. Raises JournalError if the run has none yet, or not this one."""
    stops = [r for r in rows(folder) if r["row"] == "stop" and r["phase"] == "selection"]
    if not stops:
        raise JournalError(f"{folder} has no winner yet. Finish it first: evomerge resume {folder}")
    ident = stops[-1]["winner"] if wanted == "winner" else wanted
    found = {f["id"]: f["recipe"] for f in stops[-1]["finalists"]}
    if ident not in found:
        raise JournalError(f"{folder} has no finalist '{ident}'. It has: {', '.join(found)}.")
    return from_data(found[ident]), ident


def device_of(folder: Path) -> str:
    """The kind of device a run was searched on: another kind would round the winner's last bits differently."""
    return str(rows(folder)[0]["identity"]["device"])


def export(recipe: Recipe, family: Family, folder: Path, device: torch.device, card: str) -> None:
    """Write model, config, tokenizer, recipe.yaml and README.md (the card).

    The tensors are made by the very functions that made the candidate in memory, on the same kind of device, so
    they are equal to it in every bit.
    """
    writer.prepare_folder(folder, bytes_of(family.model))
    try:
        writer.write_tensors(folder, merged(recipe, family, device))
        writer.copy_setting(family.base_folder, folder, family.model.config, recipe.out_dtype)
        (folder / "recipe.yaml").write_text(to_yaml(recipe, {p.digest: p.name for p in family.all}))
        (folder / "README.md").write_text(card)
        writer.make_readable(folder)
    except (OSError, SafetensorError) as e:
        raise EvomergeError(f"writing {folder} failed ({e}). Make room, remove the incomplete folder, repeat.") from e


def merged(recipe: Recipe, family: Family, device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
    """The merged model's tensors by checkpoint name, in out_dtype."""
    planned = build.layers(recipe)
    dtype = pick_dtype(recipe.out_dtype)
    for name in sorted(family.model.files):
        if not family.model.dtypes[name].startswith(("float", "bfloat")):
            yield name, family.model.read(name)  # masks and counters are constants, not weights
            continue
        whole = torch.empty(family.model.shapes[name], dtype=dtype, device=device)
        build.write_tensor(recipe, planned, family, name, whole)
        yield name, whole


def read_recipe(path: Path) -> tuple[Recipe, Family]:
    """A recipe file and its parents, found where it says and checked by content."""
    recipe, locations = read_yaml(path)
    opened = {digest: open_parent(location) for digest, location in locations.items()}
    for digest, parent in opened.items():
        if parent.digest != digest:
            raise ParentError(
                f"{parent.name} has the content {parent.digest}, {path} wants {digest}: another version. "
                "Give the path of the right checkpoint in the recipe."
            )
    base = opened[recipe.base] if recipe.base else None
    family = Family(base, tuple(opened[d] for d in dict.fromkeys(recipe.parents)))
    check_parents(recipe, family)
    return recipe, family


def check_parents(recipe: Recipe, family: Family) -> None:
    """Every parent the recipe names is there. Raises ParentError (from find) or MergeError."""
    for digest in [*recipe.parents, *([recipe.base] if recipe.base else [])]:
        family.find(digest)
    wanted = sum(layout.stacks(family.model.files).values())
    if len(recipe.slots) != wanted:
        raise MergeError(
            f"the recipe has {len(recipe.slots)} blocks, its base {wanted}; only equal depths can be built"
        )


def model_card(title: str, recipe: Recipe, family: Family, report: str, facts: Mapping[str, Any]) -> str:
    """README.md of the exported model: front matter the hub reads, parents, the run's report, how to repeat it."""
    lines = ["---", "library_name: transformers", "tags: [merge, evomerge]"]
    hub = [p.name for p in family.all if p.name.count("/") == 1 and not Path(p.name).exists()]
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
