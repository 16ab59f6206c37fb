"""One tensor of a recipe, resolved: what it is merged of and how, and its merge written out."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias, TypeVar

import torch

from evomerge.engine.passes import Pass
from evomerge.engine.sources import Box, Source, Stored, picker, reader, source_of
from evomerge.errors import MergeError
from evomerge.methods import get
from evomerge.methods.entries import Entries, ground_peak, peak
from evomerge.methods.masks import mask_key
from evomerge.methods.settled import Settled
from evomerge.models.family import Family
from evomerge.models.parent import finite
from evomerge.types import Blend

#: Elements of a slice: large enough to amortise a call, small enough that float32 copies of all parents fit.
SLICE = 1 << 22
#: Parameters of a model from which on its merging is compiled, unless told otherwise.
LARGE = 1 << 25
#: For how many groups of parents what is known of each tensor is kept.
TOGETHER = 32
#: Sources, base and entries of a tensor, and the pieces that it was laid out in.
Inputs: TypeAlias = tuple[list[Source], Source | None, Entries, dict[Any, Any] | None]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Merging:
    """One merged tensor: `pairs` are (digest, tensor) of its sources, `base` the same where differences are merged."""

    name: str
    shape: tuple[int, ...]
    blend: Blend
    pairs: tuple[tuple[str, str], ...]
    base: tuple[str, str] | None
    seed: int

    @cached_property
    def key(self) -> tuple[Any, ...]:
        """Equal keys mean equal tensors, of one family."""
        return (self.blend.method, tuple(sorted(self.blend.knobs.items())), self.pairs, self.base, self.seed)

    def write(self, family: Family, target: torch.Tensor, *, again: bool = False) -> None:
        """Write the merged tensor in place, in the target's dtype. Raises MergeError on NaN or infinity.

        again: it will be written many times, with other knobs; then it pays to know the parents' largest entries.
        """
        target = target.detach()
        if not target.numel():
            return
        if self._untouched(family):
            target.copy_(family.home(*self._base, target.device))
            return
        merging = self._pass(family, target.device)
        out = target if target.is_contiguous() else torch.empty_like(target, memory_format=torch.contiguous_format)
        merging.flat(0, out.numel(), out.view(-1))
        if out is not target:
            target.copy_(out)
        if not (again and self._bounded(merging, out.dtype)) and not finite(out):
            raise MergeError(f"the recipe gives NaN or infinite entries in '{self.name}'")

    @torch.no_grad()
    def boxes(self, family: Family, within: Box | None, device: torch.device) -> Iterator[tuple[Box, torch.Tensor]]:
        """The merged tensor, or the box `within` it, as (box, float32 slice on the device), in row-major order."""
        whole = tuple(slice(0, n) for n in self.shape)
        if 0 in self.shape:
            return
        if self._untouched(family):
            ground = family.home(*self._base, device)
            yield from ((box, ground[box].to(device).float()) for box in _slices(within or whole))
            return
        merging = self._pass(family, device)
        for box in _slices(within or whole):
            out = torch.empty([s.stop - s.start for s in box], device=device)
            start = box[0].start * math.prod(self.shape[1:]) if box else 0
            in_one = all(s == w for s, w in zip(box[1:], whole[1:], strict=True))  # consecutive entries
            if in_one and merging.takes(start, start + out.numel()):
                merging.flat(start, start + out.numel(), out.view(-1))
            else:
                merging.box(box, out)
            yield box, out

    @property
    def _base(self) -> tuple[str, str]:
        assert self.base is not None
        return self.base

    def _untouched(self, family: Family) -> bool:
        """Whether the tensor is the base's own: adapters leave most of it alone."""
        if self.base is None:
            return False
        return all(name == self._base[1] and not family.touches(digest, name) for digest, name in self.pairs)

    def _pass(self, family: Family, device: torch.device) -> Pass:
        sources, base, entries, laid = self._inputs(family, device)
        settled = get(self.blend.method).settle(entries, **self.blend.knobs)
        return Pass(settled, sources, base, entries, _compiles(family), laid)

    def _inputs(self, family: Family, device: torch.device) -> Inputs:
        """Kept from one candidate to the next while the parents lie on the device, and only they."""
        key = ("inputs", self.pairs, self.base, self.seed, str(device))
        kept = family.learned.get(self._shelf(key), {})
        if key in kept:
            return kept[key]  # type: ignore[no-any-return]
        sources, base = self._sources(family, device)
        entries = self._entries(family, sources, base, device)
        if family.placement != "device" or not all(source.lasting for source in sources):
            return sources, base, entries, None
        return self._keep(family, key, (sources, base, entries, {}))

    def _entries(self, family: Family, sources: list[Source], base: Source | None, device: torch.device) -> Entries:
        """The entries with what was learned of them before."""
        place = str(device)
        return Entries(
            self.shape,
            reader(sources, base),
            (mask_key(self.seed, "", self.pairs[0][1]), *(mask_key(self.seed, *pair) for pair in self.pairs)),
            device,
            joint=self._keep(family, ("joint", self.pairs, self.base, place), {}),
            own=tuple(family.learned.setdefault((pair, self.base, place), {}) for pair in self.pairs),
            ground=None if base is None else lambda start, stop: base.flat(start, stop).float(),
            pick=picker(sources, base),
            adder=lambda *what: self._totals(family, sources, base, device, *what),
            model=lambda: self._everywhere(family, device),
            model_learned=self._keep(family, ("model", self._digests, self.base and self.base[0], place), {}),
        )

    def _keep(self, family: Family, key: tuple[Any, ...], found: T) -> T:
        """What is known of several parents together, under its key: where a search picks parents, of the last ones."""
        shelf = self._shelf(key)
        kept = family.learned.setdefault(shelf, {})
        if key not in kept and len(kept) >= (TOGETHER if shelf == "together" else 1) * len(family.shapes):
            del kept[next(iter(kept))]
        return kept.setdefault(key, found)  # type: ignore[no-any-return]

    def _shelf(self, key: tuple[Any, ...]) -> Hashable:
        """Where that is kept. What is large is one per tensor, and so is what refers to it."""
        large = get(self.blend.method).keeps > 0 and key[0] != "model"
        return ("large", key[0]) if large else "together"

    def _totals(
        self,
        family: Family,
        sources: list[Source],
        base: Source | None,
        device: torch.device,
        measure: Any,
        numbers: tuple[tuple[float, ...], ...],
        m: int,
        extras: Sequence[torch.Tensor],
    ) -> tuple[float, ...]:
        entries = self._entries(family, sources, base, device)
        return Pass(Settled(measure, numbers, extras=tuple(extras)), sources, base, entries, _compiles(family)).totals(
            m
        )

    @property
    def _digests(self) -> tuple[str, ...]:
        return tuple(digest for digest, _ in self.pairs)

    def _everywhere(self, family: Family, device: torch.device) -> list[Entries]:
        """The entries of every tensor of these parents, each under its own name."""
        found = []
        for name, shape in family.shapes.items():
            base = self.base and (self.base[0], name)
            twin = Merging(name, shape, self.blend, tuple((digest, name) for digest in self._digests), base, self.seed)
            found.append(twin._entries(family, *twin._sources(family, device), device))
        return found

    def _sources(self, family: Family, device: torch.device) -> tuple[list[Source], Source | None]:
        over = self.base[1] if self.base else None
        sources = [source_of(family, *pair, device, over=over) for pair in self.pairs]
        return sources, Stored(family.home(*self.base, device), device) if self.base else None

    def _bounded(self, merging: Pass, dtype: torch.dtype) -> bool:
        """Whether no entry can be infinite, by the largest that went in: cheaper than a look at all that came out."""
        entries = merging.entries
        largest = max(1.0, *entries.each(peak))  # 1: the coefficients themselves must be float32
        ground = 0.0 if entries.ground is None else entries.once(ground_peak)
        return merging.settled.gain * largest + ground < torch.finfo(dtype).max / 2


def _compiles(family: Family) -> bool:
    """Whether merging is compiled: as the family says, or if its models are large."""
    if family.compiles is None:
        family.compiles = sum(math.prod(shape) for shape in family.shapes.values()) >= LARGE
    return family.compiles


def _slices(within: Box) -> Iterator[Box]:
    """Cut a box along its first dimension into slices of about SLICE elements."""
    if not within:
        yield ()
        return
    first, *others = within
    rows = max(1, SLICE // max(1, math.prod(s.stop - s.start for s in others)))
    for start in range(first.start, first.stop, rows):
        yield (slice(start, min(start + rows, first.stop)), *others)
