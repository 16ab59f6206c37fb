"""Outcomes of many searches -> rows with intervals, tables, and the rule: which searcher for which size and budget."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Row, interval
from benchmarks.regret import Outcome
from benchmarks.searchers import GRID
from benchmarks.tables import table

#: A gap between grid and oracle under this many units of the score has no share that could be closed.
LEAST_GAP = 0.002
_RESAMPLES = 2000


@dataclass(frozen=True)
class Standings:
    """All outcomes of a benchmark. oracles: truth of the best genome, by landscape. kinds: landscape -> its size."""

    outcomes: Sequence[Outcome]
    oracles: Mapping[str, float]
    kinds: Mapping[str, str]

    def truths(self, landscape: str, searcher: str, budget: int) -> dict[int, float]:
        """Seed -> truth of what was returned."""
        return {
            o.seed: o.truth
            for o in self.outcomes
            if (o.landscape, o.searcher, o.budget) == (landscape, searcher, budget)
        }

    def rows(self) -> list[Row]:
        """One per landscape, searcher and budget, in that order."""
        cells: dict[tuple[str, str, int], list[float]] = defaultdict(list)
        for o in self.outcomes:
            cells[o.landscape, o.searcher, o.budget].append(o.truth)
        return [
            {"landscape": at, "searcher": searcher, "evaluations": budget, "seeds": len(truths)}
            | _regret(self.oracles[at] - np.array(truths))
            | {"gap_closed": _closed(truths, cells[at, GRID, budget], self.oracles[at])}
            for (at, searcher, budget), truths in cells.items()
        ]

    def lead(self, one: str, other: str, places: Iterable[tuple[str, int]]) -> np.ndarray:
        """float64 (n,): what `one` returned above `other`, seed by seed, over (landscape, budget)."""
        pairs = ((self.truths(at, one, budget), self.truths(at, other, budget)) for at, budget in places)
        return np.array([a[seed] - b[seed] for a, b in pairs for seed in a.keys() & b.keys()])


def _regret(regrets: np.ndarray) -> Row:
    """The median and its 95% percentile bootstrap interval."""
    picks = np.random.default_rng(0).integers(0, len(regrets), (_RESAMPLES, len(regrets)))
    low, high = np.quantile(np.median(regrets[picks], axis=1), (0.025, 0.975))
    return {"regret_median": float(np.median(regrets)), "regret_low": float(low), "regret_high": float(high)}


def _closed(truths: Sequence[float], grid: Sequence[float], oracle: float) -> float | None:
    gap = oracle - float(np.median(grid))
    return None if gap < LEAST_GAP else float(np.median(truths) - np.median(grid)) / gap


# ---------------------------------------------------------------- in words


def landscape_table(rows: Sequence[Row], landscape: str) -> str:
    """A line per searcher, best at the largest budget first; a cell is regret in points, its interval, gap closed."""
    mine = [r for r in rows if r["landscape"] == landscape]
    budgets = sorted({r["evaluations"] for r in mine})
    cells = {(r["searcher"], r["evaluations"]): r for r in mine}
    order = sorted({r["searcher"] for r in mine}, key=lambda s: (cells[s, budgets[-1]]["regret_median"], s))
    lines = [[s, str(cells[s, budgets[0]]["seeds"]), *(_cell(cells[s, b]) for b in budgets)] for s in order]
    return table(["searcher", "seeds", *map(str, budgets)], lines)


def _cell(row: Row) -> str:
    median, low, high = (100 * row[f"regret_{end}"] for end in ("median", "low", "high"))
    share = row["gap_closed"]
    return f"{median:.1f} [{low:.1f}, {high:.1f}]" + ("" if share is None else f" {100 * share:+.0f}%")


def rule(standings: Standings, rows: Sequence[Row]) -> list[str]:
    """The searcher of least median regret, averaged over landscapes of a kind, and those not worse beyond noise."""
    lines = []
    for kind in dict.fromkeys(standings.kinds.values()):
        mine = [at for at, k in standings.kinds.items() if k == kind]
        for budget in sorted({r["evaluations"] for r in rows}):
            means = _mean_regrets([r for r in rows if r["landscape"] in mine and r["evaluations"] == budget], len(mine))
            best = min(means, key=lambda s: means[s])
            places = [(at, budget) for at in mine]
            level = [s for s in means if s != best and _low(standings.lead(best, s, places)) <= 0]
            near = sorted(level, key=lambda s: means[s])
            also = f"; within noise: {', '.join(near)}" if near else ""
            lines.append(f"{kind}, {budget} evaluations: {best} ({100 * means[best]:.1f} points of regret){also}")
    return lines


def _mean_regrets(rows: Sequence[Row], n_landscapes: int) -> dict[str, float]:
    """Of searchers that served all landscapes of a kind."""
    found: dict[str, list[float]] = defaultdict(list)
    for r in rows:
        found[r["searcher"]].append(r["regret_median"])
    return {searcher: float(np.mean(v)) for searcher, v in found.items() if len(v) == n_landscapes}


def _low(values: np.ndarray) -> float:
    return float(interval("x", values)["x_low"])


def duels(standings: Standings, default: str, budgets: Sequence[int]) -> list[str]:
    """Where `default` loses to the grid beyond noise (paired over seeds, 95%) or closes under half of the gap."""
    served = [at for at in standings.kinds if standings.truths(at, default, budgets[0])]
    if not served:
        return [f"{default} was not run: nothing to say of it against {GRID}."]
    lost = [line for at in served for b in budgets if (line := _lost(standings, default, at, b))]
    return [
        *(lost or [f"{default} never loses to {GRID} by more than noise ({', '.join(served)})."]),
        *_under_half(standings, default, served, budgets[-1]),
    ]


def _lost(standings: Standings, default: str, landscape: str, budget: int) -> str:
    lead = 100 * standings.lead(default, GRID, [(landscape, budget)])
    low, high = interval("x", lead).values()
    return (
        f"{default} LOSES to {GRID} on {landscape} at {budget}: {lead.mean():+.1f} points [{low:+.1f}, {high:+.1f}]"
        if high < 0
        else ""
    )


def _under_half(standings: Standings, default: str, landscapes: Sequence[str], budget: int) -> list[str]:
    lines = []
    for at in landscapes:
        own, grid = (list(standings.truths(at, s, budget).values()) for s in (default, GRID))
        share = _closed(own, grid, standings.oracles[at])
        if share is not None and share < 0.5:
            lines.append(
                f"{default} closes {100 * share:.0f}% of the gap to the oracle on {at} at {budget}: under half."
            )
    return lines or [f"{default} closes at least half of the gap to the oracle at {budget}."]


# ---------------------------------------------------------------- the picture


def plot(rows: Sequence[Row], file: Path) -> None:
    """Regret against evaluations, one panel per landscape, written to a file."""
    from matplotlib.figure import Figure

    names, searchers, budgets = (
        list(dict.fromkeys(r[key] for r in rows)) for key in ("landscape", "searcher", "evaluations")
    )
    across = min(len(names), 3)
    down = -(-len(names) // across)
    figure = Figure(figsize=(5 * across, 4 * down), layout="constrained")
    for axes, name in zip(figure.subplots(down, across, squeeze=False).flat, names, strict=False):
        for place, searcher in enumerate(searchers):
            _line(axes, [r for r in rows if (r["landscape"], r["searcher"]) == (name, searcher)], place, searcher)
        axes.set(title=name, xlabel="evaluations", ylabel="median regret, points", xscale="log", ylim=(0, None))
        axes.set_xticks(budgets, map(str, budgets))
        axes.minorticks_off()
    handles = {str(h.get_label()): h for axes in figure.axes for h in axes.get_lines()}
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=8, frameon=False)
    for empty in figure.axes[len(names) :]:
        empty.remove()
    figure.savefig(file, dpi=120)


def _line(axes: Any, rows: Sequence[Row], place: int, searcher: str) -> None:
    if not rows:
        return
    x, style = [r["evaluations"] for r in rows], "--" if searcher == GRID else "-"
    colour = f"C{place % 10}"
    marker = "os^"[place // 10 % 3]
    axes.plot(x, [100 * r["regret_median"] for r in rows], style, color=colour, marker=marker, label=searcher)
