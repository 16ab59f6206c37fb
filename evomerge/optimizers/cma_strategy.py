"""One run of CMA-ES in the unit cube, by the library cma: what all members of the CMA family are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import cma
import numpy as np

from evomerge.errors import ConfigError, unknown
from evomerge.optimizers.batched import Batched, Guard, ranked
from evomerge.optimizers.rank_weights import lent, rank_shares
from evomerge.problem import Problem
from evomerge.types import Genome, Result

#: cma's criteria that count. Not its flat fitness, nor its history of bests: answers to few items are often equal.
#: Not its growth of steps either: in a cube it means that the first steps were small, not that nothing is left.
CRITERIA = {
    "tolx": "all steps are below 1e-11",
    "tolxstagnation": "the mean stands still",
    "tolfun": "fitness differs by less than 1e-11",
    "tolstagnation": "neither the best nor the median has become better for a hundred batches and more",
    "tolconditioncov": "the longest axis is 1e7 times the shortest",
    "noeffectaxis": "a step along an axis changes no gene",
    "noeffectcoord": "a step changes no gene",
}


#: Keeps draws of ranks apart from other draws under one seed.
RANKS = 1


class Strategy:
    """CMA-ES (Hansen 2016, arXiv:1604.00772) with bounds and active updates.

    start, steps: float64 (D,), the first mean, drawn into [.02, .98] (`_inside`), and the first standard deviations,
    D >= 2. population: at least 3; None
    for cma's default, 4 + 3 ln D, or 6 + 3 ln(D n) with n discrete genes. diagonal: learn variances alone. levels: how
    many values each gene has, 0 where continuous, as in `Variable`; asked discrete genes lie in the middle of a level.
    ranks: "hard", or "expected" under the errors of the fitness (`rank_weights`). covariance: (D, D) in gene units,
    handed on by an earlier run; its correlations are those of the first distribution, whose standard deviations are
    `steps`: the roots of its diagonal to keep it whole.
    """

    def __init__(
        self,
        start: Genome,
        steps: np.ndarray,
        seed: int,
        *,
        population: int | None = None,
        diagonal: bool = False,
        levels: Sequence[int] = (),
        ranks: str = "hard",
        covariance: np.ndarray | None = None,
    ):
        self.stopped = ""
        self._seed, self._told, self._ranks = seed, 0, _known(ranks)
        discrete = np.array(levels or [0] * len(start)) > 0
        self.population = _population(population, len(start), int(discrete.sum()))
        # cma's integers are whole numbers: level i of n, the gene (i + 0.5) / n, is its number i
        self._scale = np.where(discrete, levels or 1.0, 1.0)
        self._shift = np.where(discrete, 0.5, 0.0)
        steps = np.asarray(steps) * self._scale
        self._guard = Guard(seed)
        with self._guard():
            self._es = cma.CMAEvolutionStrategy(
                _inside(start) * self._scale - self._shift, float(steps.max()), self._options(steps, discrete, diagonal)
            )
            if covariance is not None:
                assert not diagonal, "a diagonal strategy has no correlations"
                _correlate(self._es, np.asarray(covariance))

    def _options(self, steps: np.ndarray, discrete: np.ndarray, diagonal: bool) -> dict[str, object]:
        return {
            "bounds": [-self._shift, self._scale - self._shift],
            "popsize": self.population,
            "CMA_stds": steps / steps.max(),
            "CMA_diagonal": diagonal,
            "integer_variables": np.flatnonzero(discrete).tolist(),
            "randn": np.random.RandomState(self._seed).randn,
            "seed": math.nan,  # nan: do not seed numpy's global stream; 0 and None would mean the clock
            "verbose": -9,
            "signals_filename": "",  # else a file in the working directory could change options
            "tolflatfitness": math.inf,
        }

    def mean(self) -> Genome:
        """The distribution's mean after the last tell, (D,) in [0, 1]: a finalist that CMA-ES itself never samples."""
        return self._genes(self._es.result.xfavorite)

    def covariance(self) -> np.ndarray:
        """The distribution's covariance after the last tell, (D, D) in gene units."""
        spread = self._es.sigma * self._es.sigma_vec.scaling / self._scale
        shape = self._es.sm.covariance_matrix  # None of a diagonal strategy, whose scaling has it all
        return np.asarray(np.diag(spread**2) if shape is None else spread[:, None] * shape * spread)

    def ask(self) -> np.ndarray:
        """The next candidates, (population, D) in [0, 1]."""
        with self._guard():
            self._asked = self._es.ask()
        return self._genes(np.array(self._asked))

    def tell(self, results: Sequence[Result]) -> None:
        """Results of all that were asked, in that order. Sets `stopped`, the criterion that was met, "" if none."""
        values = np.array([-f for f in ranked(results)])
        order = np.argsort(values, kind="stable")
        flat = bool(values[order[0]] == values[order[-1]])
        shares = rank_shares(order, results, self._rng()) if self._ranks == "expected" else None
        with self._guard(), lent(self._es, shares):
            self._es.tell(self._asked, _apart(values, order))  # the very arrays asked: lists change cma's stream
        self._told += 1
        self.stopped = _criterion(self._es, flat)

    def _genes(self, numbers: np.ndarray) -> np.ndarray:
        return np.asarray(np.clip((numbers + self._shift) / self._scale, 0.0, 1.0))

    def _rng(self) -> np.random.Generator:
        return np.random.default_rng((self._seed, RANKS, self._told))


