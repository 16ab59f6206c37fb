"""One spelling of tensor names for a family: checkpoints of one model may carry the base model's prefix or lack it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from evomerge.models.parent import Parent


def respelt(parent: Parent, model: Parent) -> Parent:
    """The parent under the model's names, if a leading word (`transformer.`) is all that tells them apart."""
    if set(parent.shapes) == set(model.shapes):
        return parent
    for prefix in {name.partition(".")[0] + "." for name in (*parent.shapes, *model.shapes)}:
        found = {_other(name, prefix, model.shapes): name for name in parent.shapes}
        if set(found) == set(model.shapes) and len(found) == len(parent.shapes):
            return replace(
                parent,
                files={ours: parent.files[theirs] for ours, theirs in found.items()},
                shapes={ours: parent.shapes[theirs] for ours, theirs in found.items()},
                dtypes={ours: parent.dtypes[theirs] for ours, theirs in found.items()},
                stored=found,
            )
    return parent


def _other(name: str, prefix: str, wanted: Mapping[str, object]) -> str:
    """The spelling the model has: the name itself, with the prefix, or without it."""
    spellings = (name, prefix + name, name.removeprefix(prefix))
    return next((spelling for spelling in spellings if spelling in wanted), name)
