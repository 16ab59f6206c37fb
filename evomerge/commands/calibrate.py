"""evomerge calibrate: what base, parents and some merges answer to every search item, asked once and kept in a file."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomerge.commands import asking
from evomerge.errors import ConfigError

if TYPE_CHECKING:
    from evomerge.calibration.imports import Imported
    from evomerge.calibration.run import Calibrated
    from evomerge.journal import Watch
    from evomerge.reports.grids import Grid
    from evomerge.types import Work

HELP = """\
usage: evomerge calibrate [KEY=VALUE ...] --to FILE.npz [--designs N] [--import FILE ...] [--config-dir DIR]

Asks base, parents and their plain average every search item, once, and keeps the answers. Searches with the same
settings take them from there instead of paying again (calibration.use=[FILE.npz]); subsets and estimators learn from
them which items tell merges apart. The same line again goes on where it was stopped.
Settings are those of `evomerge search`.

  --to FILE.npz      arrays without pickled objects; a file of the same settings is added to
  --designs N        N merges drawn from the space by the seed, too (search them with calibration.designs=N)
  --import FILE      other models' answers: a matrix (.csv, .npz), lm-eval's samples_*.jsonl or their folder;
                     may be given again. Items are matched by their content: columns are named TASK/ITEM
  --config-dir DIR   look for your own config files in DIR, too

examples
  evomerge calibrate --to answers.npz
  evomerge calibrate parents.base=BASE 'parents.models=[A,B]' 'task.names=[my_task]' task.include_path=tasks \\
      --to answers.npz --designs 12
  evomerge calibrate --to answers.npz --import leaderboard.csv --import lm_eval_output
  evomerge search calibration.designs=12 'calibration.use=[answers.npz]' run=outputs/first
"""


def main(args: list[str]) -> int:
    if "-h" in args or "--help" in args:
        print(HELP, end="")
        return 0
    parser = argparse.ArgumentParser(prog="evomerge calibrate", add_help=False, allow_abbrev=False)
    parser.add_argument("--to", metavar="FILE.npz", type=Path)
    parser.add_argument("--designs", metavar="N", type=int, default=0)
    parser.add_argument("--import", metavar="FILE", type=Path, action="append", default=[], dest="imports")
    parser.add_argument("--config-dir", action="append", default=[])
    options, overrides = parser.parse_known_args(args)
    asking.refuse_options(overrides)
    if options.to is None or options.to.suffix != ".npz":
        raise ConfigError(f"--to is {options.to}; wanted the file for the answers: --to FILE.npz.")
    if options.designs < 0:
        raise ConfigError(f"--designs is {options.designs}; wanted 0 or more.")
    asking.interrupt_on_term()
    return calibrate(overrides, options)


def calibrate(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Ask, keep, and print what is on file; on Ctrl-C say how to go on."""
    from rich.console import Console

    from evomerge.reports.table import table

    asking.hush()
    console = Console(stderr=True)
    with console.status("checking settings, parents and tasks"):
        works, evaluator, executor, settings = _prepared(overrides, options)
        imported = _imported(options.imports, evaluator.tasks)
    try:
        found = _asked(works, evaluator, executor, settings, imported, options.to, console)
    except KeyboardInterrupt:
        print(f"stopped; what was asked is in {shlex.quote(str(options.to))}. The same line goes on.", file=sys.stderr)
        return 130
    out = Console(width=None if sys.stdout.isatty() else 110, highlight=False, soft_wrap=True)
    out.print(table(_grid(works, found, evaluator.tasks)))
    for line in _lines(found, imported, options.to):
        out.print(line, markup=False)
    return 0


