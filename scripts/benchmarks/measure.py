"""How good estimates are: error, ranks, regret and coverage, draw by draw, and their means with bootstrap intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from benchmarks import members
from benchmarks.matrices import Case
from evomerge.errors import ConfigError
from evomerge.items import Draw, Observed
from evomerge.types import Estimate

Row = dict[str, Any]
#: What one draw is measured by; all but the last four are in units of the score.
MEASURES = ("mae", "spearman", "regret", "bias", "curse", "coverage", "task_coverage", "full_mae")
_RESAMPLES = 2000


def observed(ident: int, answers: np.ndarray, draw: Draw) -> Observed:
    """What a candidate of known answers (N,) says to a draw."""
    return Observed(ident, draw.index, answers[draw.index], draw.weights)


def combined(tasks: Sequence[Estimate]) -> Estimate:
    """The mean over tasks; their errors count as independent."""
    value = sum(e.value for e in tasks) / len(tasks)
    stderr = float(np.sqrt(sum(e.stderr**2 for e in tasks))) / len(tasks)
    return Estimate(value, stderr, sum(e.n_items for e in tasks))


def covered(values: np.ndarray, stderrs: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """bool: whether the 95% interval holds the truth; an exact estimate holds it."""
    return np.asarray(np.abs(values - truth) <= 1.96 * stderrs + 1e-9)


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation; 0 where one of the two tells nothing apart."""
    ranks = np.stack([rankdata(np.round(a, 12)), rankdata(np.round(b, 12))])
    spread = ranks.std(1)
    return float(np.corrcoef(ranks)[0, 1]) if spread.min() > 0 else 0.0


def regret(values: np.ndarray, truth: np.ndarray) -> float:
    """The best candidate's true score minus that of the one which looks best; of equals, their mean."""
    return float(truth.max() - truth[values >= values.max() - 1e-12].mean())


def outcome(estimates: Sequence[tuple[Estimate, ...]], case: Case) -> dict[str, float]:
    """MEASURES of one draw's estimates of all candidates of a case."""
    total = [combined(tasks) for tasks in estimates]
    values, stderrs, truth = np.array([e.value for e in total]), np.array([e.stderr for e in total]), case.truth
    best = int(np.argmax(values))
    found = {
        "mae": float(np.abs(values - truth).mean()),
        "spearman": spearman(values, truth),
        "regret": regret(values, truth),
        "bias": float((values - truth).mean()),
        "curse": float(values[best] - truth[best]),
        "coverage": float(covered(values, stderrs, truth).mean()),
        "task_coverage": _task_coverage(estimates, case),
    }
    return found if case.full is None else found | {"full_mae": float(np.abs(values - case.full).mean())}


def _task_coverage(estimates: Sequence[tuple[Estimate, ...]], case: Case) -> float:
    table = np.array([[(e.value, e.stderr) for e in tasks] for tasks in estimates])  # (M, T, 2)
    bank = case.bank
    truth = np.stack([case.answers[:, p] @ bank.weights[p] for p in map(bank.places, range(len(bank.tasks)))], axis=1)
    return float(covered(table[..., 0], table[..., 1], truth).mean())


# ---------------------------------------------------------------- many draws


def trials(
    case_of: Callable[[int], Case], draws: int, items: Sequence[int], estimators: Sequence[str], notes: set[str]
) -> Iterator[tuple[str, int, str, dict[str, float]]]:
    """(subset, n, estimator, outcome) of every draw; estimators are fitted once per bank.

    A subset that refuses a bank (too few models) is told in `notes` and left out for it.
    """
    last: Case | None = None
    for number in range(draws):
        case = case_of(number)
        if case is not last:
            fitted = {name: members.fit(name, case.bank) for name in estimators}
            last, samplers = case, {}
        for name in members.SUBSETS:
            for n in items:
                if (name, n) not in samplers:
                    samplers[name, n] = _sampler(name, n, case, number, notes)
                if sampler := samplers[name, n]:
                    draw = sampler.draw(number)
                    seen = [observed(i, row, draw) for i, row in enumerate(case.answers)]
                    for estimator, fit in fitted.items():
                        yield name, n, estimator, outcome(fit.estimate(seen), case)


def _sampler(name: str, n: int, case: Case, seed: int, notes: set[str]) -> Any:
    try:
        return members.subset(name, n).fit(case.bank, seed)
    except ConfigError as refusal:
        notes.add(f"{name}: {refusal}")
        return None


def rows(data: str, found: Iterator[tuple[str, int, str, dict[str, float]]], against: str) -> list[Row]:
    """One row per subset, n and estimator; `against`: the estimator whose gain over each other one is told."""
    cells: dict[tuple[str, int, str], list[dict[str, float]]] = defaultdict(list)
    for subset, n, estimator, one in found:
        cells[subset, n, estimator].append(one)
    columns = {key: {m: np.array([o[m] for o in group]) for m in group[0]} for key, group in cells.items()}
    return [
        {"data": data, "subset": s, "estimator": e, "items": n, "draws": len(cells[s, n, e])}
        | summary(columns[s, n, e])
        | (_gain(columns[s, n, e], columns[s, n, against]) if e != against else {})
        for s, n, e in columns
    ]


def summary(columns: Mapping[str, np.ndarray]) -> Row:
    """The mean of every measure, with NAME_low and NAME_high."""
    row: Row = {}
    for name, values in columns.items():
        row |= {name: float(values.mean())} | interval(name, values)
    return row


def _gain(own: Mapping[str, np.ndarray], rival: Mapping[str, np.ndarray]) -> Row:
    """What `rival` gains over `own` on the same draws: higher rank correlation, smaller error."""
    better = {"gain_spearman": rival["spearman"] - own["spearman"], "gain_mae": own["mae"] - rival["mae"]}
    return summary(better)


def interval(name: str, values: np.ndarray) -> Row:
    """95% percentile bootstrap of the mean, from a seed of its own so that equal values give equal intervals."""
    picks = np.random.default_rng(0).integers(0, len(values), (_RESAMPLES, len(values)))
    low, high = np.quantile(values[picks].mean(1), (0.025, 0.975))
    return {f"{name}_low": float(low), f"{name}_high": float(high)}
