"""What each command does, once its arguments are read; heavy imports wait until they are needed."""

from __future__ import annotations

import json
import logging
import shlex
import sys
import warnings
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

from evomerge.errors import ConfigError, JournalError, unknown
from evomerge.lines import write_whole


def search(
    overrides: Sequence[str], config_dirs: Sequence[str] = (), *, force: bool = False, show: bool = False
) -> int:
    """Search, write report.md, print the report; on Ctrl-C print the command that resumes."""
    from evomerge import config

    cfg = config.settings(overrides, config_dirs)
    if show:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(cfg, resolve=True), end="")
        return 0
    _quiet()
    folder = Path(str(cfg.run))
    command = {"overrides": [*overrides], "config_dirs": [*config_dirs], "cwd": str(Path.cwd())}
    return _run(cfg, folder, command, force)


def _run(cfg: Any, folder: Path, command: dict[str, Any], force: bool) -> int:
    from rich.console import Console

    from evomerge import launch
    from evomerge.progress import Display

    console = Console(stderr=True)
    with console.status("checking settings, parents and tasks"):
        prepared = launch.prepare(cfg, folder, force=force)
    try:
        with Display(console) as display:
            launch.run(prepared, folder, command, watch=display)
    except KeyboardInterrupt:
        line = f"evomerge resume {shlex.quote(str(folder))}"
        console.print(f"stopped; what was paid for is on file. Resume with: {line}", soft_wrap=True, markup=False)
        return 130
    return report(folder)


def resume(folder: Path, overrides: Sequence[str] = ()) -> int:
    """The command that started the run, again, with further overrides after it."""
    started, config_dirs, cwd = _command(folder)
    kept = [o for o in started if not o.startswith("run=")]
    run = f"run={folder.resolve()}"
    with chdir(cwd):
        return search([*kept, *overrides, run], config_dirs)


def _command(folder: Path) -> tuple[list[str], list[str], str]:
    """The overrides and config folders a run was started with, and the folder its relative paths start from."""
    path = folder / "command.json"
    if not path.is_file():
        raise JournalError(
            f"{folder} has no command.json: no run was started there. Start one: evomerge search run={folder}"
        )
    try:
        found = json.loads(path.read_text())
        cwd = found["cwd"] if Path(found["cwd"]).is_dir() else "."
        return list(found["overrides"]), list(found["config_dirs"]), cwd
    except (ValueError, KeyError, TypeError) as e:
        raise JournalError(f"{path} is damaged ({e}). Repeat the command that started the run instead.") from e


def report(folder: Path, *, as_json: bool = False) -> int:
    """Print the report and write it to RUN/report.md."""
    from rich.console import Console

    from evomerge.reports import markdown, read, table

    found = read.read(folder)
    if as_json:
        print(json.dumps(read.as_json(found), indent=1, allow_nan=False))
        return 0
    table.show(found, Console(width=None if sys.stdout.isatty() else 110))
    try:
        write_whole(folder / "report.md", markdown.markdown(found))
    except JournalError as e:  # somebody else's run may be read where it may not be written
        print(f"note: report.md is not renewed: {e}", file=sys.stderr)
    return 0


def export(folder: Path, to: Path, pick: str, device: str | None) -> int:
    from evomerge import export as step
    from evomerge.models.blank import pick_device
    from evomerge.reports import markdown, read

    recipe, ident = step.finalist(folder, pick)
    _quiet()
    family = _family_of_run(folder)
    step.check_parents(recipe, family)
    card = step.model_card(
        f"{folder.name}: {ident}",
        recipe,
        family,
        markdown.markdown(read.read(folder)),
        {"run": folder.name, "finalist": ident},
    )
    step.export(recipe, family, to, pick_device(device or step.device_of(folder)), card)
    print(f"{ident} of {folder} written to {to}")
    return 0


def _family_of_run(folder: Path) -> Any:
    from evomerge import config, launch

    overrides, config_dirs, cwd = _command(folder)
    with chdir(cwd):
        return launch.open_parents(config.settings(overrides, config_dirs))


def merge(path: Path, to: Path, device: str) -> int:
    from evomerge import export as step
    from evomerge.models.blank import pick_device

    _quiet()
    recipe, family = step.read_recipe(path)
    step.export(recipe, family, to, pick_device(device), step.model_card(path.stem, recipe, family, "", {}))
    print(f"{path} built into {to}")
    return 0


def score(model: str, split: str, overrides: Sequence[str], *, as_json: bool = False) -> int:
    """Scores per task with standard errors, as a table or JSON."""
    from evomerge import config, launch

    cfg = config.settings(overrides)
    _quiet()
    scores = launch.score(cfg, model, split)
    if as_json:
        print(json.dumps(scores, indent=1))
        return 0
    print(f"{'task':<28} {'metric':<20} {'score':>8} {'stderr':>8} {'items':>6}")
    for name, s in scores.items():
        print(f"{name:<28} {s['metric']:<20} {s['score']:>8.4f} {s['stderr']:>8.4f} {s['items']:>6}")
    return 0


def list_names(kind: str) -> int:
    """Print what can be chosen, one line each."""
    from evomerge import config

    groups = sorted(p.name for p in config.CONF.iterdir() if p.is_dir())
    group = next((g for g in (kind, kind.removesuffix("s"), kind.removesuffix("es")) if g in groups), None)
    if kind in ("methods", "method"):
        _list_methods()
    elif kind == "settings":
        print("\n".join(config.known_keys()))
    elif group:
        for name in config.choices(group):
            first = (config.CONF / group / f"{name}.yaml").read_text().splitlines()[0]
            print(f"{name:<16} {first.removeprefix('# ')}")
    else:
        raise ConfigError(unknown("kind", kind, ["methods", "settings", *groups]))
    return 0


def _list_methods() -> None:
    from evomerge.methods import METHODS

    for m in METHODS.values():
        print(f"{m.name:<16} knobs: {', '.join(k.name for k in m.knobs):<50} {m.source}")


def _quiet() -> None:
    """Other libraries' chatter off; our own errors and notes are what the user should read."""
    warnings.filterwarnings("ignore")
    for name in ("transformers", "datasets", "lm_eval", "huggingface_hub", "httpx", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)
