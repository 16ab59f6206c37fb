"""Fronts of several goals: which points are non-dominated, what volume they cover, which one to take.

Everywhere `values` is float64 (n, m), n points by m goals, all maximised. A front of estimates is optimistic: of many
noisy points the lucky ones look non-dominated. What is to be believed is a front of a few that were scored anew.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_DECIMALS = 12  # sums of normalised goals differ beyond that by rounding alone


def non_dominated(values: np.ndarray, violation: Sequence[float] | np.ndarray | None = None) -> np.ndarray:
    """int64, ascending: points that none is as good as in every goal and better than in one; equal points all stay.

    violation: float64 (n,), 0 for a feasible point. Only those of the least violation are compared (Deb et al. 2002,
    doi:10.1109/4235.996017): all feasible ones, or, if there are none, those that break constraints least.
    """
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    places = np.arange(len(values))
    if violation is not None and len(values):
        broken = np.asarray(violation, dtype=np.float64)
        places = np.flatnonzero(broken == broken.min())
    if not len(places):
        return places
    found = NonDominatedSorting().do(-np.asarray(values)[places], only_non_dominated_front=True)
    return np.sort(places[found])


def hypervolume(values: np.ndarray, reference: np.ndarray) -> float:
    """The volume between `reference`, float64 (m,), and the points; one not above it in every goal adds nothing.

    Zitzler & Thiele 1998, PPSN V. 0 for no points.
    """
    from pymoo.indicators.hv import HV

    above = np.asarray(values)[(np.asarray(values) > reference).all(axis=1)]
    return float(HV(ref_point=-np.asarray(reference, dtype=np.float64))(-above)) if len(above) else 0.0


def knee(values: np.ndarray) -> int:
    """The point of a front where gaining in one goal costs most in the others.

    With every goal scaled to [0, 1] over the front, it lies furthest above the plane on which the goals sum up to 1:
    for two goals, the line through the extremes (Das 1999, Structural Optimization 18). Among equals, as in a front of
    two points, the best sum as measured wins, then the first.
    """
    values = np.asarray(values, dtype=np.float64)
    height = scaled(values).sum(axis=1).round(_DECIMALS)
    return min(range(len(values)), key=lambda i: (-height[i], -round(float(values[i].sum()), _DECIMALS), i))


def scaled(values: np.ndarray) -> np.ndarray:
    """float64 (n, m): each goal from 0, its lowest, to 1, its highest; 0 in a goal that all share."""
    low, spread = values.min(axis=0), np.ptp(values, axis=0)
    return np.asarray((values - low) / np.where(spread > 0, spread, 1.0))


def preferred(values: np.ndarray, weights: Sequence[float] | np.ndarray) -> int:
    """The point with the largest weighted sum of goals; the first among equals. weights: float64 (m,)."""
    return int(np.argmax((np.asarray(values) @ np.asarray(weights, dtype=np.float64)).round(_DECIMALS)))


def thinned(values: np.ndarray, size: int) -> np.ndarray:
    """int64, ascending: `size` points of a front that stand for it, or all if there are no more.

    The best in each goal first (the knee before them, if there is no room for all), then one by one what adds most
    hypervolume above the lowest values of the front (greedily, as Guerreiro, Fonseca & Paquete
    2016, Evolutionary Computation 24(3)); the first among equals.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) <= size:
        return np.arange(len(values))
    extremes = list(dict.fromkeys(map(int, values.argmax(axis=0))))
    kept = extremes if len(extremes) <= size else list(dict.fromkeys([knee(values), *extremes]))[:size]
    while len(kept) < size:
        kept.append(_most_added(values, kept))
    return np.sort(kept)


def _most_added(values: np.ndarray, kept: Sequence[int]) -> int:
    low = values.min(axis=0)
    others = [i for i in range(len(values)) if i not in kept]
    return max(others, key=lambda i: hypervolume(values[[*kept, i]], low))
