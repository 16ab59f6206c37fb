"""The searchers under test, made from conf/optimizer as a search makes them, and rivals: Optuna's TPE, tied groups."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from evomerge.config import CONF, make, plain
from evomerge.families import Optimizer
from evomerge.optimizers.stages import Tied, tie
from evomerge.problem import Problem, gene_of
from evomerge.types import Candidate, Genome, Result

TPE, GRID = "tpe", "lambda_grid"
#: Made for several goals: left out unless asked for, a landscape here has one.
PARETO = ("nsga2", "nsga3", "smsemoa")
#: At most so many seeds of those that take more than seconds for a search.
MOST_SEEDS = {TPE: 5, "m2n2": 10}
#: Rivals of a grid over one scale: the same searcher with one gene a parent for the whole depth.
TIED = ("cma_es@1",)


def members() -> list[str]:
    """All of conf/optimizer."""
    return sorted(path.stem for path in (CONF / "optimizer").glob("*.yaml"))


def default_names() -> list[str]:
    """What runs unless told otherwise: members for one goal, tied ones, and TPE where Optuna is installed."""
    return [*(m for m in members() if m not in PARETO), *TIED, *([TPE] if has_optuna() else [])]


def has_optuna() -> bool:
    return importlib.util.find_spec("optuna") is not None


def made(name: str, problem: Problem, seed: int, settings: Mapping[str, Any]) -> Optimizer:
    """name: of conf/optimizer, "tpe", or NAME@G for a member over at most G depth groups."""
    if name == TPE:
        return Tpe(problem, seed)
    member, _, groups = name.partition("@")
    if groups:
        return Grouped(member, problem, seed, tie(problem.variables, int(groups), parts=False))
    node = plain(OmegaConf.load(CONF / "optimizer" / f"{member}.yaml")) | dict(settings)
    return make("optimizer", node, problem, seed)  # type: ignore[no-any-return]


def unfit(name: str, problem: Problem) -> str:
    """Why a searcher cannot serve a problem, "" if it can."""
    member, _, groups = name.partition("@")
    if groups and tie(problem.variables, int(groups), parts=False).size >= problem.size:
        return "there is no depth to be tied"
    if problem.discrete and (groups or (name != TPE and not made(member, problem, 0, {}).takes_choices)):
        return "its genes are continuous, the landscape has choices"
    return ""


class Grouped:
    """A member that searches fewer genes, each of which stands for many."""

    many_goals = False
    takes_choices = False
    wants_answers = False

    def __init__(self, member: str, problem: Problem, seed: int, tied: Tied):
        places = [int(np.flatnonzero(tied.owner == gene)[0]) for gene in range(tied.size)]
        variables = tuple(replace(problem.variables[p], depth=(0.0, 1.0)) for p in places)
        coarse = Problem(variables, starts=tuple(tied.project(s) for s in problem.starts))
        self._inner, self._tied = made(member, coarse, seed, {}), tied
        self.elitist, self.lag = self._inner.elitist, self._inner.lag

    @property
    def step(self) -> int:
        return self._inner.step

    def ask(self, n: int) -> list[Candidate]:
        return [Candidate(c.id, self._tied.expand(c.genome)) for c in self._inner.ask(n)]

    def tell(self, results: Sequence[Result]) -> None:
        self._inner.tell(results)
        self.lag = self._inner.lag

    def mean(self) -> Genome | None:
        found = getattr(self._inner, "mean", None)
        return None if found is None else self._tied.expand(found())


class Tpe:
    """Tree-structured Parzen estimator (Bergstra et al. 2011) over all variables jointly (Optuna's `multivariate`).

    Batches of four: one at a time is its best and slowest. The best start is tried first.
    """

    lag = step = 4
    elitist = True
    many_goals = False
    takes_choices = True
    wants_answers = False

    def __init__(self, problem: Problem, seed: int):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        kinds = optuna.distributions
        self._problem, self._asked, self._out = problem, 0, []  # type: ignore[var-annotated]
        self._cube: dict[str, Any] = {
            v.name: kinds.CategoricalDistribution(range(v.levels)) if v.levels else kinds.FloatDistribution(0.0, 1.0)
            for v in problem.variables
        }
        with warnings.catch_warnings():  # of an option that is "experimental"
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        if not problem.discrete:
            names = [v.name for v in problem.variables]
            self._study.enqueue_trial(dict(zip(names, map(float, problem.start), strict=True)))

    def ask(self, n: int) -> list[Candidate]:
        trials = [self._study.ask(self._cube) for _ in range(min(n, self.lag - len(self._out)))]
        self._out += trials
        first, self._asked = self._asked, self._asked + len(trials)
        return [Candidate(first + i, self._genome(t.params)) for i, t in enumerate(trials)]

    def tell(self, results: Sequence[Result]) -> None:
        for result in results:
            self._study.tell(self._out.pop(0), result.fitness[0])

    def _genome(self, values: Mapping[str, Any]) -> Genome:
        genes = (gene_of(values[v.name], v.levels) if v.levels else values[v.name] for v in self._problem.variables)
        return self._problem.settled(np.array(list(genes), dtype=np.float64))
