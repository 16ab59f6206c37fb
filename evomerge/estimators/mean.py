"""The plain mean of the item scores, with its standard error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evomerge.items import ItemBank, Observed
from evomerge.types import Estimate, ItemScores, Metric


class Mean:
    """The weighted mean of what was answered, task by task: no other model's answers are used."""

    def fit(self, bank: ItemBank) -> FittedMean:
        return FittedMean(bank)


@dataclass(frozen=True, eq=False)
class FittedMean:
    """Weighted means over one bank."""

    bank: ItemBank

    def estimate(self, observed: Sequence[Observed], earlier: Sequence[Observed] = ()) -> list[tuple[Estimate, ...]]:
        """Per candidate one Estimate a task; `earlier` teaches a mean nothing."""
        tasks = range(len(self.bank.tasks))
        return [tuple(weighted_mean(one, self.bank, task) for task in tasks) for one in observed]

    def frozen(self, earlier: Sequence[Observed]) -> FittedMean:
        return self


# ---------------------------------------------------------------- of some items of a bank


@dataclass(frozen=True, eq=False)
class Answered:
    """A candidate's answers in one task. places: int64 (n,), into the bank; the rest float64 (n,) as in Observed."""

    places: np.ndarray
    values: np.ndarray
    weights: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, observed: Observed, bank: ItemBank, task: int) -> Answered:
        """Those in `task`; an item without a finite value was not answered."""
        here = (bank.task[observed.index] == task) & np.isfinite(observed.values)
        return cls(observed.index, observed.values, observed.weights, observed.sizes).among(here)

    def among(self, chosen: np.ndarray) -> Answered:
        """Those of a mask, bool (n,)."""
        return Answered(self.places[chosen], self.values[chosen], self.weights[chosen], self.sizes[chosen])

    def __len__(self) -> int:
        return len(self.places)


def weighted_mean(observed: Observed, bank: ItemBank, task: int) -> Estimate:
    """Hajek mean sum(w y) / sum(w size) of one task, with a linearised standard error (Särndal et al. 1992, ch. 5).

    All items of the task: its exact score, standard error 0. Equal bits: standard error of the Jeffreys estimate,
    fallback "jeffreys". No spread to measure (one item, equal scores): that of the endpoints' item scores, fallback
    "no-spread". No items: mean and standard deviation of the endpoints' scores, fallback "no-items".
    """
    seen = Answered.of(observed, bank, task)
    return mean_over(seen, len(bank.places(task)), bank, task) if len(seen) else prior_mean(bank, task)


def mean_over(seen: Answered, n: int, bank: ItemBank, task: int) -> Estimate:
    """The same over any n items of a task, of which at least one was answered."""
    if len(seen) == n:
        return Estimate(_ratio_of(seen, bank.weights[seen.places])[0], 0.0, n)
    mean, shares = _ratio_of(seen, seen.weights)
    effective = shares.sum() ** 2 / (shares**2).sum()  # Kish: items of unequal weight tell less
    if bank.metrics[task].kind == "mean" and _equal_bits(seen.values, bank.metrics[task]):
        left = np.sqrt(1 - len(seen) / n)
        return Estimate(mean, float(_jeffreys(abs(mean), effective) * left), len(seen), "jeffreys")
    moved = contributions(seen, n, bank)
    spread = float(np.sqrt(len(seen) / max(len(seen) - 1, 1) * (moved**2).sum()))
    if spread > 0:
        return Estimate(mean, spread, len(seen))
    return Estimate(mean, item_spread(bank, task) / float(np.sqrt(effective)), len(seen), "no-spread")


