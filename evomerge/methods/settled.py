"""What a method says of one tensor of one candidate: stages that run on every entry, and their numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch


class Kernel(Protocol):
    """The stages of a method as one elementwise function, a frozen dataclass: equal kernels are compiled once.

    Called with float32 `values`, P tensors of one shape (parents, or parents minus base) that it may overwrite;
    `numbers`, float32 (M, P); `column` and `words`, which `masks` turns into random numbers, None unless `random`; and
    `extras`, tensors that broadcast to the shape. Returns float32 of that shape, in memory that is nobody else's: the
    base is added to it where there is one. It may use each entry's own values alone, by torch operations whose results
    do not depend on the shape: then any slice has the bits of the whole, compiled or not.
    """

    @property
    def random(self) -> bool: ...

    def __hash__(self) -> int: ...

    def __call__(
        self,
        values: Sequence[torch.Tensor],
        numbers: torch.Tensor,
        column: torch.Tensor | None,
        words: torch.Tensor | None,
        extras: Sequence[torch.Tensor],
    ) -> torch.Tensor: ...


class Measure(Protocol):
    """A kernel that leaves its values alone and returns M tensors, to be added up over all entries of a tensor."""

    @property
    def random(self) -> bool: ...

    def __hash__(self) -> int: ...

    def __call__(
        self,
        values: Sequence[torch.Tensor],
        numbers: torch.Tensor,
        column: torch.Tensor | None,
        words: torch.Tensor | None,
        extras: Sequence[torch.Tensor],
    ) -> Sequence[torch.Tensor]: ...


@dataclass(frozen=True, eq=False)
class Settled:
    """A kernel and its inputs for one tensor.

    numbers: M rows of one number per parent. gain: the result, and all that is added up on the way to it, is at most
    gain times the largest |value| of any parent; inf if that is not known. extras: tensors over the tensor seen as
    (rows, width): all entries, one per row (rows, 1) or one per column (1, width).
    """

    kernel: Kernel
    numbers: tuple[tuple[float, ...], ...]
    gain: float = math.inf
    extras: tuple[torch.Tensor, ...] = ()
    width: int = 0
