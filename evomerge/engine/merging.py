"""One tensor of a recipe, resolved: what it is merged of and how, and its merge written out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch

from evomerge.engine.inputs import Parts, compiles, inputs_of
from evomerge.engine.passes import Pass
from evomerge.engine.sources import Box
from evomerge.errors import MergeError
from evomerge.methods import get
from evomerge.models.family import Family
from evomerge.models.parent import finite
from evomerge.types import Blend

#: Elements of a slice: large enough to amortise a call, small enough that float32 copies of all parents fit.
SLICE = 1 << 22


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
        self.prepared(family, target, again=again)()

    def prepared(self, family: Family, target: torch.Tensor, *, again: bool) -> Callable[[], None]:
        """`write` but for its last step, which is returned: parents are read and the method is settled."""
        target = target.detach()
        if not target.numel():
            return lambda: None
        if self._untouched(family):
            return partial(_copy, family.home(*self._base, target.device), target)
        merging = self._pass(family, target.device)
        if not target.is_contiguous():
            return partial(self._write_apart, merging, target)
        merge = merging.prepared(target.view(-1))
        return merge if again and _bounded(merging, target.dtype) else partial(self._write, merge, target)

    def _write_apart(self, merging: Pass, target: torch.Tensor) -> None:
        """Write to a target that cannot be seen as one row of entries."""
        out = torch.empty_like(target, memory_format=torch.contiguous_format)
        self._write(merging.prepared(out.view(-1)), out)
        target.copy_(out)

    def _write(self, merge: Callable[[], None], out: torch.Tensor) -> None:
        merge()
        if not finite(out):
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
        inputs = inputs_of(family, self.parts, device)
        try:
            settled = get(self.blend.method).settle(inputs.entries, **self.blend.knobs)
        except MergeError as e:
            raise MergeError(f"'{self.name}': {e}") from e
        return Pass(settled, inputs, compiles(family))

    @cached_property
    def parts(self) -> Parts:
        return Parts(self.shape, self.pairs, self.base, self.seed, get(self.blend.method).keeps > 0)


def _copy(source: torch.Tensor, target: torch.Tensor) -> None:
    target.copy_(source)


def _bounded(merging: Pass, dtype: torch.dtype) -> bool:
    """Whether no entry can be infinite, by the largest that went in: cheaper than a look at all that came out."""
    largest, ground = merging.inputs.peaks
    return merging.settled.gain * largest + ground < torch.finfo(dtype).max / 2


def _slices(within: Box) -> Iterator[Box]:
    """Cut a box along its first dimension into slices of about SLICE elements."""
    if not within:
        yield ()
        return
    first, *others = within
    rows = max(1, SLICE // max(1, math.prod(s.stop - s.start for s in others)))
    for start in range(first.start, first.stop, rows):
        yield (slice(start, min(start + rows, first.stop)), *others)
