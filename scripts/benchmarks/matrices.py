"""Matrices of known answers, as item banks with candidates whose true scores are known.

Leaderboards (npz: responses int8 (M, N), models, items, and optionally scenario (N,), full_score (M, S) with
full_score_cols) are cut into neighbourhoods: a tight family of models stands in for parents and their merges. The
frozen merges (npz: correct bool (M, N), margins, coefficients (M, G, E), kind, items "task:split:index") are merges.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evomerge.items import ItemBank, nothing_known
from evomerge.types import Metric

N_ENDPOINTS, N_CANDIDATES, N_OTHERS = 3, 40, 50
#: A family: models that differ from its centre on this share of the items.
NEAR, FAR = 0.02, 0.20


@dataclass(frozen=True, eq=False)
class Case:
    """A bank and candidates on it. answers: float64 (M, N). full: float64 (M,), score on the whole benchmark."""

    bank: ItemBank
    answers: np.ndarray
    full: np.ndarray | None = None

    @property
    def truth(self) -> np.ndarray:
        """float64 (M,): mean over tasks of the score on all items of the bank."""
        return scores(self.answers, self.bank)


def scores(answers: np.ndarray, bank: ItemBank) -> np.ndarray:
    """float64 (M,): mean over tasks, from answers (M, N) without gaps."""
    return np.asarray(answers @ bank.weights) / len(bank.tasks)


def bank_of(
    items: np.ndarray, task: np.ndarray, endpoints: np.ndarray, leaderboard: np.ndarray | None = None
) -> ItemBank:
    """A bank of accuracies. items, task: str (N,), any order of tasks; items of a task weigh the same."""
    tasks, place, counts = np.unique(task, return_inverse=True, return_counts=True)
    return ItemBank(
        tasks=tuple(map(str, tasks)),
        metrics=(Metric("acc", True),) * len(tasks),
        items=tuple(map(str, items)),
        task=place.astype(np.int64),
        weights=1 / counts[place],
        endpoints=endpoints,
        designs=nothing_known(len(items)),
        leaderboard=nothing_known(len(items)) if leaderboard is None else leaderboard,
    )


# ---------------------------------------------------------------- leaderboards


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """Distinct answer rows of many models. rows: float64 (M, N). full: float64 (M,) or None, as in Case."""

    name: str
    items: np.ndarray
    task: np.ndarray
    rows: np.ndarray
    full: np.ndarray | None


def read_leaderboard(path: Path) -> Leaderboard:
    """One npz; equal rows (re-uploads of one model) are kept once."""
    with np.load(path) as file:
        rows, first = np.unique(file["responses"], axis=0, return_index=True)
        task = file["scenario"] if "scenario" in file else np.full(rows.shape[1], path.stem)
        full = _full_scores(file["full_score"][first], file["full_score_cols"], task) if "full_score" in file else None
        return Leaderboard(path.stem, file["items"], task, rows.astype(np.float64), full)


def _full_scores(table: np.ndarray, columns: np.ndarray, task: np.ndarray) -> np.ndarray | None:
    """float64 (M,): mean of the columns that name a scenario ("arc" names "tinyarc"); None if one has no column."""
    found = [[i for i, c in enumerate(columns) if t.endswith(c)] for t in np.unique(task)]
    return table[:, [f[0] for f in found]].mean(1).astype(np.float64) if all(found) else None


def neighbourhood(board: Leaderboard, rng: np.random.Generator, *, others: int) -> Case:
    """A family of 3 endpoints and 40 candidates; `others` models (at most 50) from outside it are the leaderboard.

    The same generator gives the same family whatever `others`. Raises ValueError if the matrix holds no such family.
    """
    wanted = N_ENDPOINTS + N_CANDIDATES
    for centre in rng.permutation(len(board.rows)):
        apart = np.abs(board.rows - board.rows[centre]).mean(1)
        near = np.flatnonzero((apart >= NEAR) & (apart <= FAR))
        far = np.flatnonzero(apart > FAR)
        if len(near) >= wanted and len(far) >= N_OTHERS and board.rows[centre].mean() > FAR:
            pool = near[np.argsort(apart[near], kind="stable")][: wanted * 3 // 2]
            family = rng.permutation(pool)[:wanted]
            return _case(board, family[:N_ENDPOINTS], family[N_ENDPOINTS:], rng.permutation(far)[:others])
    raise ValueError(f"{board.name} has no {wanted} distinct models that differ on {NEAR:.0%} to {FAR:.0%} of items.")


def split(board: Leaderboard, rng: np.random.Generator, *, train: int = 300, test: int = 100) -> Case:
    """As tinyBenchmarks was tested: unrelated candidates, calibrated on other models; three of these are endpoints."""
    order = rng.permutation(len(board.rows))
    return _case(board, order[:N_ENDPOINTS], order[train : train + test], order[N_ENDPOINTS:train])


def _case(board: Leaderboard, endpoints: np.ndarray, candidates: np.ndarray, others: np.ndarray) -> Case:
    bank = bank_of(board.items, board.task, board.rows[endpoints], board.rows[others])
    return Case(bank, board.rows[candidates], None if board.full is None else board.full[candidates])


# ---------------------------------------------------------------- merges


@dataclass(frozen=True, eq=False)
class Merges:
    """Real merges, their parents and base, on all items. coefficients: float64 (M, G E). kind: str (M,)."""

    items: np.ndarray
    task: np.ndarray
    answers: np.ndarray
    margins: np.ndarray
    coefficients: np.ndarray
    kind: np.ndarray

    @property
    def endpoints(self) -> np.ndarray:
        """int64 (K,): base and parents."""
        return np.flatnonzero((self.kind == "base") | np.char.startswith(self.kind, "parent:"))

    @property
    def control(self) -> np.ndarray:
        """int64: merges by one common scale."""
        return np.flatnonzero(np.char.startswith(self.kind, "lambda:"))

    @property
    def healthy(self) -> np.ndarray:
        """int64: merges other than those far outside the usual coefficients, of which many have collapsed."""
        return np.setdiff1d(np.arange(len(self.kind)), [*self.endpoints, *np.flatnonzero(self._extreme)])

    @property
    def _extreme(self) -> np.ndarray:
        return np.isin(self.kind, ["wide", "collapsed"])

    @property
    def candidates(self) -> np.ndarray:
        """int64: all merges."""
        return np.setdiff1d(np.arange(len(self.kind)), self.endpoints)

    def case(self, candidates: np.ndarray, items: np.ndarray | None = None) -> Case:
        """These merges on these items (default: all); the bank has the endpoints' margins."""
        at = np.arange(len(self.items)) if items is None else items
        bank = bank_of(self.items[at], self.task[at], self.answers[np.ix_(self.endpoints, at)])
        bank = replace(bank, margins=self.margins[np.ix_(self.endpoints, at)])
        return Case(bank, self.answers[np.ix_(candidates, at)])


def read_merges(path: Path) -> Merges:
    with np.load(path) as file:
        return Merges(
            items=file["items"],
            task=np.array([str(i).split(":")[0] for i in file["items"]]),
            answers=file["correct"].astype(np.float64),
            margins=file["margins"].astype(np.float64),
            coefficients=file["coefficients"].reshape(len(file["kind"]), -1).astype(np.float64),
            kind=file["kind"],
        )
