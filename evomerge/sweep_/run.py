"""Sweeps: each combination of swept settings is a run of its own, in a folder named by what was swept.

Hydra's sweeper makes the combinations and its launchers start them; a run is what `evomerge search` does. Since names
come from the settings, the same line again finds every run: it resumes them, and a larger sweep adds to them.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from evomerge import config
from evomerge.errors import ConfigError, JournalError, SearchFailed
from evomerge.lines import write_whole
from evomerge.overrides import assign, key_of, name, value_of
from evomerge.reports import sweep as overview
from evomerge.reports import sweep_grids as grids
from evomerge.sweep_jobs import Job, hydra_session, launch

LAUNCHER = "hydra/launcher"
WEEK = 7 * 24 * 60  # minutes: submitit's own limit of one hour would end a search that is going well


def run(words: Sequence[str], config_dirs: Sequence[str] = ()) -> int:
    """Run every combination of these settings (KEY=VALUE,VALUE,...) below run=DIR, then print and write the overview.

    Returns the exit code: 0 all finished, 4 some did not, 130 interrupted. Raises ConfigError before anything runs.
    """
    folder = _folder(words)
    dirs = tuple(str(Path(d).resolve()) for d in config_dirs)
    given = [_opened(word) for word in words if key_of(word) != "run"]
    settings = [*given, *_launcher_settings(given)]
    with hydra_session() as hydra:
        swept = _swept(given, hydra.config_loader)
        combinations = list(product(*swept.values()))
        _check(given, swept, combinations, config_dirs)
        job = Job(str(folder.resolve()), tuple(swept), dirs, str(Path.cwd()), len(combinations))
        try:
            launch(hydra, job, settings)
        except KeyboardInterrupt:
            again = ["evomerge", "search", "-m", *words, *([] if _run_of(words) else [assign("run", folder)])]
            again += [f"--config-dir={d}" for d in config_dirs]
            print(f"stopped; what was paid for is on file. Resume with: {shlex.join(again)}", file=sys.stderr)
            return 130
    return tell(folder, planned=[name(one) for one in combinations])


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
    """Hydra must be told that adding to an open mapping is meant (see config.OPEN)."""
    return f"++{word}" if word.startswith(config.OPEN) else word


def _launcher_settings(words: Sequence[str]) -> list[str]:
    """What the chosen launcher needs beyond what was given. Raises ConfigError if it is not installed."""
    keys = {key_of(word): word for word in words}
    launcher = str(value_of(keys[LAUNCHER])) if LAUNCHER in keys else "basic"
    if not launcher.startswith("submitit"):
        return []
    if find_spec("hydra_plugins.hydra_submitit_launcher") is None:
        raise ConfigError(f"launcher '{launcher}' is not installed. Get it with: pip install 'evomerge[sweep]'.")
    if launcher == "submitit_local" and "hydra.launcher.gpus_per_node" not in keys and "device=cpu" not in words:
        print("note: jobs see no GPU; give each its own with hydra.launcher.gpus_per_node=1", file=sys.stderr)
    limited = launcher != "submitit_local" or "hydra.launcher.timeout_min" in keys
    return [] if limited else [f"hydra.launcher.timeout_min={WEEK}"]


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


def _check(
    words: Sequence[str],
    swept: Mapping[str, Sequence[str]],
    combinations: Sequence[Sequence[str]],
    config_dirs: Sequence[str],
) -> None:
    """Every combination can be composed, and has a folder of its own."""
    if not swept:
        raise ConfigError("nothing is swept: give a setting several values, as seed=1,2,3, or leave out -m.")
    for key, values in swept.items():
        if key.startswith("hydra") or len({name([value]) for value in values}) < len(values):
            raise ConfigError(f"{key} is swept over equal values, or is no setting of a run: {', '.join(values)}.")
    fixed = [word for word in words if key_of(word) not in swept and not key_of(word).startswith("hydra")]
    for combination in combinations:
        config.settings([*fixed, *combination], config_dirs)
