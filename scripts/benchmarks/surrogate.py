"""The margins of frozen real merges as a function of their coefficients: a Gaussian process that all items share.

The prior mean of an item is what collapsed merges answer, so that far from all data nothing can be gained. A point of
the surrogate is three experts' coefficients in three thirds of the depth. Its kernel adds one over all nine to one
over the three experts' means, which carries what merges of unlike depth profiles have in common.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from benchmarks.matrices import Merges
from benchmarks.measure import spearman

#: Coefficients that a search may ask for, and with a little room those that the fit is judged by.
LOW, HIGH = -0.2, 1.5
_ROOM = 0.05
#: What leave-one-out chooses from: lengths over nine and over three coefficients, share of the latter, noise.
_GRID = ((1.5, 2.0, 3.0), (1.5, 2.0), (0.3, 0.6, 0.9), (0.003, 0.01))


@dataclass(frozen=True)
class Kernel:
    """Lengths in units of coefficients; `shared` is the part of the variance that the experts' means carry."""

    length: float
    shared_length: float
    shared: float
    noise: float

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """a: (M, 9), b: (K, 9) -> (M, K), 1 where they are equal."""
        own = np.exp(-0.5 * _squares(a, b) / self.length**2)
        means = _squares(_expert_means(a), _expert_means(b))
        shared = np.exp(-0.5 * means / self.shared_length**2)
        return np.asarray((1 - self.shared) * own + self.shared * shared)


def _squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0.0))


def _expert_means(points: np.ndarray) -> np.ndarray:
    return np.asarray(points.reshape(len(points), 3, -1).mean(1))  # columns are expert within third


@dataclass(frozen=True)
class Quality:
    """Leave-one-out, over merges inside the searched box: rank correlation and mean error (points) of the score."""

    merges: int
    spearman: float
    mae_points: float
    bias_points: float

    def __str__(self) -> str:
        return (
            f"leave-one-out over {self.merges} merges: rank correlation {self.spearman:.3f}, "
            f"mean error {self.mae_points:.2f} points, bias {self.bias_points:+.2f}"
        )


@dataclass(frozen=True, eq=False)
class Surrogate:
    """points: (K, 9). prior: (N,). slopes: (K, N), inverse covariance times what the prior leaves. scale: (N,)."""

    kernel: Kernel
    points: np.ndarray
    inverse: np.ndarray
    prior: np.ndarray
    slopes: np.ndarray
    scale: np.ndarray
    quality: Quality

    def chances(self, points: np.ndarray, items: slice | np.ndarray) -> np.ndarray:
        """float64 (M, n): how probably each item's margin is positive. points: (M, 9)."""
        near = self.kernel(points, self.points)  # (M, K)
        spread = np.sqrt(np.maximum(1 - ((near @ self.inverse) * near).sum(1), 1e-6))
        return np.asarray(
            ndtr((self.prior[items] + near @ self.slopes[:, items]) / np.outer(spread, self.scale[items]))
        )


def fitted(merges: Merges) -> Surrogate:
    """The kernel is the one whose left-out margins are nearest, in the mean square, to the true ones."""
    points, rows = np.unique(merges.coefficients.round(5), axis=0, return_index=True)
    margins = merges.margins[rows]
    prior = margins[merges.kind[rows] == "collapsed"].mean(0)
    inside = ((points >= LOW - _ROOM) & (points <= HIGH + _ROOM)).all(1)
    tried = [(k, *_left_out(k, points, margins, prior)) for k in _kernels()]
    kernel, expected, spread = min(tried, key=lambda t: float(((margins - t[1])[inside] ** 2).mean()))
    inverse = np.linalg.inv(kernel(points, points) + kernel.noise * np.eye(len(points)))
    slopes = inverse @ (margins - prior)
    scale = _scale(margins - prior, slopes)
    found, true = (_score(c[inside], merges.task) for c in (ndtr(expected / np.outer(spread, scale)), margins > 0))
    error = 100 * (found - true)
    quality = Quality(int(inside.sum()), spearman(found, true), float(np.abs(error).mean()), float(error.mean()))
    return Surrogate(kernel, points, inverse, prior, slopes, scale, quality)


def _kernels() -> Iterator[Kernel]:
    return (Kernel(*values) for values in itertools.product(*_GRID))


def _left_out(
    kernel: Kernel, points: np.ndarray, margins: np.ndarray, prior: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(K, N): each merge's margins as all others tell them; (K,): the spread of these, in units of an item's scale."""
    inverse = np.linalg.inv(kernel(points, points) + kernel.noise * np.eye(len(points)))
    variance = 1 / np.diag(inverse)
    return margins - (inverse @ (margins - prior)) * variance[:, None], np.sqrt(variance)


def _scale(left: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt((left * slopes).mean(0)))  # the likeliest amplitude of each item's function


def _score(right: np.ndarray, task: np.ndarray) -> np.ndarray:
    return np.asarray(np.mean([right[:, task == t].mean(1) for t in np.unique(task)], axis=0))
