"""Item response theory: slopes and intercepts of items, and abilities of models, from a matrix of answers.

The multidimensional two-parameter logistic model p_mi = sigma(a_i . theta_m - b_i) of tinyBenchmarks (Polo et al. 2024,
arXiv:2402.14992, eq. 1), fitted by maximum a posteriori instead of variational inference, so that it is deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, logit

if TYPE_CHECKING:
    import torch

#: Below this many models the parameters of an item are little more than their prior.
FEW_MODELS = 10
_SD_LOG_SLOPE, _SD_INTERCEPT = 0.5, 2.0


@dataclass(frozen=True, eq=False)
class ItemParameters:
    """slopes: float64 (N, D), positive. intercepts: float64 (N,), high for a hard item."""

    slopes: np.ndarray
    intercepts: np.ndarray

    def probability(self, abilities: np.ndarray) -> np.ndarray:
        """float64 (..., N) in (0, 1): the chance of a right answer, of models of abilities (..., D)."""
        return np.asarray(expit(abilities @ self.slopes.T - self.intercepts))


@dataclass(frozen=True, eq=False)
class Calibration:
    """Items and the models they were calibrated on. abilities: float64 (M, D)."""

    items: ItemParameters
    abilities: np.ndarray


def n_dimensions(n_models: int) -> int:
    """How many abilities this many models can tell apart."""
    return 1 if n_models < 30 else min(5, n_models // 10)


def calibrate(answers: np.ndarray, *, dimensions: int | None = None) -> Calibration:
    """Fit items and abilities together, with priors theta ~ N(0, I), log a ~ N(mu, 0.5^2), b ~ N(its mean, 2^2).

    answers: float64 (M, N) in [0, 1], NaN where a model was not asked; a fraction counts as that share of a right
    answer (quasi-likelihood). Abilities have mean 0. With M < FEW_MODELS the result is finite, but mostly prior.
    Dimensions: by `n_dimensions` if None.
    """
    d = dimensions or n_dimensions(len(answers))
    asked = ~np.isnan(answers)
    right = np.where(asked, answers, 0.0)
    theta, log_slopes, intercepts = _climb(right, asked, _start(right, asked, d))
    return Calibration(ItemParameters(np.exp(log_slopes), intercepts), theta)


def _start(right: np.ndarray, asked: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Abilities: leading left singular vectors of what item means leave over, turned so that able models are high."""
    m, n = right.shape
    mean = (right.sum(0) + 1) / (asked.sum(0) + 2)
    residuals = np.where(asked, right - mean, 0.0)
    vectors = np.linalg.svd(residuals @ residuals.T)[0][:, :d] if m else np.zeros((0, d))
    theta = np.zeros((m, d))
    theta[:, : vectors.shape[1]] = vectors * np.sqrt(m)
    level = residuals.sum(1) / np.maximum(asked.sum(1), 1)
    signs = np.where((level - level.mean()) @ theta < 0, -1.0, 1.0) if m else 1.0
    return theta * signs, np.full((n, d), 0.0 if d == 1 else -0.7), -logit(mean)


def _climb(
    right: np.ndarray, asked: np.ndarray, start: tuple[np.ndarray, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The maximum a posteriori near `start`."""
    import torch  # costs a second: paid by who calibrates, not by who imports

    y, mask = torch.from_numpy(right), torch.from_numpy(asked.astype(np.float64))
    theta, log_slopes, intercepts = parameters = [torch.from_numpy(s.copy()).requires_grad_() for s in start]
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=300, max_eval=1000, tolerance_grad=1e-5, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        # about their mean: else few models share one huge ability and slopes take the part of intercepts
        z = (theta - theta.sum(0) / max(len(right), 1)) @ log_slopes.exp().T - intercepts  # (M, N)
        misfit = (mask * (torch.nn.functional.softplus(z) - y * z)).sum()
        total = misfit + _penalty(theta, log_slopes, intercepts)
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    found = [parameter.detach().numpy() for parameter in parameters]
    return found[0] - found[0].sum(0) / max(len(right), 1), found[1], found[2]


def _penalty(theta: torch.Tensor, log_slopes: torch.Tensor, intercepts: torch.Tensor) -> torch.Tensor:
    usual = 0.0 if theta.shape[1] == 1 else -0.5
    slopes = ((log_slopes - usual) / _SD_LOG_SLOPE).square().sum()
    # around their own mean: a bank may be easy or hard as a whole
    spread = ((intercepts - intercepts.mean()) / _SD_INTERCEPT).square().sum()
    return (theta.square().sum() + slopes + spread) / 2
