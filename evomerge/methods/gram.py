"""Inner products of the parents' entries: of whole tensors, of rows and of columns, each learned in one pass.

With them norms and angles of any sum of the parents cost nothing, so that a method that needs no more is a sum with
coefficients. All is in float64, for the angle of two parents that are all but the same is lost in float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from evomerge.errors import MergeError
from evomerge.methods.entries import Entries

#: A sum of unit vectors shorter than this has no direction: its length, a root, is the rounding of inner products.
NOISE = 1e-7


def gram(entries: Entries) -> np.ndarray:
    """float64 (P, P): inner products of whole tensors. All here raise MergeError for NaN or infinite entries."""
    total = torch.zeros(entries.parents, entries.parents, dtype=torch.float64, device=entries.device)
    for block in _blocks(entries, 1):
        flat = block.flatten(1)  # (P, entries)
        total += flat @ flat.T
    return _finite(total).cpu().numpy()


def row_grams(entries: Entries) -> torch.Tensor:
    """float64 (rows, P, P), on the entries' device: inner products of each row along the last dimension."""
    blocks = _blocks(entries, entries.width)
    return _finite(torch.cat([rows @ rows.transpose(1, 2) for rows in (b.transpose(0, 1) for b in blocks)]))


def column_grams(entries: Entries) -> torch.Tensor:
    """float64 (columns, P, P), on the entries' device: of each vector along the first dimension."""
    width = math.prod(entries.shape[1:])
    total = torch.zeros(entries.parents, entries.parents, width, dtype=torch.float64, device=entries.device)
    for block in _blocks(entries, width):
        product = torch.empty_like(block[0])
        for i in range(entries.parents):
            for j in range(i, entries.parents):
                total[i, j] += torch.mul(block[i], block[j], out=product).sum(0)
    grams = total.permute(2, 0, 1)
    return _finite(grams.triu() + grams.triu(1).transpose(1, 2))


def dots(coefficients: Sequence[float], products: Sequence[Sequence[float]]) -> list[float]:
    """Inner products of sum_k c_k v_k with each v, from those of the v: (P,) and (P, P).

    Plain numbers, as all that is done once per tensor and candidate: for a few parents arrays take ten times as long.
    """
    return [sum(c * x for c, x in zip(coefficients, row, strict=True)) for row in products]


def length(coefficients: Sequence[float], products: Sequence[Sequence[float]]) -> float:
    """Norm of sum_k c_k v_k."""
    square = sum(c * x for c, x in zip(coefficients, dots(coefficients, products), strict=True))
    return math.sqrt(max(0.0, square))


def _blocks(entries: Entries, width: int) -> Iterator[torch.Tensor]:
    """float64 (P, rows, width), in one buffer that the next block overwrites: new memory would cost as much again."""
    buffer = torch.empty(0)
    for _, values in entries.blocks(width):
        n = len(values[0])
        if not buffer.numel():  # the first block is the largest
            buffer = torch.empty(len(values), n, dtype=torch.float64, device=entries.device)
        for k, value in enumerate(values):
            buffer[k, :n].copy_(value)
        yield buffer[:, :n].view(len(values), -1, width)


def _finite(products: torch.Tensor) -> torch.Tensor:
    """The inner products (..., P, P), if they are: a product with oneself shows every bad entry."""
    squares = products.diagonal(dim1=-2, dim2=-1)
    good = squares.isfinite().reshape(-1, squares.shape[-1]).all(0).tolist()
    if not all(good):
        raise MergeError(
            f"parent {good.index(False) + 1} of {len(good)} has NaN or infinite entries in this tensor: they have no "
            "angle. Repair its checkpoint, or drop it."
        )
    return products
