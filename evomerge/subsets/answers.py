"""What is known of items from the models that answered them: chance of a right answer, spread between models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evomerge.items import ItemBank


@dataclass(frozen=True, eq=False)
class Units:
    """Per task the oriented scores that become 0 and 1. low, high: float64 (T,), low < high.

    bounded: bool (T,), whether scores between them are shares of a right answer, so that their mean tells a spread.
    """

    low: np.ndarray
    high: np.ndarray
    bounded: np.ndarray


def units_of(bank: ItemBank) -> Units:
    """[0, 1], or [-1, 0] where lower is better; if the endpoints lie beyond, their least and largest score."""
    found = [_of_task(bank, task) for task in range(len(bank.tasks))]
    low, high, bounded = (np.array(column) for column in zip(*found, strict=True)) if found else (np.zeros(0),) * 3
    return Units(low, high, bounded.astype(bool))


def _of_task(bank: ItemBank, task: int) -> tuple[float, float, bool]:
    metric, scores = bank.metrics[task], bank.endpoints[:, bank.places(task)]
    known = scores[np.isfinite(scores)]
    low, high = (0.0, 1.0) if metric.higher_is_better else (-1.0, 0.0)
    if len(known) == 0 or (known.min() >= low and known.max() <= high):
        return low, high, metric.kind == "mean"
    low, high = float(known.min()), float(known.max())
    return (low, high, False) if low < high else (low - 0.5, high + 0.5, False)


def scaled(bank: ItemBank, answers: np.ndarray) -> np.ndarray:
    """Oriented scores (M, N) as float64 in [0, 1], NaN where there is no finite one."""
    units = units_of(bank)
    low, high = units.low[bank.task], units.high[bank.task]
    finite = np.where(np.isfinite(answers), answers, np.nan)
    return np.asarray(np.clip((finite - low) / (high - low), 0.0, 1.0) + 0.0)  # + 0.0: no -0.0


def prior(bank: ItemBank) -> np.ndarray:
    """float64 (N,) in [0, 1]: chance of a right answer, the mean of the endpoints and of one answer of `_expected`."""
    endpoints = scaled(bank, bank.endpoints)
    asked = np.isfinite(endpoints).sum(0)
    return np.asarray((np.nansum(endpoints, axis=0) + _expected(bank, endpoints)) / (asked + 1))


def _expected(bank: ItemBank, endpoints: np.ndarray) -> np.ndarray:
    """float64 (N,): the leaderboard's mean of an item; else the endpoints' mean of its task; else 1/2."""
    level = _means(np.bincount(bank.task, np.nansum(endpoints, axis=0)), _known_per_task(bank, endpoints), 0.5)
    others = scaled(bank, bank.leaderboard)
    return _means(np.nansum(others, axis=0), np.isfinite(others).sum(0), level[bank.task])


def _known_per_task(bank: ItemBank, answers: np.ndarray) -> np.ndarray:
    return np.bincount(bank.task, np.isfinite(answers).sum(0))


def _means(sums: np.ndarray, counted: np.ndarray, otherwise: np.ndarray | float) -> np.ndarray:
    return np.where(counted > 0, sums / np.maximum(counted, 1), otherwise)


def deviations(bank: ItemBank) -> np.ndarray:
    """float64 (N,) >= 0: how far models' answers to an item lie apart, in units of their task.

    That of a bit of the prior's chance; where scores have no bounds, or are sums of log-likelihoods ("pairs"), the
    endpoints' standard deviation.
    """
    p, bounded = prior(bank), units_of(bank).bounded[bank.task]
    return np.where(bounded, np.sqrt(p * (1 - p)), _between(scaled(bank, bank.endpoints)))


def _between(answers: np.ndarray) -> np.ndarray:
    """float64 (N,): standard deviation of the answers (K, N) that are there, 0 for fewer than two."""
    known = np.isfinite(answers)
    asked = np.maximum(known.sum(0), 1)
    filled = np.where(known, answers, 0.0)
    centred = np.where(known, filled - filled.sum(0) / asked, 0.0)
    return np.asarray(np.sqrt((centred**2).sum(0) / asked))


def distinct(bank: ItemBank) -> tuple[np.ndarray, np.ndarray]:
    """float64 (M, N), scaled answers of all models that gave any, copies once; and which of them are endpoints."""
    rows = scaled(bank, np.vstack([bank.leaderboard, bank.designs, bank.endpoints]))
    answered = np.flatnonzero(np.isfinite(rows).any(1))
    found, place = np.unique(np.nan_to_num(rows[answered], nan=-1.0), axis=0, return_inverse=True)
    endpoints = np.unique(place.reshape(-1)[answered >= len(rows) - len(bank.endpoints)])
    return np.where(found < 0, np.nan, found), endpoints
