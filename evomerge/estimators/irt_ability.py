"""The ability of one model whose items are calibrated: on its own, or as a mixture of its parents' abilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evomerge.estimators.irt import ItemParameters
from evomerge.estimators.irt_logistic import Regression

#: Bound of every ability where no prior holds it: all answers right would send it to infinity.
LIMIT = 6.0
#: Precision that stands for no prior: too weak to move an estimate, strong enough to keep unseen directions in place.
_LOOSE = 1e-6
_SD_SHARE = 0.4  # of a parent's share in a mixture


@dataclass(frozen=True, eq=False)
class Ability:
    """What is known of a model's ability. mean: float64 (D,). covariance: float64 (D, D)."""

    mean: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True, eq=False)
class Answers:
    """What one model answered. index: int64 (n,), distinct items. right: float64 (n,) in [0, 1].

    dispersion: float64 (n,), variance of an answer over that of a bit, 1 for bits.
    """

    index: np.ndarray
    right: np.ndarray
    dispersion: np.ndarray


def ability(items: ItemParameters, answers: Answers, *, centre: np.ndarray, prior: bool = True) -> Ability:
    """Maximum a posteriori under N(centre, I), or of the likelihood alone within +-LIMIT.

    centre: float64 (D,), the start too. The covariance is the error's: prior and noise, each in its share.
    """
    answered = _regression(items, answers, np.eye(len(centre)))
    precision = (1.0 if prior else _LOOSE) * np.eye(len(centre))
    found = answered.maximum(centre, precision, within=None if prior else _boxed)
    return Ability(found, answered.covariance(found, precision))


def mixture(items: ItemParameters, answers: Answers, *, parents: np.ndarray, prior: str | None) -> Ability:
    """The likeliest theta = sum_k lambda_k theta_k of MERGE^3 (Mencattini et al. 2025, arXiv:2502.10436).

    parents: float64 (K, D), abilities. prior: None leaves lambda free (as published; theta stays within +-LIMIT),
    "normal" is lambda_k ~ N(1/K, 0.4^2), "simplex" wants lambda_k >= 0 of sum 1, its covariance as if "normal".
    """
    k = len(parents)
    answered, even = _regression(items, answers, parents), np.full(k, 1 / k)
    precision = (_LOOSE if prior is None else _SD_SHARE**-2) * np.eye(k)
    if prior == "simplex":
        shares = answered.simplex_maximum(even)
    else:
        shares = answered.maximum(even, precision, within=_towards_even(parents, even) if prior is None else None)
    return mixed(Ability(shares, answered.covariance(shares, precision)), parents)


def mixed(shares: Ability, parents: np.ndarray) -> Ability:
    """What shares (K,) in the parents' abilities (K, D) say of the ability."""
    return Ability(shares.mean @ parents, parents.T @ shares.covariance @ parents)


def _regression(items: ItemParameters, answers: Answers, directions: np.ndarray) -> Regression:
    """Answers as a regression on the coefficients of directions (P, D) in the space of abilities."""
    features, offsets = items.slopes[answers.index] @ directions.T, -items.intercepts[answers.index]
    return Regression(features, offsets, answers.right, answers.dispersion)


def _boxed(theta: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(theta, -LIMIT, LIMIT))


def _towards_even(parents: np.ndarray, even: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Draws shares back towards even ones until their mixture lies within +-LIMIT."""

    def within(shares: np.ndarray) -> np.ndarray:
        start, way = even @ parents, (shares - even) @ parents
        room = np.where(way > 0, LIMIT - start, LIMIT + start)
        reach = np.divide(room, np.abs(way), out=np.full(len(way), np.inf), where=way != 0)
        return np.asarray(even + np.clip(reach.min(), 0.0, 1.0) * (shares - even))

    return within
