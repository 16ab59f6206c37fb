"""The tensors of a family as mergekit sorts them: blocks of one stack, and what comes before and after them."""

from __future__ import annotations

from evomerge.errors import MergeError
from evomerge.models import layout
from evomerge.models.family import Family
from evomerge.types import VECTORS


def only_stack(family: Family, where: str) -> tuple[str, int]:
    """Name and depth of the stack of blocks. Raises MergeError unless there is exactly one."""
    if len(family.stacks) != 1:
        raise MergeError(
            f"{where}: the model has {len(family.stacks)} stacks of blocks ({', '.join(family.stacks) or 'none'}); "
            "mergekit's slices are for one. Use an evomerge recipe."
        )
    return next(iter(family.stacks.items()))


def block_names(family: Family, stack: str, block: int) -> list[str]:
    """The names of a block's tensors inside the block."""
    prefix = f"{stack}.{block}."
    return sorted(name.removeprefix(prefix) for name in family.shapes if name.startswith(prefix))


def outer_names(family: Family) -> list[str]:
    return [name for name in sorted(family.shapes) if layout.place(name).stack is None]


def is_before_blocks(name: str) -> bool:
    """Whether mergekit counts an outer tensor among the first slice's: embeddings and their norms.

    Its architecture files say so for all decoders that they list; of one that it must infer, it counts all outer
    tensors there.
    """
    part = layout.place(name).part
    return part == "embeddings" or (part == "norms" and "embed" in name)


def labels(family: Family, name: str) -> set[str]:
    """What a recipe may call a tensor of the family, beside parts of its name."""
    return {layout.place(name).part, *([VECTORS] if len(family.shapes[name]) <= 1 else [])}
