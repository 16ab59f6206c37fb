"""Parents added one after another, best first (Model-GLUE's heuristics: Zhao et al. 2024, arXiv:2410.05357, 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evomerge.errors import ConfigError, unknown
from evomerge.optimizers.batched import Batched
from evomerge.optimizers.lambda_grid import gene_at, value_at
from evomerge.problem import Problem, key_of
from evomerge.types import Genome, Result

COEFFICIENTS = np.arange(9, 0, -1) / 10  # of the current merge; the first of equals is nearest to it
RULES = ("search", "average")
EXACT = 1e-9  # how far from 0 and 1 the weights of a parent alone may lie


class Greedy(Batched):
    """The best single parent, then in each batch a merge of it with the next best, kept if it beats all before.

    rule "search" tries c = .9 to .1 in c * current + (1 - c) * next, nine candidates a batch; "average" only the c of
    a plain average of all kept, one a batch. The first batch scores the single parents to order them. A parent's
    weight is that of all its leading genes; the rest stays as a start has it that is this parent alone, else at the
    default. Discrete weights take the nearest levels, so that their sum may miss 1; merges that become equal by it are
    asked once. No chance in it; it ends when the parents are through.

    Deviations from the authors' code: a tie keeps the merge of fewer parents (theirs takes the new one); the best
    coefficient is kept (theirs writes the last one tried); a failed parent is left out and a failed merge never kept
    (theirs score 0); parents are ordered by this search's own fitness, on its search items (theirs: on the test sets).
    """

    takes_choices = True

    def __init__(self, problem: Problem, seed: int, *, rule: str = "search"):
        super().__init__()
        if rule not in RULES:
            raise ConfigError(unknown("optimizer.rule", rule, RULES))
        self._problem, self._rule = problem, rule
        owners = [v.parent if v.leading else "all" for v in problem.variables]
        self._parents = [p for p in dict.fromkeys(owners) if p != "all"]
        _check_weights(problem, len(self._parents))
        self._owner = np.array([self._parents.index(p) if p != "all" else -1 for p in owners])  # (D,)
        self._waiting: list[int] | None = None  # parents to be added, best first; None: not yet ordered
        self._rest = problem.default  # genes that are no parent's weight
        self._current = np.zeros(len(self._parents))
        self._best: tuple[bool, float, float] = (False, 0.0, 0.0)
        self._round = [self._alone(p) for p in range(len(self._parents))]  # the batch that is next or out
        self.lag = len(self._round)
        self._check_reach()

    @property
    def stopped(self) -> str:
        return "" if self._round else "every parent was tried"

    def _draw(self) -> Sequence[Genome]:
        return self._round

    def _prepare(self) -> None:
        """The next round: of the first parent that waits and brings a merge other than the current one."""
        self._round = []
        while self._waiting and not self._round:
            merges = self._merges(self._waiting[0])
            current, *rows = [self._genome(weights, self._rest) for weights in (self._current, *merges)]
            new = _new(rows, current)
            self._tried, self._round = merges[new], [rows[i] for i in new]
            self._waiting = self._waiting if new else self._waiting[1:]
        self.lag = len(self._round) or self.lag

    def _merges(self, new: int) -> np.ndarray:
        """Weights to try, (1 or 9, parents), each summing to 1."""
        kept = np.count_nonzero(self._current)
        c = np.array([kept / (kept + 1)]) if self._rule == "average" else COEFFICIENTS
        return np.asarray(c[:, None] * self._current + (1 - c[:, None]) * np.eye(len(self._parents))[new])

    def _learn(self, genomes: Sequence[Genome], results: Sequence[Result]) -> None:
        worth = [_worth(r) for r in results]
        top = max(range(len(worth)), key=worth.__getitem__)
        if self._waiting is None:
            order = sorted(range(len(worth)), key=worth.__getitem__, reverse=True)
            self._waiting = [p for p in order if not results[p].error_code][1:]
            self._rest, self._current, self._best = genomes[top], np.eye(len(worth))[top], worth[top]
        else:
            self._waiting = self._waiting[1:]
            if worth[top] > self._best:
                self._current, self._best = self._tried[top], worth[top]
        self._prepare()

    def _alone(self, parent: int) -> Genome:
        """A parent alone: the start with its weights, which knows what leaves it whole; else the defaults with them."""
        plain = self._genome(np.eye(len(self._parents))[parent], self._problem.default)
        weights = self._owner >= 0
        same = (s for s in self._problem.starts if np.allclose(s[weights], plain[weights], rtol=0, atol=1e-9))
        return self._problem.settled(next(same, plain))

    def _check_reach(self) -> None:
        """Raises ConfigError where a genome would mean other weights than those that it is made for."""
        leading, active = self._owner >= 0, self._problem.active
        weights = [v for v in self._problem.variables if v.leading]
        exact = all(abs(value_at(v, gene_at(v, x)) - x) < EXACT for v in weights for x in (0.0, 1.0))
        if not exact or (active is not None and not all(active(g)[leading].all() for g in self._round)):
            raise ConfigError(
                "greedy gives parents weights from 0 to 1, and this space cannot give each parent the whole weight: "
                "its range ends before or its levels leave out 0 or 1, or the parent takes part only where another "
                "gene says so. Set space.ranges={weight: [0, 1]}, or use space=weights."
            )

    def _genome(self, weights: np.ndarray, rest: Genome) -> Genome:
        pairs = zip(self._problem.variables, self._owner, rest, strict=True)
        genes = [gene_at(v, float(weights[p])) if p >= 0 else gene for v, p, gene in pairs]
        return self._problem.settled(np.array(genes))


def _check_weights(problem: Problem, parents: int) -> None:
    leading = [v for v in problem.variables if v.leading]
    if parents < 2 or any(v.parent == "all" or v.knob.split("/")[-1] != "weight" for v in leading):
        raise ConfigError(
            f"greedy adds parents one by one, but this space has weights of {parents} parents of their own. Use a "
            "method with a weight per parent (space.method=task_arithmetic, or linear with space.per_parent=[weight]), "
            "or optimizer=lambda_grid."
        )


def _new(rows: Sequence[Genome], current: Genome) -> list[int]:
    """Places of the rows that equal neither the current genome nor a row before them."""
    keys = [key_of(current), *map(key_of, rows)]
    return [i for i, key in enumerate(keys[1:]) if key not in keys[: i + 1]]


def _worth(result: Result) -> tuple[bool, float, float]:
    """Feasible first, then the least violation, then fitness (Deb 2000); failures last."""
    return result.error_code is None, -result.violation, result.fitness[0]
