"""Whole searches on real models side by side: ours, a grid over one scale, a random draw, and what others search with.

    python scripts/bench_zoo.py --run DIR --quick           # few items of the embedded zoo: under two minutes
    python scripts/bench_zoo.py parents.base=BASE 'parents.models=[A,B]' 'task.names=[t1,t2]' task.include_path=TASKS \\
        --run DIR --seeds 1 2 3 --evaluations 60 --json rows.json --plot gaps.png
    python scripts/bench_zoo.py --run DIR --summary         # tables of what is on file

Each search is a run of its own in DIR; the same line again goes on where it stopped, and what base and parents answer
is asked once for all. Every search may score as many candidates, those of its control included, each on as many items:

    default           the settings as shipped, control included
    lambda_grid       one common scale, 20 values of it (fewer if there are fewer evaluations)
    uniform           random genomes
    mergekit_evolve   experiment=mergekit_evolve: its genome, start, first step and population, items drawn once
    mergenetic_ga     experiment=mergenetic_ga: its grid of TIES weights and densities, operators, random population of
                      25, or below 175 evaluations of 7, as in its demo

All of them estimate, except the last two: they take plain means and bring their best candidate only (finalists=1).
The winner is what a run's own selection chose, base, parents and average among the finalists. All scores are of test
items. gap closed: (score - base) / (best parent - base), the mean of the tasks, a gap counting 0.1 at least; without a
base the plain average is in its place. kept: score / best parent's. A row of the JSON has search, seeds, evaluations,
items and seconds (means of search and control), test_mean, and the median over seeds of gap_closed and kept with the
95% bootstrap interval of the median as NAME_low and NAME_high: of three seeds that is their range.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.outcomes import by_run, by_search, outcomes, plot, summary

from evomerge import api, config
from evomerge.errors import EvomergeError
from evomerge.overrides import assign

SEARCHES = ("default", "lambda_grid", "uniform", "mergekit_evolve", "mergenetic_ga")
EVALUATIONS, QUICK_EVALUATIONS = 60, 24
QUICK_ITEMS = {"validation": 60, "test": 50}


def main(arguments: Sequence[str] | None = None) -> int:
    asked = options(arguments)
    failed = [] if asked.summary else run_all(asked)
    found = outcomes(asked.run, SEARCHES)
    if not found:
        raise SystemExit(f"{asked.run} holds no finished run of this benchmark.")
    rows = summary(found)
    print(f"\n{by_run(found)}\n\nmedians over seeds [95% interval]\n\n{by_search(rows)}")
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")
    if asked.plot:
        plot(rows, found, asked.plot)
    return 1 if failed else 0


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("settings", nargs="*", metavar="SETTING", help="KEY=VALUE for all searches; none: pico zoo")
    parser.add_argument("--run", required=True, type=Path, metavar="DIR", help="folder of the runs")
    parser.add_argument("--seeds", nargs="+", type=int, help="default 1 2 3; quick: 1")
    parser.add_argument("--evaluations", type=int, help=f"of each search (default {EVALUATIONS})")
    parser.add_argument("--searches", nargs="+", choices=SEARCHES, default=SEARCHES)
    parser.add_argument("--quick", action="store_true", help=f"few items, {QUICK_EVALUATIONS} evaluations")
    parser.add_argument("--summary", action="store_true", help="only the tables of the runs on file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    asked = parser.parse_intermixed_args(arguments)
    asked.seeds = asked.seeds or ([1] if asked.quick else [1, 2, 3])
    asked.evaluations = asked.evaluations or (QUICK_EVALUATIONS if asked.quick else EVALUATIONS)
    asked.settings = [*(quick_settings(asked.run) if asked.quick else ()), *asked.settings]
    return asked


def quick_settings(folder: Path) -> list[str]:
    """Two tasks of the embedded zoo with few items, copied beside the runs."""
    tasks = folder / "tasks"
    shutil.copytree(config.ZOO / "pico" / "tasks", tasks, dirs_exist_ok=True)
    for split, n in QUICK_ITEMS.items():
        for path in tasks.glob(f"data/*_{split}.jsonl"):
            path.write_text("".join(path.read_text().splitlines(keepends=True)[:n]))
    return ["task.names=[pico_add,pico_rev]", assign("task.include_path", str(tasks)), "finalists=1"]


# ---------------------------------------------------------------- the searches


def run_all(asked: argparse.Namespace) -> list[str]:
    """Runs every search with every seed, or what is left of them; returns the names of those that failed."""
    todo = [(name, seed) for seed in asked.seeds for name in asked.searches]  # a seed's searches first, to compare soon
    failed = []
    for number, (name, seed) in enumerate(todo, start=1):
        print(f"[{number}/{len(todo)}] {name}, seed {seed}", file=sys.stderr, flush=True)
        kind, settings = recipe(name, asked.evaluations, asked.settings)
        try:
            api.search(
                *settings,
                *asked.settings,
                f"seed={seed}",
                run=asked.run / f"{kind},seed={seed}",
                progress=sys.stderr.isatty(),
            )
        except EvomergeError as e:
            print(f"{name}, seed {seed} failed: {e}", file=sys.stderr)
            failed.append(name)
    return failed


def recipe(name: str, evaluations: int, settings: Sequence[str]) -> tuple[str, list[str]]:
    """The folder of a search for so many candidates (named by what makes it another run, too), and its settings."""
    points, population = min(evaluations, 20), 25 if evaluations >= 175 else 7
    folder, own = {
        "default": (name, []),
        "lambda_grid": (f"{name}-{points}", ["optimizer=lambda_grid", f"optimizer.points={points}", "control=none"]),
        "uniform": (name, ["optimizer=uniform", "control=none"]),
        "mergekit_evolve": (name, theirs(name, "cma_es")),
        "mergenetic_ga": (f"{name}-{population}", [*theirs(name, "ga"), f"optimizer.population={population}"]),
    }[name]
    left = evaluations - (control_size(settings) if name == "default" else 0)
    return folder, [*own, f"budget.evaluations={left}"]


def theirs(preset: str, optimizer: str) -> list[str]:
    return [f"experiment={preset}", f"optimizer._target_=benchmarks.starts.{optimizer}", "control=none", "finalists=1"]


def control_size(settings: Sequence[str]) -> int:
    """Candidates of the control that a search with these settings has beside it."""
    control = config.settings(settings).get("control") or {}
    return int(control.get("points") or control.get("batch") or 0)


if __name__ == "__main__":
    sys.exit(main())
