"""Tensors that are built where they are copied to: a loader that narrows first has only its part built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch.utils._pytree import tree_map_only

from evomerge.errors import MergeError
from evomerge.models.parent import finite

Box: TypeAlias = tuple[slice, ...]
#: (box, device) -> the box piece by piece, as (box, float32 slice on the device) in the whole tensor's coordinates.
Fill: TypeAlias = Callable[[Box, torch.device], Iterator[tuple[Box, torch.Tensor]]]

_aten = torch.ops.aten
_SAME = (_aten.detach.default, _aten.alias.default)


@dataclass
class Site:
    """What was built of one model: how many elements, and the errors, for a loader must not stop half-way.

    Stopping would leave layers of two models behind; a target that fails is zero and the error is kept.
    """

    built: int = 0
    faults: list[Exception] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Plan:
    """How a whole tensor comes to be; its parts report to the site."""

    name: str
    fill: Fill
    site: Site


class Unbuilt(torch.Tensor):
    """A float32 tensor, or a box of one, that is not there yet.

    Slicing and narrowing stay unbuilt; `copy_` into a tensor builds this box there, cast once to the target's dtype,
    and into a tensor on the meta device builds nothing. Any other operation builds the box on the CPU first. Raises
    MergeError when written to: what is built again would not have the change.
    """

    plan: Plan
    box: Box
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, plan: Plan, box: Box) -> Unbuilt:
        shape = [s.stop - s.start for s in box]
        made: Unbuilt = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=torch.float32, device=torch.device("cpu"))
        made.plan, made.box = plan, box
        return made

    def __init__(self, *_: object) -> None:
        """All is done by __new__, as torch wants it of wrappers."""

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Unbuilt({self.plan.name}, {self.box})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        kwargs = kwargs or {}
        if func is _aten.copy_.default and not isinstance(args[0], Unbuilt):
            return _pour(args[1], args[0])
        if func in _SAME or (func is _aten.view.default and tuple(args[1]) == tuple(args[0].shape)):
            return Unbuilt(args[0].plan, args[0].box)
        if func is _aten.slice.Tensor and (cut := _cut(*args, **kwargs)) is not None:
            return cut
        if func._schema.is_mutable:
            raise MergeError(f"the loader changes a tensor in place ({func}) that is still to be built: cannot follow.")
        args, kwargs = tree_map_only(Unbuilt, _built, (tuple(args), kwargs))
        return func(*args, **kwargs)


def _cut(
    unbuilt: Unbuilt, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Unbuilt | None:
    """The part that a slice with Python's rules takes; None if it skips entries."""
    if step != 1:
        return None
    dim %= unbuilt.dim()
    first, last, _ = slice(start, end).indices(unbuilt.shape[dim])
    origin = unbuilt.box[dim].start
    part = slice(origin + first, origin + max(first, last))
    return Unbuilt(unbuilt.plan, (*unbuilt.box[:dim], part, *unbuilt.box[dim + 1 :]))


def _built(unbuilt: Unbuilt) -> torch.Tensor:
    return _pour(unbuilt, torch.empty(unbuilt.shape))


@torch.no_grad()
def _pour(unbuilt: Unbuilt, target: torch.Tensor) -> torch.Tensor:
    """Build the box into a target of its shape."""
    if target.device.type == "meta" or not target.numel():
        return target
    try:
        for box, merged in unbuilt.plan.fill(unbuilt.box, target.device):
            _write(target[_relative(box, unbuilt.box)], merged, unbuilt.plan)
    except Exception as fault:  # kept: see Site
        unbuilt.plan.site.faults.append(fault)
        target.zero_()
    return target


def _write(target: torch.Tensor, merged: torch.Tensor, plan: Plan) -> None:
    target.copy_(merged)
    plan.site.built += merged.numel()
    if not finite(target):
        raise MergeError(f"the recipe gives NaN or infinite entries in '{plan.name}'")


def _relative(box: Box, origin: Box) -> Box:
    return tuple(slice(b.start - o.start, b.stop - o.start) for b, o in zip(box, origin, strict=True))
