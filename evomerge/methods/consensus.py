"""How several parents become one: weighted sum, or the agreeing entries after electing a sign (arXiv:2306.01708).

Everything here is elementwise and adds in parent order, one operation at a time: a reduction over the parents'
dimension may change its order with the shape, and then a slice would differ from the slice of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


def weighted_sum(values: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """sum_k weights[k] * values[k]. values: P tensors of one shape, float32."""
    total = values[0] * weights[0]
    for value, weight in zip(values[1:], weights[1:], strict=True):
        total += value * weight
    return total


def elect_signs(weighted: Sequence[torch.Tensor]) -> torch.Tensor:
    """Sign of the sum, +1 or -1 in float32; a sum of zero elects +1, as mergekit's does (Algorithm 1, elect).

    The paper's code gives such entries the sign most frequent in the whole model instead.
    """
    total = sum(weighted[1:], weighted[0])  # in parent order
    return (total >= 0).to(total.dtype) * 2 - 1


def disjoint_sum(deltas: Sequence[torch.Tensor], weights: Sequence[float], *, normalize: bool) -> torch.Tensor:
    """Sum of the weighted deltas that have the elected sign (Algorithm 1, disjoint merge); zeros never have it.

    With `normalize`, each entry is divided by the sum of the signed weights of those who agree there, unless that
    sum is exactly 0. The paper takes the plain mean of the agreeing entries, which is the same for equal weights.
    A NaN in any parent reaches the result.
    """
    weighted = [delta * weight for delta, weight in zip(deltas, weights, strict=True)]
    signs = elect_signs(weighted)
    total, divisor = torch.zeros_like(signs), torch.zeros_like(signs)
    for delta, weight in zip(weighted, weights, strict=True):
        agrees = delta.sign() == signs
        total += delta * agrees
        divisor += agrees * weight
    return total / divisor.masked_fill(divisor == 0, 1.0) if normalize else total