class OneRun(Batched):
    """What members share that are a single Strategy from beginning to end."""

    elitist = False

    def __init__(self, strategy: Strategy):
        super().__init__()
        self._strategy = strategy
        self.lag = strategy.population

    @property
    def stopped(self) -> str:
        return self._strategy.stopped

    def mean(self) -> Genome:
        return self._strategy.mean()

    def _draw(self) -> Sequence[Genome]:
        return list(self._strategy.ask())

    def _learn(self, genomes: Sequence[Genome], results: Sequence[Result]) -> None:
        self._strategy.tell(results)


def first_steps(problem: Problem, sigma: float) -> np.ndarray:
    """float64 (D,): every variable's own first step, times `sigma`."""
    if not 0 < sigma < math.inf:
        raise ConfigError(f"optimizer.sigma is {sigma}; wanted a positive number (1 keeps each variable's own step).")
    return problem.steps * sigma


def _population(population: int | None, size: int, discrete: int) -> int:
    if size < 2:  # cma cannot rescale a single variable and gives up in the middle of a run
        raise ConfigError(
            f"CMA-ES needs at least 2 variables, this space has {size}. Use optimizer=coarse_to_fine, ga or uniform, "
            "or search more (space.groups, space.search)."
        )
    if population is None:
        return math.floor(6 + 3 * math.log(size * discrete)) if discrete else 4 + math.floor(3 * math.log(size))
    if population < 3:
        raise ConfigError(
            f"optimizer.population is {population}; CMA-ES needs at least 3. Leave it null for the default."
        )
    return population


def _known(ranks: str) -> str:
    if ranks not in ("hard", "expected"):
        raise ConfigError(f"optimizer.ranks: {unknown('rule', ranks, ('hard', 'expected'))}")
    return ranks


def _inside(genome: Genome) -> Genome:
    return np.asarray(np.clip(genome, 0.02, 0.98))  # a mean on a bound has half of its samples reflected


def _correlate(es: Any, covariance: np.ndarray) -> None:
    """Give a fresh cma strategy the correlations of a covariance; a singular one is made regular by a millionth."""
    spread = np.sqrt(np.diag(covariance))
    es.sm.C = (covariance / np.outer(spread, spread) + 1e-6 * np.eye(len(spread))) / (1 + 1e-6)
    es.sm.update_now(lazy_update_gap=-1)  # decompose it now, though nothing was told yet
    es._updateBDfromSM()  # the copies of axes that its criteria look at


def _apart(values: np.ndarray, order: np.ndarray) -> list[float]:
    """The values without ties, (n,) in the order of asking: each that is not above the one before goes just above it.

    cma sorts by numpy's default, which orders ties as the processor's vector instructions have it.
    """
    found: list[float] = values.tolist()
    for before, place in pairwise(order.tolist()):
        found[place] = max(found[place], math.nextafter(found[before], math.inf))
    return found


def _criterion(es: Any, flat: bool) -> str:
    """The first of CRITERIA that cma finds met, with what it means; cma draws nothing to find out."""
    met = es.stop()
    if flat:  # to the last bit: a plateau of counted answers, not convergence
        met.pop("tolfun", None)
    return next((f"{name}: {why}" for name, why in CRITERIA.items() if name in met), "")
