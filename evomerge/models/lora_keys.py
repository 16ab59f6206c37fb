"""The tensors of an adapter file -> what each does to a tensor of the base."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from evomerge.errors import ParentError
from evomerge.models import lora_config
from evomerge.models.lora_names import Skeleton

PREFIX = "base_model.model."
_FACTOR = re.compile(r"(.+)\.lora_(?:(A|B)\.weight|embedding_(A|B))")
Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Pair:
    """Two factors of the file: delta = scale * b @ a, transposed where the base keeps (in, out) or embeddings."""

    a: str
    b: str
    scale: float
    transposed: bool


@dataclass(frozen=True)
class Whole:
    """A tensor of the file that takes the base's place."""

    key: str


Change: TypeAlias = Pair | Whole


@dataclass
class Contents:
    """The keys of a file by the live tensor they mean; `frozen` are copies of the base that PEFT keeps beside."""

    factors: dict[str, dict[str, str]] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    lookups: set[str] = field(default_factory=set)
    wholes: dict[str, str] = field(default_factory=dict)
    frozen: dict[str, str] = field(default_factory=dict)


def sort_keys(shapes: Mapping[str, Shape], skeleton: Skeleton, adapter: str, base: str) -> Contents:
    """Every key in its place. Raises ParentError for a key that PEFT's LoRA does not write, or of another base."""
    contents = Contents()
    for key in sorted(shapes):
        name = key.removeprefix(PREFIX)
        factor = _FACTOR.fullmatch(name)
        if name == key or (".lora_" in name and not factor):
            raise ParentError(
                f"{adapter} has a tensor '{key}', which a plain LoRA adapter has not. Wanted names such as "
                f"'{PREFIX}<module>.lora_A.weight'. {lora_config.MERGE}"
            )
        if factor:
            live = _live(f"{factor[1]}.weight", skeleton, adapter, base)
            contents.factors.setdefault(live, {})[factor[2] or factor[3]] = key
            contents.modules[live] = factor[1]
            contents.lookups |= {live} if factor[3] else set()
            continue
        frozen = ".original_module." in name or name.endswith(".base_layer.weight")
        for infix in (".original_module.", ".modules_to_save.", ".base_layer."):
            name = name.replace(infix, ".")
        (contents.frozen if frozen else contents.wholes)[_live(name, skeleton, adapter, base)] = key
    return contents


def _live(name: str, skeleton: Skeleton, adapter: str, base: str) -> str:
    live = skeleton.find(name)
    if live is None or not skeleton.at_rest[live]:
        raise ParentError(
            f"{adapter} changes '{name}', which {base} does not have: it was made for another model. Give the base it "
            "was trained on (base_model_name_or_path in its adapter_config.json), or drop it."
        )
    return live


def find_changes(
    contents: Contents, shapes: Mapping[str, Shape], config: Mapping[str, Any], in_out: frozenset[str], adapter: str
) -> dict[str, Change]:
    """Live tensor -> change. Raises ParentError for half a pair, or a rank that is not the config's."""
    found: dict[str, Change] = {live: Whole(key) for live, key in contents.wholes.items()}
    for live, halves in contents.factors.items():
        if live in found or len(halves) < 2:
            got = "a tensor stored whole beside its factors" if live in found else f"only lora_{next(iter(halves))}"
            raise ParentError(f"{adapter} has {got} for '{live}'. Wanted lora_A and lora_B alone: save it again.")
        module = contents.modules[live]
        _check_rank(live, shapes[halves["A"]], shapes[halves["B"]], lora_config.rank(config, module), adapter)
        transposed = live in contents.lookups or live.removesuffix(".weight") in in_out
        found[live] = Pair(halves["A"], halves["B"], lora_config.scale(config, module), transposed)
    return found


def _check_rank(live: str, a: Shape, b: Shape, rank: int, adapter: str) -> None:
    if len(a) != 2 or len(b) != 2:
        raise ParentError(
            f"{adapter} has factors of shapes {a} and {b} for '{live}': a convolution, or shards that were not "
            f"gathered when saving. Wanted two matrices. {lora_config.MERGE}"
        )
    if a[0] != rank or b[1] != rank:
        raise ParentError(
            f"{adapter} has factors {a} and {b} for '{live}', and its config gives them rank {rank}. Config and "
            "tensors are of different adapters: save or download them together."
        )


def shape_of(change: Change, shapes: Mapping[str, Shape]) -> Shape:
    """The shape of the base's tensor that a change fits."""
    if isinstance(change, Whole):
        return shapes[change.key]
    made = (shapes[change.b][0], shapes[change.a][1])
    return made[::-1] if change.transposed else made
