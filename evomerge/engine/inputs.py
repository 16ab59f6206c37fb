"""The inputs of a tensor's merge, and what was learned of them: kept from one candidate to the next in the family."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch

from evomerge.engine.passes import Pass
from evomerge.engine.pieces import Inputs
from evomerge.engine.sources import Source, Stored, picker, reader, source_of
from evomerge.methods.entries import Entries
from evomerge.methods.masks import mask_key
from evomerge.methods.settled import Settled
from evomerge.models.family import Family

#: Parameters of a model from which on its merging is compiled, unless told otherwise.
LARGE = 1 << 25
#: For how many groups of parents what is known of each tensor is kept.
TOGETHER = 32
T = TypeVar("T")


class Parts(NamedTuple):
    """What a tensor is merged of: (digest, tensor) of its parents, and of the base where differences are merged.

    large: whether the method keeps something for every entry.
    """

    shape: tuple[int, ...]
    pairs: tuple[tuple[str, str], ...]
    base: tuple[str, str] | None
    seed: int
    large: bool


def inputs_of(family: Family, parts: Parts, device: torch.device) -> Inputs:
    """Kept from one candidate to the next while the parents lie on the device, and only they."""
    key = ("inputs", parts, device)
    kept = family.learned.get(_shelf(key, parts), {})
    if key in kept:
        return kept[key]  # type: ignore[no-any-return]
    sources, base = _sources(family, parts, device)
    inputs = Inputs(sources, base, _entries(family, parts, sources, base, device))
    if family.placement != "device" or not all(source.lasting for source in sources):
        return inputs
    inputs.keep = True
    return _keep(family, key, parts, inputs)


def compiles(family: Family) -> bool:
    """Whether merging is compiled: as the family says, or if its models are large."""
    if family.compiles is None:
        family.compiles = sum(math.prod(shape) for shape in family.shapes.values()) >= LARGE
    return family.compiles


def _sources(family: Family, parts: Parts, device: torch.device) -> tuple[list[Source], Source | None]:
    over = parts.base[1] if parts.base else None
    sources = [source_of(family, *pair, device, over=over) for pair in parts.pairs]
    return sources, Stored(family.home(*parts.base, device), device) if parts.base else None


def _entries(
    family: Family, parts: Parts, sources: Sequence[Source], base: Source | None, device: torch.device
) -> Entries:
    """The entries with what was learned of them before."""
    pairs, seed, place = parts.pairs, parts.seed, str(device)
    digests = tuple(digest for digest, _ in pairs)
    return Entries(
        parts.shape,
        reader(sources, base),
        (mask_key(seed, "", pairs[0][1]), *(mask_key(seed, *pair) for pair in pairs)),
        device,
        joint=_keep(family, ("joint", pairs, parts.base, place), parts, {}),
        own=tuple(family.learned.setdefault((pair, parts.base, place), {}) for pair in pairs),
        ground=None if base is None else lambda start, stop: base.flat(start, stop).float(),
        pick=picker(sources, base),
        adder=lambda *what: _totals(family, parts, sources, base, device, *what),
        model=lambda: _everywhere(family, parts, device),
        model_learned=_keep(family, ("model", digests, parts.base and parts.base[0], place), parts, {}),
    )


def _totals(
    family: Family,
    parts: Parts,
    sources: Sequence[Source],
    base: Source | None,
    device: torch.device,
    measure: Any,
    numbers: tuple[tuple[float, ...], ...],
    m: int,
    extras: Sequence[torch.Tensor],
) -> tuple[float, ...]:
    inputs = Inputs(sources, base, _entries(family, parts, sources, base, device))
    return Pass(Settled(measure, numbers, extras=tuple(extras)), inputs, compiles(family)).totals(m)


def _everywhere(family: Family, parts: Parts, device: torch.device) -> list[Entries]:
    """The entries of every tensor of these parents, each under its own name."""
    found = []
    for name, shape in family.shapes.items():
        pairs = tuple((digest, name) for digest, _ in parts.pairs)
        base = parts.base and (parts.base[0], name)
        twin = parts._replace(shape=shape, pairs=pairs, base=base)
        found.append(_entries(family, twin, *_sources(family, twin, device), device))
    return found


# ---------------------------------------------------------------- kept


def _keep(family: Family, key: tuple[Any, ...], parts: Parts, found: T) -> T:
    """What is known of several parents together, under its key: where a search picks parents, of the last ones."""
    shelf = _shelf(key, parts)
    kept = family.learned.setdefault(shelf, {})
    if key not in kept and len(kept) >= (TOGETHER if shelf == "together" else 1) * len(family.shapes):
        del kept[next(iter(kept))]
    return kept.setdefault(key, found)  # type: ignore[no-any-return]


def _shelf(key: tuple[Any, ...], parts: Parts) -> Hashable:
    """Where that is kept. What is large is one per tensor, and so is what refers to it."""
    return ("large", key[0]) if parts.large and key[0] != "model" else "together"
