"""The models that items are calibrated on: distinct rows of answers, their cutoffs and their dispersion."""

from __future__ import annotations

import numpy as np

from evomerge.estimators.units import Units
from evomerge.items import ItemBank

#: Bounds of the dispersion: fractions spread less than bits, never more.
_LEAST, _MOST = 0.05, 1.0


def distinct(bank: ItemBank, units: Units) -> tuple[np.ndarray, list[int]]:
    """float64 (M, N) scaled answers of distinct models of bank order, and which of them are endpoints.

    Tasks that are not logistic are NaN; a model without any answer left is dropped.
    """
    places: dict[bytes, int] = {}
    kept: list[np.ndarray] = []
    endpoints: set[int] = set()
    logistic = np.array(units.logistic, dtype=bool)[bank.task]
    others = [*bank.leaderboard, *bank.designs]
    for number, row in enumerate([*others, *bank.endpoints]):
        scaled = np.where(logistic & np.isfinite(row), units.scaled(row, bank.task), np.nan) + 0.0  # no -0.0
        if np.isnan(scaled).all():
            continue
        place = places.setdefault(scaled.tobytes(), len(kept))
        if place == len(kept):
            kept.append(scaled)
        if number >= len(others):
            endpoints.add(place)
    return np.array(kept).reshape(len(kept), bank.size), sorted(endpoints)


def cutoffs(answers: np.ndarray, bank: ItemBank) -> np.ndarray:
    """float64 (T,): the c of 100 in [0.01, 0.99] with the least mean_m |mean_i 1[y > c] - mean_i y|."""
    grid = np.linspace(0.01, 0.99, 100)
    best = np.full(len(bank.tasks), 0.5)
    for task in range(len(bank.tasks)):
        columns = answers[:, bank.places(task)]
        asked = ~np.isnan(columns)
        columns, counts = columns[asked.any(1)], asked[asked.any(1)].sum(1)
        if len(columns):
            lost = [np.abs((columns > c).sum(1) - np.nansum(columns, 1)) / counts for c in grid]
            best[task] = grid[np.argmin(np.mean(lost, axis=1))]
    return best


def dispersion(answers: np.ndarray, probabilities: np.ndarray, bank: ItemBank) -> np.ndarray:
    """float64 (T,): mean of (y - p)^2 / (p (1 - p)), clipped; 1 where all answers are bits."""
    ratios = (answers - probabilities) ** 2 / (probabilities * (1 - probabilities))
    return np.array([_spread(answers[:, at], ratios[:, at]) for at in map(bank.places, range(len(bank.tasks)))])


def _spread(answers: np.ndarray, ratios: np.ndarray) -> float:
    asked = ~np.isnan(answers)
    if np.isin(answers[asked], (0.0, 1.0)).all():
        return _MOST
    return float(np.clip(ratios[asked].mean(), _LEAST, _MOST))