def contributions(seen: Answered, n: int, bank: ItemBank) -> np.ndarray:
    """float64 (answers,): what the chance of each item to be drawn adds to the error of the mean over n items."""
    inverse = seen.weights / bank.weights[seen.places]  # 1 / inclusion chance, up to a factor
    unseen = 1 - np.minimum(1.0, inverse.sum() / n / inverse)
    mean, shares = _ratio_of(seen, seen.weights)
    residuals = shares * (seen.values - mean * seen.sizes)  # delta method for a ratio of sums
    return np.sqrt(unseen) * residuals if len(seen) < n else np.zeros(n)


def prior_mean(bank: ItemBank, task: int) -> Estimate:
    """What the endpoints say of a candidate that has answered nothing."""
    scores = endpoint_scores(bank, task)
    if len(scores) == 0:
        return Estimate(0.5 if bank.metrics[task].higher_is_better else -0.5, 0.5, 0, "no-items")
    spread = float(scores.std(ddof=1)) if len(scores) > 1 else 0.0
    # parents of one score, or one alone, do not make a merge's score certain
    return Estimate(float(scores.mean()), max(spread, 0.1 * item_spread(bank, task)), 0, "no-items")


def endpoint_scores(bank: ItemBank, task: int) -> np.ndarray:
    """float64 (K',): weighted means of the endpoints that answered any item of the task."""
    places = bank.places(task)
    known = np.isfinite(bank.endpoints[:, places])  # (K, N_t)
    shares = np.where(known, bank.weights[places], 0.0)
    asked = known.any(1)
    sums = (shares * np.where(known, bank.endpoints[:, places], 0.0)).sum(1)
    return np.asarray(sums[asked] / shares.sum(1)[asked])


def item_spread(bank: ItemBank, task: int) -> float:
    """Standard deviation of the endpoints' item scores, positive; that of a fair coin where nothing is known."""
    known = bank.endpoints[:, bank.places(task)]
    spread = float(known[np.isfinite(known)].std()) if np.isfinite(known).any() else 0.0
    return spread if spread > 0 else 0.5


def _ratio_of(seen: Answered, weights: np.ndarray) -> tuple[float, np.ndarray]:
    """The score, and what each item's value counts in it: float64 (n,)."""
    shares = weights / (weights * seen.sizes).sum()
    return float((shares * seen.values).sum()), shares


def _equal_bits(values: np.ndarray, metric: Metric) -> bool:
    return bool(np.all(values == values[0]) and values[0] in (0.0, 1.0 if metric.higher_is_better else -1.0))


def _jeffreys(mean: float, n: float) -> float:
    smooth = (mean * n + 0.5) / (n + 1)
    return float(np.sqrt(smooth * (1 - smooth) / (n + 1)))


# ---------------------------------------------------------------- of items on their own


def task_mean(scores: ItemScores, metric: Metric) -> Estimate:
    """Mean of n scores, or the ratio sum(loglik) / sum(weight) of pairs (always higher is better).

    A binary score that is all right or all wrong has no sample variance: its standard error is that of the
    Jeffreys estimate (s + 1/2) / (n + 1).
    """
    values = scores.values
    n = len(values)
    if metric.kind == "pairs":
        return _ratio(values[:, 0], values[:, 1])
    sign = 1.0 if metric.higher_is_better else -1.0
    mean = float(values.mean())
    return Estimate(sign * mean, _stderr(values, mean), n, "jeffreys" if _constant_bits(values) else None)


def _stderr(values: np.ndarray, mean: float) -> float:
    n = len(values)
    if _constant_bits(values):
        return _jeffreys(mean, n)
    return float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else float("inf")


def _constant_bits(values: np.ndarray) -> bool:
    return bool(np.all(values == values[0]) and values[0] in (0.0, 1.0))


def _ratio(logliks: np.ndarray, weights: np.ndarray) -> Estimate:
    n, total = len(weights), float(weights.sum())
    ratio = float(logliks.sum()) / total
    spread = float(((logliks - ratio * weights) ** 2).sum())  # delta method for a ratio of sums
    return Estimate(ratio, float(np.sqrt(spread * n / (n - 1))) / total if n > 1 else float("inf"), n)
