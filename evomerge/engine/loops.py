"""The functions of `fused`, each compiled into one loop over any number of rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from functools import cache, partial
from types import FunctionType
from typing import Any, TypeAlias, cast

import torch

from evomerge.engine.fused import Operands, Work

#: All stages in one loop: without these, inductor stores what several stages read, as float32 copies of whole tensors.
OPTIONS: dict[str, Any] = dict.fromkeys(
    ("realize_opcount_threshold", "realize_reads_threshold", "realize_acc_reads_threshold"), 1 << 20
)
Call: TypeAlias = Callable[[], Any]
log = logging.getLogger(__name__)


class NotCompiled(Exception):
    """A loop could not be compiled; what it was to write may be half written."""


def compiled(work: Work, kernel: Any, given: tuple[bool, ...], it: Operands, out: torch.Tensor) -> None:
    """Do `merge` or `add_up` by a compiled loop, two rows or more. Raises NotCompiled."""
    _loop_of(work, kernel, given, it, out)(it, out)


def bound(work: Work, kernel: Any, given: tuple[bool, ...], it: Operands, out: torch.Tensor) -> Call | None:
    """The same as a call to be made once, of code that is there already; None if it is not."""
    return _loop_of(work, kernel, given, it, out).bound(it, out)


def _loop_of(work: Work, kernel: Any, given: tuple[bool, ...], it: Operands, out: torch.Tensor) -> Loop:
    kinds = (it.kinds(), out.dtype, out.shape[-1], out.device.type, torch.get_num_threads())
    return _loop(work, kernel, given, *kinds)


class Loop:
    """A compiled function of operands of one kind: the number of rows is dynamic, all else is fixed.

    torch.compile looks in every call for the code that suits what it is given, which takes longer than a small tensor
    does. Operands of one kind all suit, so from the second call on its code is called as it stands.
    """

    def __init__(self, work: Work, kernel: Any, given: tuple[bool, ...]) -> None:
        assert isinstance(work, FunctionType)
        # code of another name: torch.compile keeps what it compiled, and counts how often, by code
        code = work.__code__.replace(co_name=f"{work.__name__}_{type(kernel).__name__}")
        function = FunctionType(code, work.__globals__, argdefs=work.__defaults__)
        self._function = torch.compile(function, dynamic=False, backend=self._backend)
        self._fixed = (kernel, given)
        self._code: Callable[[list[Any]], Any] | None = None
        self._seen: list[tuple[Callable[[list[Any]], Any], Sequence[Any]]] = []
        self._order: list[int] = []

    def __call__(self, it: Operands, out: torch.Tensor) -> None:
        ready = self.bound(it, out)
        if ready is not None:
            ready()
            return
        try:
            self._first(it, _flat(it, out))
        except Exception as e:  # of many kinds: no compiler, no headers, a broken cache
            if isinstance(e, torch.OutOfMemoryError):
                raise
            log.warning("compiling failed, merging goes on without (%s: %s)", type(e).__name__, str(e).split("\n")[0])
            _failed.add(it.parents[0].device.type)
            raise NotCompiled from e

    def bound(self, it: Operands, out: torch.Tensor) -> Call | None:
        """The call of the code, to be made once; None before the first call."""
        if self._code is None:
            return None
        tensors, rows = _flat(it, out), it.parents[0].shape[0]
        return partial(self._code, [rows if place < 0 else tensors[place] for place in self._order])

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
        from torch._functorch import config
        from torch._inductor.compile_fx import compile_fx  # takes seconds to import

        with config.patch(enable_autograd_cache=False):  # it would not call `_inner`; inductor's own cache stays
            code = compile_fx(graph, examples, inner_compile=self._inner, config_patches=OPTIONS)
        return cast("Callable[..., Any]", code)

    def _inner(self, *given: Any, **settings: Any) -> Any:
        """Inductor's code, which tells what it is called with."""
        from torch._inductor.compile_fx import compile_fx_inner

        found: Any = compile_fx_inner(*given, **settings)
        code = getattr(found, "current_callable", None)  # no interface of torch's: without it calls take longer
        if code is None:
            return found

        def call(flat: list[Any]) -> Any:
            self._seen.append((code, list(flat)))
            return code(flat)

        found.current_callable = call
        return found


#: One loop for each work, kernel, kind of operands and of output, device and number of threads.
_loop = cache(lambda work, kernel, given, *kinds: Loop(work, kernel, given))


def _flat(it: Operands, out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    return (it.base, *it.parents, it.numbers, it.column, it.words, *it.extras, out)


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
