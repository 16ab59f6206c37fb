"""A kernel with everything around it as one function of stored entries: compiled into one loop, or run in blocks.

Both give the same bits on a CPU, for a kernel adds and multiplies in a fixed order and compilers may not fuse the two.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cache
from itertools import repeat
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

    def split(self, rows: int) -> Iterator[Operands]:
        """The same, so many rows at a time."""
        each = (_split(tensor, rows) for tensor in (self.base, *self.parents, self.column, *self.extras))
        words = repeat(self.words) if self.words is None or self.words.shape[1] == 1 else self.words.split(rows, dim=1)
        n = len(self.parents)
        for word, base, *others in zip(words, *each, strict=False):  # what is the same for all has no end
            yield Operands(base, others[:n], self.numbers, others[n], word, others[n + 1 :])

    def kinds(self) -> tuple[Any, ...]:
        """What is the same for operands that differ in the number of rows alone, two or more."""
        dtypes = [parent.dtype for parent in self.parents]
        extras = [(extra.dtype, extra.shape[-1], extra.shape[0] == 1) for extra in self.extras]
        return (self.parents[0].shape[-1], None if self.base is None else self.base.dtype, *dtypes, *extras)


def _split(tensor: torch.Tensor | None, rows: int) -> Iterable[torch.Tensor | None]:
    """Rows together; what is one row for all, every time."""
    whole = tensor is None or tensor.dim() == 1 or tensor.shape[0] == 1
    return repeat(tensor) if whole or tensor is None else tensor.split(rows)


class NotCompiled(Exception):
    """A loop could not be compiled; what it was to write may be half written."""


def eager(work: Work, kernel: Any, given: tuple[bool, ...], it: Operands, out: torch.Tensor) -> None:
    """Do `merge` or `add_up` a few rows at a time. given: which of the parents are differences already."""
    n, columns = it.parents[0].shape
    blocks = round(n * columns / BLOCK.get(out.device.type, LARGE_BLOCK)) or 1  # no short one at the end
    step = max(1, -(-n // blocks))
    if step >= n:
        work(kernel, given, *it, out)
        return
    parts = out.split(step) if work is merge else repeat(out)
    for rows, part in zip(it.split(step), parts, strict=False):
        work(kernel, given, *rows, part)


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
    out.copy_(merged if ground is None else merged.add_(ground))


def _values(
    ground: torch.Tensor | None, parents: Sequence[torch.Tensor], given: tuple[bool, ...]
) -> list[torch.Tensor]:
    """Float32 copies of the parents, or their differences: a kernel may overwrite them. Compiled loops copy nothing."""
    return [_value(p, None if is_delta else ground) for p, is_delta in zip(parents, given, strict=True)]


def _value(stored: torch.Tensor, ground: torch.Tensor | None) -> torch.Tensor:
    if ground is not None and stored.dtype == torch.float32:
        return stored - ground
    value = stored.to(torch.float32, copy=True)
    return value if ground is None else value.sub_(ground)


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
    """The same by a compiled loop over any number of rows, two or more. Raises NotCompiled."""
    _loop(work, kernel, given, it.kinds(), out.dtype, out.shape[-1], out.device.type, torch.get_num_threads())(it, out)


class Loop:
    """A compiled function of operands of one kind: the number of rows is dynamic, all else is fixed.

    torch.compile looks in every call for the code that suits what it is given, which takes longer than a small tensor
    does. Operands of one kind all suit, so from the second call on its code is called as it stands.
    """

    def __init__(self, work: Work, kernel: Any, given: tuple[bool, ...]) -> None:
        assert isinstance(work, FunctionType)
        code = work.__code__.replace(
            co_name=f"{work.__name__}_{type(kernel).__name__}"
        )  # its own cache of compilations
        self._function = torch.compile(FunctionType(code, work.__globals__), dynamic=False, backend=self._backend)
        self._fixed = (kernel, given)
        self._code: Callable[..., Any] | None = None
        self._seen: list[tuple[Callable[..., Any], Sequence[Any]]] = []
        self._order: list[int] = []

    def __call__(self, it: Operands, out: torch.Tensor) -> None:
        tensors = (it.base, *it.parents, it.numbers, it.column, it.words, *it.extras, out)
        if self._code is not None:
            rows = it.parents[0].shape[0]
            self._code(*[rows if place < 0 else tensors[place] for place in self._order])
            return
        try:
            self._first(it, tensors)
        except Exception as e:  # of many kinds: no compiler, no headers, a broken cache
            if isinstance(e, torch.OutOfMemoryError):
                raise
            log.warning("compiling failed, merging goes on without (%s: %s)", type(e).__name__, str(e).split("\n")[0])
            _failed.add(it.parents[0].device.type)
            raise NotCompiled from e

    def _first(self, it: Operands, tensors: Sequence[torch.Tensor | None]) -> None:
        _mark(it, tensors)
        self._seen = []
        self._function(*self._fixed, *it, tensors[-1])
        if len(self._seen) == 1:  # else it was not compiled as one
            code, flat = self._seen[0]
            self._order = _places(flat, tensors)
            self._code = code if self._order else None
        self._seen = []

    def _backend(self, graph: Any, examples: Any) -> Callable[..., Any]:
        from torch._inductor.compile_fx import compile_fx  # takes seconds to import

        code = compile_fx(graph, examples, config_patches=OPTIONS)

        def call(*flat: Any) -> Any:
            self._seen.append((code, flat))
            return code(*flat)

        return call


#: One loop for each work, kernel, kind of operands and of output, device and number of threads.
_loop = cache(lambda work, kernel, given, *kinds: Loop(work, kernel, given))


def _places(flat: Sequence[Any], tensors: Sequence[torch.Tensor | None]) -> list[int]:
    """Which of the tensors compiled code was given, -1 for the number of rows; none if that cannot be told."""
    places = {id(tensor): i for i, tensor in enumerate(tensors) if tensor is not None}
    if len(places) < sum(tensor is not None for tensor in tensors):  # one stands twice, and might not the next time
        return []
    found = [-1 if isinstance(given, int) else places.get(id(given)) for given in flat]
    return [] if None in found else [place for place in found if place is not None]


def _mark(it: Operands, tensors: Sequence[torch.Tensor | None]) -> None:
    fixed = {id(it.numbers), id(it.words)}
    for tensor in tensors:
        if tensor is not None and id(tensor) not in fixed and tensor.dim() > 1 and tensor.shape[0] > 1:
            torch._dynamo.mark_dynamic(tensor, 0)  # what has one row has numbers for all
    if it.words is not None and it.words.shape[1] > 1:
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
