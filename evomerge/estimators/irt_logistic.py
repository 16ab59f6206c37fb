"""Logistic regression of one model's answers: free, drawn to a centre, or on the simplex."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

_LONGEST_STEP, _ROUNDS, _TOLERANCE = 2.0, 30, 1e-6


@dataclass(frozen=True, eq=False)
class Regression:
    """right ~ Bernoulli(sigma(features x + offsets)), x unknown, float64 (P,).

    features: float64 (n, P). offsets: float64 (n,). right: float64 (n,) in [0, 1]. dispersion: float64 (n,), variance
    of an answer over that of a bit.
    """

    features: np.ndarray
    offsets: np.ndarray
    right: np.ndarray
    dispersion: np.ndarray

    def maximum(
        self, centre: np.ndarray, precision: np.ndarray, within: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> np.ndarray:
        """Newton's method from `centre` on log-likelihood - (x - centre)' precision (x - centre) / 2.

        A step is at most 2 long and halved until it climbs: steep items make a plain one swing for ever. `within`
        brings a point back to where x may be.
        """
        within = within or (lambda point: point)

        def height(x: np.ndarray) -> float:
            return self._log_likelihood(x) - float((x - centre) @ precision @ (x - centre)) / 2

        x = within(centre)
        for _ in range(_ROUNDS):
            step = self._newton_step(x, precision, precision @ (x - centre))
            while height(within(x + step)) < height(x) and np.linalg.norm(step) > _TOLERANCE:
                step = step / 2
            x = within(x + step)
            if np.linalg.norm(step) <= _TOLERANCE:
                break
        return x

    def covariance(self, x: np.ndarray, precision: np.ndarray) -> np.ndarray:
        """float64 (P, P): (H + P)^-1 (phi H + P) (H + P)^-1, the inverse Hessian where the dispersion phi is 1."""
        inverse = np.linalg.inv(self._information(x, 1.0) + precision)
        return np.asarray(inverse @ (self._information(x, self.dispersion) + precision) @ inverse)

    def simplex_maximum(self, start: np.ndarray) -> np.ndarray:
        """The likeliest x >= 0 of sum 1, by accelerated projected gradient (Beck & Teboulle 2009, FISTA)."""
        steepest = float(np.linalg.norm(self.features, 2)) ** 2 / 4 if len(self.features) else 0.0
        rate = 1 / max(steepest, 1e-12)
        x, ahead, t = start, start, 1.0
        for _ in range(500):
            new = onto_simplex(ahead + rate * self._gradient(ahead))
            t, momentum = (1 + np.sqrt(1 + 4 * t * t)) / 2, t - 1
            x, ahead, moved = new, new + momentum / t * (new - x), float(np.abs(new - x).max())
            if moved < 1e-9:
                break
        return x

    def _log_likelihood(self, x: np.ndarray) -> float:
        z = self.features @ x + self.offsets
        return float(self.right @ z - np.logaddexp(0, z).sum())

    def _gradient(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.features.T @ (self.right - expit(self.features @ x + self.offsets)))

    def _information(self, x: np.ndarray, dispersion: np.ndarray | float) -> np.ndarray:
        p = expit(self.features @ x + self.offsets)
        return np.asarray((self.features.T * (p * (1 - p) * dispersion)) @ self.features)

    def _newton_step(self, x: np.ndarray, precision: np.ndarray, pull: np.ndarray) -> np.ndarray:
        step = np.linalg.solve(self._information(x, 1.0) + precision, self._gradient(x) - pull)
        length = float(np.linalg.norm(step))
        return np.asarray(step if length <= _LONGEST_STEP else step * (_LONGEST_STEP / length))


def onto_simplex(x: np.ndarray) -> np.ndarray:
    """The nearest point of non-negative numbers of sum 1 (Duchi et al. 2008)."""
    high = np.sort(x)[::-1]
    surplus = (np.cumsum(high) - 1) / np.arange(1, len(x) + 1)
    return np.asarray(np.maximum(x - surplus[high > surplus][-1], 0.0))
