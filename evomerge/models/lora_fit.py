"""Whether the changes of an adapter fit the base: shapes, the copies it carries, and tensors that the base ties."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from evomerge.errors import ParentError
from evomerge.models.lora_file import read, read_factors
from evomerge.models.lora_keys import Change, Pair, Shape, Whole, shape_of
from evomerge.models.lora_names import Skeleton
from evomerge.models.parent import Parent

#: A copy of the base may have been rounded to bf16 on its way into the adapter, which keeps 8 bits.
_ROUNDING = 2.0**-8


def check_shapes(
    changes: Mapping[str, Change], shapes: Mapping[str, Shape], skeleton: Skeleton, base: Parent, adapter: str
) -> None:
    """Raises ParentError where a change has not the shape of the base's tensor."""
    for live, change in changes.items():
        got, wanted = shape_of(change, shapes), base.shapes[skeleton.at_rest[live][0]]
        if got != wanted:
            resized = len(got) == 2 and got[1:] == wanted[1:]
            way = (
                "The vocabulary was resized: merge it with PEFT over the resized base and save the whole model."
                if resized
                else "Give the base it was trained on, or drop it."
            )
            raise ParentError(f"{adapter} changes '{live}' of shape {got}, and {base.name} has {wanted}. {way}")


def check_frozen(frozen: Mapping[str, str], folder: Path, skeleton: Skeleton, base: Parent, adapter: str) -> None:
    """Raises ParentError where a frozen copy that PEFT keeps beside the factors is not the base's tensor."""
    for live, key in frozen.items():
        copy, own = read(folder, key).float(), base.read(skeleton.at_rest[live][0]).float()
        if copy.shape != own.shape or not torch.allclose(copy, own, rtol=_ROUNDING, atol=1e-6):
            raise ParentError(
                f"{adapter} was trained over '{live}' of shape {tuple(copy.shape)}, which it carries and which is not "
                f"that of {base.name} {tuple(own.shape)}. Give the base it was trained on, or drop it."
            )


def drop_copies(changes: Mapping[str, Change], folder: Path, skeleton: Skeleton, base: Parent) -> dict[str, Change]:
    """Without tensors stored whole that are the base's own, rounded to the adapter's dtype: their delta is noise."""

    def is_copy(live: str, change: Change) -> bool:
        if isinstance(change, Pair):
            return False
        stored = read(folder, change.key)
        return torch.equal(stored, base.read(skeleton.at_rest[live][0]).to(stored.dtype))

    return {live: change for live, change in changes.items() if not is_copy(live, change)}


def check_tied(changes: Mapping[str, Change], folder: Path, skeleton: Skeleton, base: str, adapter: str) -> None:
    """Raises ParentError where names that the base ties would part: then one tensor cannot hold both."""
    for live, change in changes.items():
        for twin in skeleton.names[live]:
            if twin not in changes or not _same(change, changes[twin], folder):
                raise ParentError(
                    f"{adapter} changes '{live}' and not '{twin}' alike, and {base} ties the two: one tensor cannot "
                    "hold both. Give an untied base: load it with tie_word_embeddings=False, copy the embeddings into "
                    "the head and save it; or train the adapter with ensure_weight_tying."
                )


def _same(one: Change, other: Change, folder: Path) -> bool:
    if isinstance(one, Whole) and isinstance(other, Whole):
        return torch.equal(read(folder, one.key), read(folder, other.key))
    if isinstance(one, Pair) and isinstance(other, Pair):
        cpu = torch.device("cpu")
        both = zip(read_factors(folder, one, cpu), read_factors(folder, other, cpu), strict=True)
        return all(torch.equal(a, b) for a, b in both)
    return False
