"""What a candidate's rank is worth to CMA-ES if its fitness is known but for an error: weights averaged over ranks."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from evomerge.types import Result

DRAWS = 500
UNKNOWN = 1e150  # stands in for an error that is not finite; sums with any other number without overflow


def rank_shares(order: np.ndarray, results: Sequence[Result], rng: np.random.Generator) -> np.ndarray | None:
    """Probabilities (n, n) that the candidate of hard rank i has rank j in truth; None if the ranks are sure.

    order: int (n,), candidates best first, as hard ranks have them. Those that broke a constraint or failed keep
    their rank; the others share the ranks that are left, by draws from normal distributions N(fitness, stderr^2). An
    error that is infinite or nan leaves a candidate's rank unknown: it is as likely best as worst.
    """
    in_order = [results[k] for k in order]
    open_ranks = np.array([i for i, r in enumerate(in_order) if not (r.violation > 0 or r.error_code)], dtype=int)
    fitness = np.array([in_order[i].fitness[0] for i in open_ranks])
    stderr = np.array([_error(in_order[i]) for i in open_ranks])
    if not (stderr > 0).any():
        return None
    drawn = fitness + stderr * rng.standard_normal((DRAWS, len(open_ranks)))
    best_first = np.argsort(-drawn, axis=1, kind="stable")  # (draws, ranks) -> place among the open ones
    shares = np.zeros((len(order), len(order)))
    np.add.at(shares, (open_ranks[best_first], open_ranks), 1)
    shares /= DRAWS
    kept = np.setdiff1d(np.arange(len(order)), open_ranks)
    shares[kept, kept] = 1.0
    return shares


def _error(result: Result) -> float:
    stderr = result.stderrs[0] if result.stderrs else 0.0
    return stderr if math.isfinite(stderr) else UNKNOWN


class ExpectedWeights(list[float]):
    """Stands in for cma's weights during one tell: entry i belongs to the candidate of hard rank i, in any order.

    own: cma's weights, best rank first, the positive ones summing to 1. The mean moves by the expected positive
    weights, so that every candidate may count; the more they are alike, the larger `mueff`, by which cma knows how
    long a step without information would be. The covariance learns from the expected signed weights, times `rate`.
    """

    def __init__(self, own: Sequence[float], shares: np.ndarray):
        super().__init__((shares @ np.maximum(own, 0.0)).tolist())
        self.mu = self.lambda_ = len(own)
        self.positive_weights = np.asarray(self)
        self.mueff = 1.0 / float((self.positive_weights**2).sum())
        self.rate = 1.0
        self._signed = shares @ np.asarray(own)

    def __call__(self, n: int) -> list[float]:
        """What cma multiplies with its learning rate of the covariance."""
        assert n == len(self), "cma was told another number of candidates than it was asked for"
        return (self.rate * self._signed).tolist()  # type: ignore[no-any-return]


@contextlib.contextmanager
def lent(es: Any, shares: np.ndarray | None) -> Iterator[None]:
    """Lend a cma.CMAEvolutionStrategy the expected weights; its own come back whatever happens.

    cma's learning rate grows with mueff, for it takes many equal weights to be a large population; here they are
    ignorance, so the rate stays that of its own weights.
    """
    if shares is None:
        yield
        return
    own = es.sp.weights
    expected = ExpectedWeights(own, shares)
    if not es.opts["CMA_diagonal"]:  # there it does not depend on mueff
        expected.rate = _learning_rate(es, own) / _learning_rate(es, expected)
    es.sp.weights = expected
    try:
        yield
    finally:
        es.sp.weights = own


def _learning_rate(es: Any, weights: Any) -> float:
    return float(es.sm.parameters(mueff=weights.mueff, lam=weights.lambda_)["cmu"])
