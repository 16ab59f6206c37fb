"""How merges depend on what their parents answer: a hierarchical logistic regression, fitted by Laplace-EM.

y_mi ~ Bernoulli(sigma(x_i . beta_m + u_i)), beta_m ~ N(mu, Sigma), u_i ~ N(0, s^2): empirical Bayes over candidates m.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

#: Fewer candidates than this say little of how candidates differ: the weak prior stays.
FEW = 3
_ROUNDS = 8
_FIRST_STEPS, _STEPS = 20, 4
#: What mu = 0 and Sigma = 0.1 I weigh against the candidates, in candidates.
_MU_WEIGHT, _SIGMA_SCALE = 1e-3, 0.1
_FIRST_ITEM_VARIANCE = 0.3


@dataclass(frozen=True, eq=False)
class Answers:
    """What one candidate answered. index: int64 (n,), distinct items. right: float64 (n,), shares in [0, 1].

    unclipped: the same on the same scale, but scores beyond it are not drawn to its ends.
    """

    index: np.ndarray
    right: np.ndarray
    unclipped: np.ndarray


@dataclass(frozen=True, eq=False)
class Population:
    """What candidates have in common. mu: float64 (p,). sigma: float64 (p, p).

    Item effects: u and their posterior variances float64 (N,), and the variance s^2 among items; all 0 without them.
    n: the number of candidates it was learned from.
    """

    mu: np.ndarray
    sigma: np.ndarray
    u: np.ndarray
    u_variance: np.ndarray
    item_variance: float
    n: int

    def chances(
        self, x: np.ndarray, beta: np.ndarray | None = None, covariance: np.ndarray | None = None
    ) -> np.ndarray:
        """float64 (N,) of items with covariates x (N, p), for a candidate of this posterior, else for any candidate.

        The mean of a logistic function over a normal distribution, approximated as usual (MacKay 1992).
        """
        beta = self.mu if beta is None else beta
        covariance = self.sigma if covariance is None else covariance
        variance = ((x @ covariance) * x).sum(1) + self.u_variance
        return np.asarray(expit((x @ beta + self.u) / np.sqrt(1 + np.pi / 8 * variance)))


def weak_population(p: int, n_items: int, n: int = 0) -> Population:
    """Before anything is learned: mu = 0, Sigma = I."""
    return Population(np.zeros(p), np.eye(p), np.zeros(n_items), np.zeros(n_items), 0.0, n)


@dataclass(frozen=True, eq=False)
class Block:
    """Candidates of about as many answers, padded to the same number; x is 0 in the padding. x: float64 (M, n, p)."""

    index: np.ndarray
    right: np.ndarray
    asked: np.ndarray  # (M, n): 1, or 0 in the padding
    x: np.ndarray

    def chances(self, beta: np.ndarray, population: Population) -> np.ndarray:
        """float64 (M, n) at beta (M, p)."""
        return np.asarray(expit((self.x @ beta[:, :, None])[:, :, 0] + population.u[self.index]))


def blocks_of(rows: Sequence[Answers], x: np.ndarray) -> list[Block]:
    """rows in groups of similar length, so that one long row does not pad all others; x: float64 (N, p)."""
    groups: dict[int, list[Answers]] = {}
    for row in rows:
        groups.setdefault(len(row.index).bit_length(), []).append(row)
    return [_block(groups[length], x) for length in sorted(groups)]


def _block(rows: Sequence[Answers], x: np.ndarray) -> Block:
    shape = len(rows), max(len(row.index) for row in rows)
    index, right, asked = np.zeros(shape, dtype=np.int64), np.zeros(shape), np.zeros(shape)
    for m, row in enumerate(rows):
        n = len(row.index)
        index[m, :n], right[m, :n], asked[m, :n] = row.index, row.right, 1.0
    return Block(index, right, asked, x[index] * asked[:, :, None])


def posterior(
    block: Block, population: Population, beta: np.ndarray | None = None, *, steps: int = _FIRST_STEPS
) -> tuple[np.ndarray, np.ndarray]:
    """Mode beta (M, p) and covariance (M, p, p) of each candidate: Newton steps from `beta`, at most 2 long each."""
    precision = np.linalg.inv(population.sigma)
    beta = np.tile(population.mu, (len(block.index), 1)) if beta is None else beta
    for _ in range(steps):
        gradient, hessian = _slopes(block, population, precision, beta)
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        length = np.linalg.norm(step, axis=1, keepdims=True)
        beta = beta + step * np.minimum(1.0, 2.0 / np.maximum(length, 1e-300))
        if length.max(initial=0.0) < 1e-9:
            break
    return beta, np.linalg.inv(_slopes(block, population, precision, beta)[1])


def _slopes(
    block: Block, population: Population, precision: np.ndarray, beta: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    p = block.chances(beta, population)
    turned = block.x.transpose(0, 2, 1)  # (M, p, n)
    gradient = (turned @ (block.right - p)[:, :, None])[:, :, 0] - (beta - population.mu) @ precision
    return gradient, (turned * (p * (1 - p))[:, None, :]) @ block.x + precision


def learn(rows: Sequence[Answers], x: np.ndarray, *, item_effects: bool) -> Population:
    """Laplace-EM over all rows; with fewer than FEW of them the weak prior stays."""
    population = weak_population(x.shape[1], len(x), len(rows))
    if len(rows) < FEW:
        return population
    if item_effects:
        population = replace(population, item_variance=_FIRST_ITEM_VARIANCE)
    blocks = blocks_of(rows, x)
    modes: list[np.ndarray] = [np.zeros((len(b.index), x.shape[1])) for b in blocks]
    for number in range(_ROUNDS):
        steps = _STEPS if number else _FIRST_STEPS
        found = [posterior(b, population, beta, steps=steps) for b, beta in zip(blocks, modes, strict=True)]
        modes = [beta for beta, _ in found]
        population = _moments(np.concatenate(modes), np.concatenate([v for _, v in found]), population)
        if item_effects:
            population = _with_item_effects(blocks, modes, population)
    return population


def _moments(beta: np.ndarray, covariance: np.ndarray, population: Population) -> Population:
    n, p = beta.shape
    mu = beta.sum(0) / (n + _MU_WEIGHT)
    spread = (beta - mu).T @ (beta - mu) + covariance.sum(0) + (p + 1) * _SIGMA_SCALE * np.eye(p)
    return replace(population, mu=mu, sigma=spread / (n + p + 1))


def _with_item_effects(blocks: Sequence[Block], betas: Sequence[np.ndarray], population: Population) -> Population:
    """Three Newton steps per item, then the variance among items; items that nobody was asked keep u = 0."""
    n_items, common = len(population.u), population.item_variance
    seen = np.sum([_per_item(b, b.asked, n_items) for b in blocks], axis=0) > 0
    u, information = population.u, np.ones(n_items)
    for _ in range(3):
        at = replace(population, u=u)
        fitted = [(b, b.chances(beta, at)) for b, beta in zip(blocks, betas, strict=True)]
        gradient = np.sum([_per_item(b, b.right - p, n_items) for b, p in fitted], axis=0) - u / common
        information = np.sum([_per_item(b, p * (1 - p), n_items) for b, p in fitted], axis=0) + 1 / common
        u = np.where(seen, u + np.clip(gradient / information, -2, 2), 0.0)
        u = np.where(seen, u - u[seen].mean(), 0.0)  # else the level drifts from mu into u
    own = 1 / information
    variance = float(np.clip(((u**2 + own)[seen].sum() + 0.6) / (seen.sum() + 2), 0.02, 4.0))
    return replace(population, u=u, u_variance=np.where(seen, own, variance), item_variance=variance)


def _per_item(block: Block, values: np.ndarray, n_items: int) -> np.ndarray:
    return np.bincount(block.index.ravel(), (values * block.asked).ravel(), n_items)
