"""Consecutive blocks that are merged alike, each run a slice of mergekit's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from evomerge.build import pick
from evomerge.mergekit_io.one_method import alone, common_method, in_method
from evomerge.mergekit_io.said import Said, say
from evomerge.mergekit_io.tensors import block_names, is_before_blocks, labels, only_stack, outer_names
from evomerge.models.family import Family
from evomerge.types import Recipe, Slot


@dataclass(frozen=True)
class Run:
    """blocks: parent (None: the base) -> its first block; tensors: name -> how it is merged.

    A block's tensors stand for those of all blocks of the run; embeddings are among the tensors of the first run,
    final norm and head among those of the last, as mergekit takes their models and settings from there.
    """

    blocks: Mapping[int | None, int]
    length: int
    tensors: Mapping[str, Said]

    def goes_on(self, other: Run) -> bool:
        after = {model: block + self.length for model, block in self.blocks.items()}
        return after == other.blocks and dict(self.tensors) == dict(other.tensors)


def runs_of(recipe: Recipe, family: Family) -> tuple[str, list[Run]]:
    """The method of the whole recipe, and its runs. Raises MergeError where mergekit has no words."""
    stack, _ = only_stack(family, "the recipe")
    blocks = [_block(recipe, family, slot, stack, number) for number, slot in enumerate(recipe.slots)]
    outer = {name: _outer(recipe, family, name) for name in outer_names(family)}
    before = {name: said for name, said in outer.items() if is_before_blocks(name)}
    after = {name: said for name, said in outer.items() if name not in before}
    method = common_method([*blocks, outer])
    if method == "passthrough" and not _single_file([{**before, **blocks[0]}, *blocks, {**blocks[-1], **after}]):
        method = "linear"
    alike: list[Run] = []
    for slot, block in zip(recipe.slots, blocks, strict=True):
        run = Run(_first_blocks(recipe, method, slot, block), 1, _in_method(method, block))
        if alike and alike[-1].goes_on(run):
            alike[-1] = replace(alike[-1], length=alike[-1].length + 1)
        else:
            alike.append(run)
    alike[0] = replace(alike[0], tensors={**alike[0].tensors, **_in_method(method, before)})
    alike[-1] = replace(alike[-1], tensors={**alike[-1].tensors, **_in_method(method, after)})
    return method, alike


def _block(recipe: Recipe, family: Family, slot: Slot, stack: str, number: int) -> dict[str, Said]:
    """A slot's tensors, named as those of block 0, so that alike slots are equal."""
    said, source = {}, slot.sources[0][2]
    for rest in block_names(family, stack, source):
        name = f"{stack}.{number}.{rest}"
        blend = pick(slot.blends, name, labels(family, f"{stack}.{source}.{rest}"))
        said[f"{stack}.0.{rest}"] = say(recipe, slot.sources, blend, name)
    return said


def _outer(recipe: Recipe, family: Family, name: str) -> Said:
    sources = tuple((p, "", 0) for p in range(len(recipe.parents)))
    return say(recipe, sources, pick(recipe.outer, name, labels(family, name)), name)


def _in_method(method: str, said: Mapping[str, Said]) -> dict[str, Said]:
    return {name: in_method(method, s) for name, s in said.items()}


def _single_file(groups: Sequence[Mapping[str, Said]]) -> bool:
    """Whether each group of tensors comes from one parent: a slice of mergekit's passthrough has one model."""
    return all(len({parent for said in group.values() for parent in alone(said)}) == 1 for group in groups)


def _first_blocks(recipe: Recipe, method: str, slot: Slot, block: Mapping[str, Said]) -> dict[int | None, int]:
    """The block of every model of the slice. Models that the slot has not are there with weight 0.

    mergekit takes final norm and head from as many models as the first slice has, so all slices have all.
    """
    own: dict[int | None, int] = {parent: number for parent, _, number in slot.sources}
    first = slot.sources[0][2]
    if method == "passthrough":
        (parent,) = {parent for said in block.values() for parent in alone(said)}
        return {parent: own[parent]}
    every = own | {parent: first for parent in range(len(recipe.parents)) if parent not in own}
    if not any(said.base for said in block.values()):
        return every
    bases = [parent for parent, digest in enumerate(recipe.parents) if digest == recipe.base]
    others = {parent: number for parent, number in every.items() if parent not in bases}
    return {None: first, **others}  # the first of the others has the base's block
