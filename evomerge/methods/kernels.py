"""The elementwise stages of all methods: sums with coefficients, and the consensus family.

Everything adds in parent order, one operation at a time: a reduction over the parents' dimension may change its order
with the shape, and then a slice would differ from the slice of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from evomerge.methods.masks import END, entry_words, is_below, tie_word

Values = Sequence[torch.Tensor]
Optional = torch.Tensor | None


@dataclass(frozen=True)
class Sum:
    """sum_k c[k] values[k]. numbers: c; or with `extras` P coefficients that broadcast, one per row or column."""

    random: bool = False

    def __call__(
        self, values: Values, numbers: torch.Tensor, column: Optional, words: Optional, extras: Values
    ) -> torch.Tensor:
        each = extras or numbers[0]
        total = values[0].mul_(each[0])
        for k in range(1, len(values)):
            total.add_(values[k].mul_(each[k]))
        return total


@dataclass(frozen=True)
class Consensus:
    """Sparsify, rescale, elect, aggregate: TIES, DARE, DELLA, breadcrumbs and all their crosses.

    sparsify: "all" entries are kept; the "largest" in magnitude; the "middle", without the very largest; "random" ones;
    or random ones whose probability is linear in a rank ("ranked", extras: P tensors of ranks). ties: whether entries
    as large as the cut are split by their words. inverse: divide by that probability. elect: keep only entries of the
    sign that the weighted sum has; a sum of zero elects plus, as in mergekit. normalize: divide by the signed weights
    of those who agree, unless they sum to 0.

    numbers: rows COEFFICIENT (weight times factor), WEIGHT, SCALE (of the result), then those of the sparsifier: CUT
    (three rows, `Cut.numbers`), and for "middle" UPPER (three more); or BELOW, and for "ranked" SLOPE.
    """

    sparsify: Literal["all", "largest", "middle", "random", "ranked"] = "all"
    ties: bool = False
    inverse: bool = False
    elect: bool = False
    normalize: bool = False

    @property
    def random(self) -> bool:
        return self.ties or self.sparsify in ("random", "ranked")

    def __call__(
        self, values: Values, numbers: torch.Tensor, column: Optional, words: Optional, extras: Values
    ) -> torch.Tensor:
        kept = self._kept(values, numbers, column, words, extras)
        if not self.elect:
            return summed(kept) * numbers[SCALE, 0]
        weights = [numbers[WEIGHT, k] for k in range(len(values))] if self.normalize else None
        return agreed(kept, summed(kept) >= 0, weights) * numbers[SCALE, 0]

    def _kept(
        self, values: Values, numbers: torch.Tensor, column: Optional, words: Optional, extras: Values
    ) -> list[torch.Tensor]:
        """The weighted survivors."""
        weighted = [v * numbers[COEFFICIENT, k] for k, v in enumerate(values)]
        if self.sparsify == "all":
            return weighted
        if self.sparsify in ("largest", "middle"):
            word = self._tie_word(column, words)
            masks = [self._within(v, numbers[:, k], word) for k, v in enumerate(values)]
            return [torch.where(m, w, 0.0) for m, w in zip(masks, weighted, strict=True)]
        drawn = entry_words(column, words, len(values))
        if self.sparsify == "random":
            return [
                torch.where(is_below(u, numbers[BELOW, k]), w, 0.0)
                for k, (u, w) in enumerate(zip(drawn, weighted, strict=True))
            ]
        limits = [numbers[BELOW, k] + numbers[SLOPE, k] * rank for k, rank in enumerate(extras)]
        if self.inverse:  # a limit L stands for the probability (L / END + 1) / 2
            weighted = [w / (limit.clamp(max=END) * HALF + 0.5) for w, limit in zip(weighted, limits, strict=True)]
        return [torch.where(u.float() < limit, w, 0.0) for u, limit, w in zip(drawn, limits, weighted, strict=True)]

    def _tie_word(self, column: Optional, words: Optional) -> Optional:
        if not self.ties:
            return None
        assert column is not None and words is not None
        return tie_word(column, words[0])

    def _within(self, value: torch.Tensor, numbers: torch.Tensor, word: Optional) -> torch.Tensor:
        size = value.abs()
        large = reaches(size, numbers[CUT : CUT + 3], word)
        return large if self.sparsify == "largest" else large & ~reaches(size, numbers[UPPER : UPPER + 3], word)


COEFFICIENT, WEIGHT, SCALE, CUT, BELOW, SLOPE, UPPER = 0, 1, 2, 3, 3, 4, 6
HALF = 0.5 / END


def summed(values: Values) -> torch.Tensor:
    """The sum, in the order of the parents."""
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def agreed(
    values: Values, plus: torch.Tensor, weights: Values | None = None, least: float | None = None
) -> torch.Tensor:
    """Sum of the values that have the elected sign, `plus` or minus; over the weights of those who have it, if given.

    Zeros agree with nobody. Weights that add up to 0 divide by 1, or all sums by `least` at least.
    """
    sign = torch.where(plus, 1.0, -1.0).float()  # where() takes torch's default dtype
    turned = [v * sign for v in values]
    apart = [v <= 0 for v in turned]  # not so a NaN: it stays
    total = summed([torch.where(a, 0.0, v) for a, v in zip(apart, turned, strict=True)]) * sign
    if weights is None:
        return total
    divisor = summed([torch.where(a, 0.0, w) for a, w in zip(apart, weights, strict=True)])
    return total / (torch.where(divisor == 0, 1.0, divisor) if least is None else divisor.clamp(min=least))


def reaches(size: torch.Tensor, cut: torch.Tensor, word: Optional) -> torch.Tensor:
    """Whether a magnitude is above the cut, or equal and its word says so. cut: magnitude, the next one, word."""
    return size >= (cut[0] if word is None else torch.where(is_below(word, cut[2]), cut[0], cut[1]))
