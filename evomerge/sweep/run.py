"""Sweeps: each combination of swept settings is a run of its own, in a folder named by what was swept.

Hydra composes them and its launchers start them; a run is what `evomerge search` does. Since names come from the
settings, the same line again finds every run: it leaves finished ones alone, resumes the others, and a larger sweep
adds to them.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from evomerge import config
from evomerge.commands import asking
from evomerge.errors import ConfigError, JournalError, SearchFailed
from evomerge.lines import write_whole
from evomerge.overrides import assign, key_of, name, value_of
from evomerge.reports import sweep as overview
from evomerge.reports import sweep_grids as grids
from evomerge.sweep import launchers
from evomerge.sweep.children import make_all
from evomerge.sweep.finished import digest, is_finished
from evomerge.sweep.jobs import Job, gpus_here, hydra_session, launch, me

Combination = tuple[str, ...]


def run(words: Sequence[str], config_dirs: Sequence[str] = ()) -> int:
    """Run every combination of these settings (KEY=VALUE,VALUE,...) below run=DIR, then print and write the overview.

    Returns the exit code: 0 all finished, 4 some did not, 130 interrupted, 75 terminated. Raises ConfigError before
    anything runs.
    """
    folder = _folder(words)
    dirs = tuple(str(Path(d).resolve()) for d in config_dirs)
    given = [_opened(word) for word in words if key_of(word) != "run"]
    with hydra_session() as hydra:
        swept = _swept(given, hydra.config_loader)
        combinations = list(product(*swept.values()))
        left = _unfinished(_composed(given, swept, combinations, dirs), folder)
        cfg = launchers.compose(hydra, given, str(folder.resolve()), dirs)
        if launchers.kind(cfg) == "submitit_slurm":  # jobs of an earlier sweep are still at it
            left = [one for one in left if not overview.held(folder / name(one))]
        fixed = [word for word in given if key_of(word) not in swept and not key_of(word).startswith("hydra")]
        try:
            _make(hydra, cfg, [(*fixed, *one) for one in left], _job(cfg, folder, swept, dirs, len(left)))
        except KeyboardInterrupt as e:
            again = ["evomerge", "search", "-m", *words, *([] if _run_of(words) else [assign("run", folder)])]
            return asking.stopped(e, shlex.join([*again, *(f"--config-dir={d}" for d in config_dirs)]))
    return tell(folder, planned=[name(one) for one in combinations])


def _make(hydra: Any, cfg: Any, runs: Sequence[Combination], job: Job) -> None:
    """Make these runs with the chosen launcher."""
    if not runs:
        return
    launchers.tell(cfg, len(runs))
    if launchers.kind(cfg) == "basic":  # Hydra's own makes them all in this process, and one could end it
        make_all([job.order(words) for words in runs], job.cwd)
    else:
        launch(hydra, cfg, job, runs)


def _job(cfg: Any, folder: Path, swept: Mapping[str, Any], dirs: tuple[str, ...], total: int) -> Job:
    local = launchers.kind(cfg) == "submitit_local"  # its jobs outlive the sweep; those of a cluster are to
    each = int(cfg.hydra.launcher.gpus_per_node or 0) if local else 0
    return Job(
        folder=str(folder.resolve()),
        swept=tuple(swept),
        config_dirs=dirs,
        cwd=str(Path.cwd()),
        total=total,
        driver=me() if local else None,
        gpus=gpus_here() if each else (),
        gpus_each=each,
    )


def tell(folder: Path, *, planned: Sequence[str] = (), as_json: bool = False) -> int:
    """Print the overview of a sweep's folder and write it to DIR/sweep.md.

    Returns 0, or 4 if a planned run is not finished.
    """
    from rich.console import Console

    found = overview.read(folder, planned)
    if as_json:
        print(json.dumps(overview.as_json(found), indent=1, allow_nan=False))
        return 0
    grids.show(found, Console(width=None if sys.stdout.isatty() else 140))
    try:
        write_whole(folder / "sweep.md", grids.markdown(found))
    except JournalError as e:  # somebody else's sweep may be read where it may not be written
        print(f"note: sweep.md is not renewed: {e}", file=sys.stderr)
    left = [one.name for one in found.runs if one.name in planned and one.state != "finished"]
    if left:
        print(f"{len(left)} of {len(planned)} runs did not finish; the same line again goes on.", file=sys.stderr)
    return SearchFailed.exit_code if left else 0


# ---------------------------------------------------------------- the settings


def _run_of(words: Sequence[str]) -> str | None:
    return next((word for word in reversed(words) if key_of(word) == "run"), None)


def _folder(words: Sequence[str]) -> Path:
    given = _run_of(words)
    value = value_of(given) if given else time.strftime("outputs/sweeps/%Y-%m-%d_%H-%M-%S")
    if not isinstance(value, str):
        raise ConfigError(f"'{given}' is no folder of a sweep; wanted one path, below which each run has its own.")
    if (Path(value) / "journal.jsonl").is_file():
        raise ConfigError(f"{value} is the folder of a run. Choose another run=DIR for the sweep.")
    return Path(value)


def _opened(word: str) -> str:
    """Hydra must be told that adding to an open mapping is meant."""
    return f"++{word}" if word.startswith((*config.OPEN, *launchers.OPEN)) else word


def _swept(words: Sequence[str], loader: Any) -> dict[str, list[str]]:
    """Overrides of each swept key, in the order given; of a key that is given twice, the later counts."""
    swept: dict[str, list[str]] = {}
    try:
        for one in OverridesParser.create(loader).parse_overrides(list(words)):
            key = one.get_key_element()
            swept.pop(key_of(key), None)
            if one.is_sweep_override():
                swept[key_of(key)] = [f"{key}={value}" for value in one.sweep_string_iterator()]
    except HydraException as e:
        raise ConfigError(f"{str(e).splitlines()[0]}. Values of a sweep are listed: seed=1,2,3") from e
    return swept


def _composed(
    words: Sequence[str],
    swept: Mapping[str, Sequence[str]],
    combinations: Sequence[Combination],
    config_dirs: Sequence[str],
) -> dict[Combination, Any]:
    """The settings of every combination, each of which has a folder of its own. Raises ConfigError if one has not."""
    if not swept:
        raise ConfigError("nothing is swept: give a setting several values, as seed=1,2,3, or leave out -m.")
    for key, values in swept.items():
        if key.startswith("hydra") or len({name([value]) for value in values}) < len(values):
            raise ConfigError(f"{key} is swept over equal values, or is no setting of a run: {', '.join(values)}.")
    fixed = [word for word in words if key_of(word) not in swept and not key_of(word).startswith("hydra")]
    return {one: config.settings([*fixed, *one], config_dirs) for one in combinations}


def _unfinished(composed: Mapping[Combination, Any], folder: Path) -> list[Combination]:
    """The combinations that are not finished as asked; the others are not touched."""
    left = [one for one, cfg in composed.items() if not is_finished(folder / name(one), digest(cfg))]
    if len(left) < len(composed):
        print(f"{len(composed) - len(left)} of {len(composed)} runs are finished already", file=sys.stderr)
    return left
