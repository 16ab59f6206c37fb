"""A kernel with everything around it as one function of stored entries: compiled into one loop, or run in blocks.

Both give the same bits on a CPU, for a kernel adds and multiplies in a fixed order and compilers may not fuse the two.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from functools import cache
from types import FunctionType
from typing import Any, NamedTuple, TypeAlias

import torch

from evomerge.methods.entries import BLOCK, LARGE_BLOCK
from evomerge.methods.settled import Kernel, Measure

#: All stages in one loop: without these, inductor stores what several stages read, as float32 copies of whole tensors.
OPTIONS: dict[str, Any] = dict.fromkeys(
    ("realize_opcount_threshold", "realize_reads_threshold", "realize_acc_reads_threshold"), 1 << 20
)
#: `merge` or `add_up`.
Work: TypeAlias = Callable[..., None]
log = logging.getLogger(__name__)


class Operands(NamedTuple):
    """Matrices (rows, columns) of entries, and what the kernel takes beside them: see `settled.Kernel`."""

    base: torch.Tensor | None
    parents: Sequence[torch.Tensor]
    numbers: torch.Tensor
    column: torch.Tensor | None
    words: torch.Tensor | None
    extras: Sequence[torch.Tensor]

    def rows(self, first: int, end: int) -> Operands:
        return Operands(
            None if self.base is None else self.base[first:end],
            [parent[first:end] for parent in self.parents],
            self.numbers,
            self.column,
            None if self.words is None else self.words[:, first:end],
            [extra if len(extra) == 1 else extra[first:end] for extra in self.extras],
        )


class NotCompiled(Exception):
    """A loop could not be compiled; what it was to write may be half written."""


def eager(work: Work, kernel: Any, given: tuple[bool, ...], it: Operands, out: torch.Tensor) -> None:
    """Do `merge` or `add_up` a few rows at a time. given: which of the parents are differences already."""
    n, columns = it.parents[0].shape
    step = max(1, BLOCK.get(out.device.type, LARGE_BLOCK) // columns)
    if step >= n:
        work(kernel, given, *it, out)
        return
    for first in range(0, n, step):
        work(kernel, given, *it.rows(first, first + step), out[first : first + step] if work is merge else out)


def merge(
    kernel: Kernel,
    given: tuple[bool, ...],
    base: torch.Tensor | None,
    parents: Sequence[torch.Tensor],
    numbers: torch.Tensor,
    column: torch.Tensor | None,
    words: torch.Tensor | None,
    extras: Sequence[torch.Tensor],
    out: torch.Tensor,
) -> None:
    """Write the merged entries into `out`."""
    ground = None if base is None else base.float()
    merged = kernel(_values(ground, parents, given), numbers, column, words, extras)
    out.copy_(merged if ground is None else merged + ground)


def _values(
    ground: torch.Tensor | None, parents: Sequence[torch.Tensor], given: tuple[bool, ...]
) -> list[torch.Tensor]:
    return [p if is_delta else _less(p, ground) for p, is_delta in zip(parents, given, strict=True)]


def _less(stored: torch.Tensor, ground: torch.Tensor | None) -> torch.Tensor:
    if ground is None:
        return stored.float()
    return stored - ground if stored.dtype == torch.float32 else stored.float().sub_(ground)  # in a copy of its own


def add_up(
    kernel: Measure,
    given: tuple[bool, ...],
    base: torch.Tensor | None,
    parents: Sequence[torch.Tensor],
    numbers: torch.Tensor,
    column: torch.Tensor | None,
    words: torch.Tensor | None,
    extras: Sequence[torch.Tensor],
    out: torch.Tensor,
) -> None:
    """Add what the kernel measures of every entry to `out`, float64 (1, M)."""
    ground = None if base is None else base.float()
    measured = kernel(_values(ground, parents, given), numbers, column, words, extras)
    out += torch.stack([part.sum(dtype=torch.float64) for part in measured])  # one by one they would not fuse


# ---------------------------------------------------------------- compiled


def compiled(work: Work, kernel: Any, given: tuple[bool, ...], it: Operands, out: torch.Tensor) -> None:
    """The same by a compiled loop over any number of rows. Raises NotCompiled."""
    tensors = [it.base, *it.parents, *it.extras, out]
    kinds = tuple(None if t is None else (t.dtype, t.shape[-1], t.shape[0] == 1) for t in tensors)
    _loop(work, kernel, given, kinds, out.device.type, torch.get_num_threads())(it, out)


@cache
def _loop(
    work: Work, kernel: Any, given: tuple[bool, ...], kinds: tuple[Any, ...], device: str, threads: int
) -> Callable[[Operands, torch.Tensor], None]:
    """One compiled function for each kind of operands: the number of rows is dynamic, all else is fixed."""
    assert isinstance(work, FunctionType)
    code = work.__code__.replace(co_name=f"{work.__name__}_{type(kernel).__name__}")  # its own cache of compilations
    function = torch.compile(FunctionType(code, work.__globals__), dynamic=False, options=OPTIONS)
    state = {"new": True}

    def run(it: Operands, out: torch.Tensor) -> None:
        try:
            if state.pop("new", False):
                _mark(it, out)
            function(kernel, given, *it, out)
        except Exception as e:  # of many kinds: no compiler, no headers, a broken cache
            if isinstance(e, torch.OutOfMemoryError):
                raise
            log.warning("compiling failed, merging goes on without (%s: %s)", type(e).__name__, str(e).split("\n")[0])
            _failed.add(device)
            raise NotCompiled from e

    return run


def _mark(it: Operands, out: torch.Tensor) -> None:
    for tensor in (it.base, *it.parents, *it.extras, out):
        if tensor is not None and tensor.shape[0] > 1:  # a row of numbers for all has one
            torch._dynamo.mark_dynamic(tensor, 0)
    if it.words is not None:
        torch._dynamo.mark_dynamic(it.words, 1)


#: Kinds of devices for which compiling failed in this process.
_failed: set[str] = set()


def possible(device: str, dtypes: Collection[torch.dtype] = ()) -> bool:
    """Whether loops can be compiled for this kind of device, of tensors of these dtypes."""
    both = torch.bfloat16 in dtypes and torch.float16 in dtypes  # inductor warns of the two in one loop
    return not both and device not in _failed and _equipped(device)


@cache
def _equipped(device: str) -> bool:
    """Whether there is a compiler: one for C++, or triton on a GPU."""
    if device == "cuda":
        from torch.utils._triton import has_triton

        return bool(has_triton())
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        return device == "cpu" and bool(get_cpp_compiler())
    except Exception:  # inductor's own error classes differ between versions
        return False
