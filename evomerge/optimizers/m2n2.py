"""M2N2: merges compete for items and mate by what the other lacks (Abrantes et al. 2025, arXiv:2508.16204)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evomerge.errors import ConfigError
from evomerge.problem import Problem
from evomerge.types import Candidate, Genome, Result

FOUNDERS = 8  # without starts: the box of eight uniform genomes has 7/9 of every axis
#: Keeps draws of candidates apart from other draws under one seed, those of `uniform` among them.
CHILDREN = 3


@dataclass(frozen=True, eq=False)
class Survivor:
    """What the archive keeps of a candidate. answers: float64 (N,), nan where not asked."""

    genome: Genome
    answers: np.ndarray
    violation: float


class M2n2:
    """Steady state: one candidate is told, the worst of `archive` + 1 leaves, and the next child is made.

    An item's score is shared among all members that have it, to the power `alpha` (0: no competition). The first
    mate is drawn by shared fitness, the second by its lead over the first. The child takes both in shares w and 1 - w
    below a random border of depth, and the other way round above it. The first candidates are the problem's starts;
    with fewer than two of them, uniform genomes make it eight. `lag` children are out at once, 1 as in the paper.

    Defaults are the paper's for models that were trained before: archive 20, alpha 1, no mutation; so children stay in
    the box of the first candidates. Deviations: genomes are mixed, not whole weights, and linearly, not on the sphere
    (the angle between coefficients has no meaning, and checkpoints of one base lie at small angles); with one stretch
    of depth there is no border to split at. A second mate is drawn by shared fitness where none leads anywhere (the
    authors' code divides by 0); items with negative scores are counted from the archive's lowest; while two members
    keep the constraints only such have children, and the largest violation leaves first. The archive starts empty:
    the authors' starts with zeros, which are the first to leave.
    """

    elitist = True
    many_goals = False
    takes_choices = False
    wants_answers = True

    @property
    def step(self) -> int:
        return 1

    def __init__(
        self,
        problem: Problem,
        seed: int,
        *,
        archive: int = 20,
        alpha: float = 1.0,
        mutation: float = 0.0,
        lag: int = 1,
    ):
        _check(archive, alpha, mutation, lag)
        self.lag, self._problem, self._seed = lag, problem, seed
        self._size, self._alpha, self._mutation = archive, alpha, mutation
        self._depth = np.array([v.depth[0] for v in problem.variables])  # (D,), where each gene's stretch begins
        self._members: list[Survivor] = []
        self._out: list[Candidate] = [Candidate(k, self._made(k)) for k in range(lag)]  # drawn and not told
        self._handed = 0  # of these

    @property
    def archive(self) -> tuple[Survivor, ...]:
        """The members, in the order in which they came."""
        return tuple(self._members)

    def ask(self, n: int) -> list[Candidate]:
        """Up to n candidates; none if `lag` of them are out. Candidate k is made when k - lag is told."""
        first, self._handed = self._handed, min(self._handed + n, self.lag)
        return [Candidate(c.id, c.genome.copy()) for c in self._out[first : self._handed]]

    def tell(self, results: Sequence[Result]) -> None:
        """The oldest candidate that is out."""
        told = [c.id for c in self._out[:1] if self._handed]
        assert [r.id for r in results] == told, "candidates are told one at a time and in id order"
        (result,), candidate = results, self._out.pop(0)
        if result.answers is not None:  # it has none if it failed
            self._insert(Survivor(candidate.genome, result.answers, result.violation))
        self._handed -= 1
        following = candidate.id + self.lag
        self._out.append(Candidate(following, self._made(following)))

    def _insert(self, member: Survivor) -> None:
        self._members.append(member)
        if len(self._members) > self._size:
            broken = np.array([m.violation for m in self._members])
            fitness = shared_fitness(common(self._members), alpha=self._alpha)
            worst = broken.argmax() if broken.any() else fitness.argmin()
            self._members.pop(int(worst))

    def _made(self, number: int) -> Genome:
        """Genome of a candidate, from the archive as it is and chance that belongs to the number."""
        rng = np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=(CHILDREN, number)))
        starts = self._problem.starts
        if number < len(starts):
            return np.clip(np.array(starts[number], dtype=np.float64), 0.0, 1.0)
        founding = len(starts) < 2 and number < FOUNDERS
        return rng.random(self._problem.size) if founding or len(self._members) < 2 else self._child(rng)

    def _child(self, rng: np.random.Generator) -> Genome:
        kept = [m for m in self._members if not m.violation]
        rivals = kept if len(kept) > 1 else self._members
        one, other = mates(common(rivals), alpha=self._alpha, rng=rng)
        child = split_merge(rivals[one].genome, rivals[other].genome, self._depth, rng=rng)
        return np.asarray(np.clip(child + self._mutation * rng.standard_normal(len(child)), 0.0, 1.0))


def split_merge(one: Genome, other: Genome, depth: np.ndarray, *, rng: np.random.Generator) -> Genome:
    """float64 (D,): share w of one below a random border of depth and 1 - w from there on; the other has the rest.

    depth: (D,), where each gene's stretch begins; each of these is a border, so that the first splits nothing.
    """
    border, w = rng.choice(np.unique(depth)), rng.random()
    share = np.where(depth < border, w, 1 - w)  # (D,)
    return np.asarray(share * one + (1 - share) * other)


def common(members: Sequence[Survivor]) -> np.ndarray:
    """float64 (P, N) >= 0: scores of the items that all members answered, from 0 where one has less than that."""
    answers = np.array([m.answers for m in members])
    asked = answers[:, ~np.isnan(answers).any(axis=0)]
    return np.asarray(asked - np.minimum(asked.min(axis=0), 0.0))


def niche_shares(scores: np.ndarray, *, alpha: float) -> np.ndarray:
    """float64 (P, N): what each member gets of each item. scores: (P, N) >= 0."""
    total = scores.sum(axis=0)  # (N,)
    return np.asarray(scores / np.where(total > 0, total, 1.0) ** alpha)


def shared_fitness(scores: np.ndarray, *, alpha: float) -> np.ndarray:
    """float64 (P,): the sum of its shares."""
    return np.asarray(niche_shares(scores, alpha=alpha).sum(axis=1))


def attraction(scores: np.ndarray, first: int, *, alpha: float) -> np.ndarray:
    """float64 (P,): what each member has of the items beyond what the first has."""
    found = niche_shares(scores, alpha=alpha)
    return np.asarray(np.maximum(found - found[first], 0.0).sum(axis=1))


def mates(scores: np.ndarray, *, alpha: float, rng: np.random.Generator) -> tuple[int, int]:
    """Two different members of P >= 2. scores: (P, N) >= 0."""
    fitness = shared_fitness(scores, alpha=alpha)
    first = _drawn(rng, fitness, np.ones(len(scores)))
    others = np.arange(len(scores)) != first
    return first, _drawn(rng, attraction(scores, first, alpha=alpha), others * fitness, others * 1.0)


def _drawn(rng: np.random.Generator, *weights: np.ndarray) -> int:
    """A place in proportion to the first weights that are not all 0."""
    chosen = next(w for w in weights if w.sum() > 0)
    return int(rng.choice(len(chosen), p=chosen / chosen.sum()))


def _check(archive: int, alpha: float, mutation: float, lag: int) -> None:
    if archive < 2:
        raise ConfigError(f"optimizer.archive is {archive}; wanted at least 2: a child has two parents.")
    if lag < 1:
        raise ConfigError(f"optimizer.lag is {lag}; wanted at least 1 candidate at a time.")
    for name, value in (("alpha", alpha), ("mutation", mutation)):
        if not 0 <= value < math.inf:
            raise ConfigError(f"optimizer.{name} is {value}; wanted a number from 0 upwards.")
