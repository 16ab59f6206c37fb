"""Which searcher finds good merges with how few evaluations? Regret on landscapes of known answers, without a model.

    python scripts/bench_search.py --data DIR                           # 20 seeds of everything: see --jobs
    python scripts/bench_search.py --data DIR --quick                   # under two minutes: 2 seeds of two landscapes
    python scripts/bench_search.py --data DIR --json rows.json --plot regret.png --searchers cma_es tpe

DIR/zoo_merges/margins.npz is a matrix of real merges (scripts/benchmarks/matrices.py tells its arrays); three
landscapes are fitted to it, three are made up and need no DIR. scripts/benchmarks/regret.py tells how a search is
driven. Every row of the JSON has landscape, searcher, evaluations (the budget), seeds, regret_median with its 95%
bootstrap interval regret_low, regret_high (in units of the score, 0 to 1), and gap_closed: the share of the gap
between lambda_grid's median and the oracle that the searcher's median closes, null where there is no gap.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks import standings
from benchmarks.landscapes import NAMES, ZOO, Landscape, landscapes
from benchmarks.measure import Row
from benchmarks.regret import ASSISTED, Outcome, outcomes
from benchmarks.searchers import GRID, MOST_SEEDS, PARETO, TPE, default_names, has_optuna, members, unfit

BUDGETS, QUICK_BUDGETS = (40, 100, 200, 400), (40, 100)
SEEDS, QUICK_SEEDS = 20, 2
QUICK_LANDSCAPES = ("zoo3", "checkpoints16")


def main(arguments: Sequence[str] | None = None) -> None:
    asked = _completed(_parser().parse_args(arguments))
    chosen = landscapes(asked.data, asked.landscapes)
    if not chosen:
        raise SystemExit(f"{', '.join(asked.landscapes)}: need --data DIR with zoo_merges/margins.npz.")
    found = standings.Standings(
        [o for landscape in chosen for o in _measured(landscape, asked)],
        {at.name: at.oracle() for at in chosen},
        {at.name: _kind(at) for at in chosen},
    )
    rows = found.rows()
    _conclude(found, rows, asked)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")
    if asked.plot:
        standings.plot(rows, asked.plot)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with zoo_merges/; without it, no zoo")
    parser.add_argument("--quick", action="store_true", help="few seeds, small budgets, two landscapes")
    parser.add_argument("--landscapes", nargs="+", choices=NAMES, help="default: all")
    parser.add_argument("--searchers", nargs="+", metavar="NAME", help="of conf/optimizer, NAME@GROUPS, or tpe")
    parser.add_argument("--budgets", nargs="+", type=int, help=f"default {BUDGETS}")
    parser.add_argument("--seeds", type=int, help=f"default {SEEDS}; at most {MOST_SEEDS} of the slow ones")
    parser.add_argument("--estimator", default="merit", choices=(*ASSISTED, "mean", "post_strat"))
    parser.add_argument("--default", default="coarse_to_fine", metavar="NAME", help="who must not lose to lambda_grid")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows there")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw regret against evaluations")
    return parser


def _completed(asked: argparse.Namespace) -> argparse.Namespace:
    """What was left out, by --quick or not; lambda_grid always runs, for the gap begins there."""
    asked.landscapes = asked.landscapes or (QUICK_LANDSCAPES if asked.quick else NAMES)
    asked.budgets = sorted(asked.budgets or (QUICK_BUDGETS if asked.quick else BUDGETS))
    asked.seeds = asked.seeds or (QUICK_SEEDS if asked.quick else SEEDS)
    asked.searchers = list(dict.fromkeys([GRID, *(asked.searchers or default_names())]))
    known = {*members(), *([TPE] if has_optuna() else [])}
    if strange := [s for s in asked.searchers if s.partition("@")[0] not in known]:
        raise SystemExit(f"no searcher {', '.join(strange)}; known: {', '.join(sorted(known))}, or NAME@GROUPS.")
    for note in _left_out(asked):
        print(f"left out: {note}")
    return asked


def _left_out(asked: argparse.Namespace) -> Iterator[str]:
    if not asked.data and (zoo := [name for name in asked.landscapes if name in ZOO]):
        yield f"landscapes {', '.join(zoo)}, which need --data DIR"
    if not has_optuna():
        yield "searcher tpe, which needs Optuna (pip install optuna)"
    if pareto := [s for s in PARETO if s not in asked.searchers]:
        yield f"searchers {', '.join(pareto)}, made for several goals (name them to see them)"


def _kind(landscape: Landscape) -> str:
    if landscape.problem.discrete:
        return f"{landscape.problem.size} variables with choices"
    size = landscape.problem.size
    return next((f"up to {most} variables" for most in (3, 9, 18) if size <= most), "more than 18 variables")


def _measured(landscape: Landscape, asked: argparse.Namespace) -> list[Outcome]:
    """All searches on one landscape, and their table."""
    started, oracle = time.monotonic(), landscape.oracle()
    reasons = {s: unfit(s, landscape.problem) for s in asked.searchers}
    _say(f"{landscape.name}: oracle {oracle:.4f} after {time.monotonic() - started:.0f} s")
    jobs = [
        (landscape, searcher, seed, asked.budgets, asked.estimator)
        for searcher, reason in reasons.items()
        if not reason
        for seed in range(min(asked.seeds, MOST_SEEDS.get(searcher, asked.seeds)))
    ]
    found = [o for run in _run(jobs, asked.jobs) for o in run]
    title = f"{landscape.name}: {landscape.problem.size} variables, oracle {100 * oracle:.1f}"
    print(f"\n## {title}, {time.monotonic() - started:.0f} s; {landscape.note}\n")
    print("regret in points [95% of the median] and share of the gap between lambda_grid and the oracle\n")
    print(standings.landscape_table(standings.Standings(found, {landscape.name: oracle}, {}).rows(), landscape.name))
    print("".join(f"not served: {s}, {reason}\n" for s, reason in reasons.items() if reason), flush=True)
    return found


def _run(jobs: Sequence[tuple[Landscape, str, int, list[int], str]], processes: int) -> Iterator[tuple[Outcome, ...]]:
    """In the order of jobs, whatever the number of processes."""
    if processes == 1:
        yield from map(_one, jobs)
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_one, jobs)


def _one(job: tuple[Landscape, str, int, list[int], str]) -> tuple[Outcome, ...]:
    started = time.monotonic()
    found = outcomes(*job)
    _say(f"{job[0].name} {job[1]} seed {job[2]}: {time.monotonic() - started:.1f} s")
    return found


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _conclude(found: standings.Standings, rows: Sequence[Row], asked: argparse.Namespace) -> None:
    print("\n## the rule: least median regret, and who is not worse beyond noise (paired over seeds, 95%)\n")
    print("\n".join(standings.rule(found, rows)))
    print(f"\n## {asked.default} against {GRID}\n")
    print("\n".join(standings.duels(found, asked.default, asked.budgets)), flush=True)


if __name__ == "__main__":
    main()