def _prepared(overrides: Sequence[str], options: argparse.Namespace) -> tuple[list[Work], Any, Any, str]:
    """Everything made and checked as for a search, cheap things first."""
    from evomerge import config
    from evomerge.calibration.key import settings_of
    from evomerge.calibration.run import bank_works, designs
    from evomerge.ingredients import load_measures, load_tasks, make_evaluator, open_parents
    from evomerge.searcher import make_space
    from evomerge.spaces.references import references

    cfg = config.settings(overrides, options.config_dir)
    executor = config.make("executor", cfg.executor)
    family = open_parents(cfg)
    pool = family.pool()
    dtype = pool.dtype if cfg.dtype == "auto" else cfg.dtype
    recipes = references(pool, seed=cfg.seed, dtype=dtype)
    space = make_space(cfg, pool, seed=cfg.seed, dtype=dtype)
    tasks = (*load_tasks(cfg), *load_measures(cfg))
    evaluator = make_evaluator(cfg, family, tasks, dtype, recipes)
    executor.check(evaluator)
    recipes = {**recipes, **designs(space, options.designs, cfg.seed)}
    return bank_works(recipes, tasks), evaluator, executor, settings_of(evaluator, config.plain(cfg.backend))


def _imported(paths: Sequence[Path], tasks: Sequence[Any]) -> list[Imported]:
    from evomerge.calibration import imports

    return [imports.read(path, tasks) for path in paths]


def _asked(
    works: Sequence[Work],
    evaluator: Any,
    executor: Any,
    settings: str,
    imported: Sequence[Imported],
    path: Path,
    console: Any,
) -> Calibrated:
    from evomerge.calibration.run import calibrate

    with _bar(console) as watch:
        others = [one.responses for one in imported]
        return calibrate(works, evaluator, executor, path, settings, imported=others, watch=watch)


@contextmanager
def _bar(console: Any) -> Iterator[Watch]:
    """Models asked so far, on a terminal; elsewhere a line a model."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("models"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task("models", total=None)

        def watch(step: str, /, **facts: Any) -> None:
            if step == "asked":
                bars.update(bar, total=facts["n"], completed=facts["known"])
            elif step == "evaluated":
                bars.advance(bar)
                if not console.is_terminal:
                    print(f"asked {facts['id']}", file=sys.stderr)

        yield watch


# ---------------------------------------------------------------- what is on file


def _grid(works: Sequence[Work], found: Calibrated, tasks: Sequence[Any]) -> Grid:
    """A line for each model and task; seconds stand in a model's first."""
    from evomerge.reports.grids import Grid

    rows = [
        (str(work.id) if i == 0 else "", *cells, _seconds(str(work.id), found) if i == 0 else "")
        for work in works
        for i, cells in enumerate(_cells(work, found, tasks))
    ]
    return Grid("", ("model", "task", "metric", "score", "items", "seconds"), tuple(rows), names=3)


def _cells(work: Work, found: Calibrated, tasks: Sequence[Any]) -> list[tuple[str, ...]]:
    from evomerge.calibration.evaluations import evaluation_of

    evaluation = evaluation_of(work, found.answers)
    if evaluation is None:
        return [(t.name, t.metric.name, found.failed.get(str(work.id), "-"), "-") for t in tasks]
    return [
        (t.name, t.metric.name, f"{t.report(s):.4f}", str(len(s.items)))
        for t, s in zip(tasks, evaluation.scores, strict=True)
    ]


def _seconds(name: str, found: Calibrated) -> str:
    return f"{found.seconds[name]:.1f}" if name in found.seconds else "on file"


def _lines(found: Calibrated, imported: Sequence[Imported], path: Path) -> list[str]:
    """What was imported and left out, and how to use the file."""
    matched = [
        f"imported {len(one.responses.models)} models: "
        + ", ".join(f"{n} items of {task}" for task, n in one.matched.items())
        for one in imported
    ]
    notes = [f"note: {note}" for one in imported for note in one.notes]
    failed = [f"note: {name} cannot be scored ({code}) and is left out" for name, code in found.failed.items()]
    n = sum(kind == "design" for kind in found.answers.kinds)
    words = ["evomerge", "search", f"calibration.use=[{path}]", *([f"calibration.designs={n}"] if n else [])]
    use = f"{len(found.answers.models)} models in {path}; use it: {shlex.join(words)} ..."
    return [*matched, *notes, *failed, use]
