"""Candidates that answer far worse than any usual one: collapsed merges, of which a model of merges must not learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, expit, logit

#: One-sided chance of so few right answers below which a candidate counts as a misfit.
_CHANCE = 1e-4
#: Nodes and weights for the mean over a normal distribution.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(41)
_PRIOR_N, _PRIOR_SD = 3.0, 1.0


@dataclass(frozen=True)
class Levels:
    """How candidates differ from what is expected of the items they answered: normal on the scale of log-odds."""

    centre: float
    sd: float


def levels_of(expected: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> Levels:
    """Median and median absolute deviation, so that up to half of the candidates may have collapsed.

    expected: per candidate the chances float64 (n,) of its items; right: its answers in [0, 1]. The spread is drawn
    towards 1 by the weight of three candidates.
    """
    found = [_level(p, y) for p, y in zip(expected, right, strict=True) if len(y)]
    if not found:
        return Levels(0.0, _PRIOR_SD)
    levels, noise = np.array(found).T
    centre = float(np.median(levels))
    spread = (1.4826 * np.median(np.abs(levels - centre))) ** 2 - np.median(noise)  # of the levels themselves
    n = len(levels)
    variance = (n * max(float(spread), 0.0) + _PRIOR_N * _PRIOR_SD**2) / (n + _PRIOR_N)
    return Levels(centre, float(np.sqrt(variance)))


def collapsed(expected: np.ndarray, right: np.ndarray, levels: Levels) -> bool:
    """Whether the number of right answers, fractions rounded up, is too low to be one of the usual candidates."""
    if len(right) == 0:
        return False
    chances = expit(logit(_clipped(expected.mean())) + levels.centre + levels.sd * _NODES)
    below = bdtr(np.ceil(right.sum() - 1e-9), len(right), chances)  # exact binomial distribution function
    return bool(_WEIGHTS @ below / _WEIGHTS.sum() < _CHANCE)


def _level(expected: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Log-odds of the share of right answers less that of the expected share, and its sampling variance."""
    n = len(right)
    share = (right.sum() + 0.5) / (n + 1)
    return float(logit(share) - logit(_clipped(expected.mean()))), float(1 / ((n + 1) * share * (1 - share)))


def _clipped(share: float) -> float:
    return min(max(share, 1e-3), 1 - 1e-3)
