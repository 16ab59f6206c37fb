"""How well do estimators score merges from few items? Error, rank correlation and regret on matrices of known answers.

    python scripts/bench_estimators.py --data DIR                  # all of it: about half an hour on one core
    python scripts/bench_estimators.py --data DIR --quick          # under two minutes: few draws, wide intervals
    python scripts/bench_estimators.py --data DIR --json rows.json --parts merges searches

DIR/irt/*.npz are answer matrices of leaderboards, DIR/zoo_merges/margins.npz is one of merges; either may be missing.
scripts/benchmarks/matrices.py tells their arrays. Every row of the JSON has data, subset, estimator, items (asked of
each candidate; of a search, its whole budget), draws (repetitions), mae, spearman and regret, in units of the score (0
to 1), and NAME_low, NAME_high: a 95% bootstrap interval over the draws. gain_NAME: what MERIT gains over the row's
estimator on the same draws. curse: the best candidate's estimate less its true score. full_mae: error against the
score on the whole benchmark, of which the matrix holds a part. "merit+margins" is MERIT on its endpoints' margins.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from benchmarks import members, tables
from benchmarks.campaign import campaign, items_to_regret, search_rows
from benchmarks.matrices import N_OTHERS, Case, Leaderboard, Merges, neighbourhood, read_leaderboard, read_merges, split
from benchmarks.measure import Row, rows, trials
from benchmarks.replay import searchable

#: Other models that a leaderboard's bank is calibrated on beside its endpoints.
OTHERS = (0, N_OTHERS)
CELL = ("mae", "spearman", "regret")


@dataclass(frozen=True)
class Effort:
    """How much is run. draws: of items, and with each a family of models; splits: of unrelated models (slow).

    sizes: items asked of a candidate. searches: of each setting, at these budgets of items.
    """

    draws: int
    splits: int
    sizes: tuple[int, ...]
    searches: int
    budgets: tuple[int, ...]


FULL = Effort(30, 5, (25, 50, 100, 200), 30, (1200, 2400, 4800))
QUICK = Effort(2, 0, (50,), 2, (1200,))


def main(arguments: Sequence[str] | None = None) -> None:
    asked = _parser().parse_args(arguments)
    found: list[Row] = []
    for part in asked.parts:
        found += PARTS[part](asked.data, _effort(asked))
    if not found:
        raise SystemExit(f"{asked.data} has neither irt/*.npz nor zoo_merges/margins.npz: nothing was measured.")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="folder with irt/ and zoo_merges/")
    parser.add_argument("--quick", action="store_true", help="few draws of everything")
    parser.add_argument("--draws", type=int, help=f"draws of items (default {FULL.draws}; quick {QUICK.draws})")
    parser.add_argument("--searches", type=int, help=f"per setting (default {FULL.searches}; quick {QUICK.searches})")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows there")
    return parser


def _effort(asked: argparse.Namespace) -> Effort:
    default = QUICK if asked.quick else FULL
    return replace(default, draws=asked.draws or default.draws, searches=asked.searches or default.searches)


# ---------------------------------------------------------------- the parts


def merges(data: Path, effort: Effort) -> list[Row]:
    """Draws of items from the frozen merges: without and with those that are far out or collapsed."""
    found: list[Row] = []
    for path in sorted(data.glob("zoo_merges/margins.npz")):
        frozen = read_merges(path)
        names = (*members.ESTIMATORS, members.MARGINS)
        for label, candidates in (("healthy", frozen.healthy), ("all", frozen.candidates)):
            case = frozen.case(candidates)
            found += _measured(f"zoo_merges/{label}", partial(_always, case), effort.draws, effort.sizes, names)
    return found


def leaderboards(data: Path, effort: Effort) -> list[Row]:
    """Families of models of a leaderboard with few or many other models known; and unrelated models."""
    found: list[Row] = []
    for path in sorted(data.glob("irt/*.npz")):
        board = read_leaderboard(path)
        sizes = tuple(n for n in effort.sizes if 2 * n <= len(board.items))
        for others in OTHERS if sizes else ():
            case_of = partial(_family, board, others)
            found += _measured(f"{board.name}/L={others}", case_of, effort.draws, sizes, members.ESTIMATORS)
        if effort.splits and len(board.items) > 200:  # else 100 items are all there are, or nearly
            found += _measured(
                f"{board.name}/unrelated", partial(_unrelated, board), effort.splits, (100,), members.ESTIMATORS
            )
    return found


def _always(case: Case, number: int) -> Case:
    return case


def _family(board: Leaderboard, others: int, number: int) -> Case:
    return neighbourhood(board, np.random.default_rng(number), others=others)


def _unrelated(board: Leaderboard, number: int) -> Case:
    return split(board, np.random.default_rng(number))


def _measured(
    data: str, case_of: Callable[[int], Case], draws: int, sizes: Sequence[int], names: Sequence[str]
) -> list[Row]:
    print(f"measuring {data} ...", file=sys.stderr)
    started, notes = time.monotonic(), set[str]()
    found = rows(data, trials(case_of, draws, sizes, names, notes), names[-1])
    cells = (*CELL, "full_mae") if "full_mae" in found[0] else CELL
    print(f"\n## {data}: {draws} draws, {time.monotonic() - started:.0f} s; in points: {', '.join(cells)}\n")
    print(tables.by_items(found, cells))
    print(f"\nbias, coverage of 95% intervals (all tasks; one task), estimate less truth of the best, {data}\n")
    print(tables.by_items(found, ("bias", "coverage", "task_coverage", "curse")))
    print(f"\ngain of {names[-1]} in Spearman [95% interval], {data}\n")
    print(tables.by_items(found, ("gain_spearman",)))
    print("\n".join(["", *(f"not served: {note}" for note in sorted(notes))]), flush=True)
    return found


def searches(data: Path, effort: Effort) -> list[Row]:
    """Whole searches replayed on the frozen merges."""
    found: list[Row] = []
    for path in sorted(data.glob("zoo_merges/margins.npz")):
        print(f"replaying searches on {path} ...", file=sys.stderr)
        started = time.monotonic()
        frozen = read_merges(path)
        replays = campaign(frozen, effort.sizes, effort.budgets, effort.searches)
        run, reached = search_rows("zoo_merges/search", replays), items_to_regret("zoo_merges/items_to_regret", replays)
        print(f"\n## searches: {effort.searches} of each setting, {time.monotonic() - started:.0f} s; scores in points")
        print(f"{_ceiling(frozen)}\n\n{tables.searches(run)}")
        print("\nsearch items to a mean regret, best n of each way; saved against the first, in % [95% interval]\n")
        print(tables.reached(reached), flush=True)
        found += run + reached
    return found


def _ceiling(frozen: Merges) -> str:
    pool, control = (frozen.case(c).truth.max() for c in (searchable(frozen), frozen.control))
    return f"best merge that a search can return {100 * pool:.1f}, best common scale (control) {100 * control:.1f}"


PARTS: dict[str, Callable[[Path, Effort], list[Row]]] = {
    "merges": merges,
    "leaderboards": leaderboards,
    "searches": searches,
}

if __name__ == "__main__":
    main()
