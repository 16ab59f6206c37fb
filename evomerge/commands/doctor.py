"""evomerge doctor: what can be known of a search before it starts, in seconds; --selftest tries the machine out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evomerge.commands import asking

if TYPE_CHECKING:
    from rich.console import Console

    from evomerge.memory.plan import Plan

HELP = """\
usage: evomerge doctor [KEY=VALUE ...] [--quick] [--json] [--profile NAME] [--selftest] [--config-dir DIR]

Checks what `evomerge search` with the same settings would need, cheap things first. No run is started and no model
downloaded (tasks of the hub fetch their data).
Each line is ok, note, or problem with the way out. Exit code 0, or 2 if something will not work.

  --quick            leave out the time estimate, which loads the model and scores a few items
  --json             print everything as JSON
  --profile NAME     plan the memory for another machine: 24gb (64 GB host), 80gb (128 GB host) or 8x80gb (1 TB);
                     without parents, a table of models of 7B to 70B with a base and three parents
  --selftest         minutes: does this machine build and score as it should? JSON; exit code 1 if a step fails
  --config-dir DIR   look for your own config files in DIR, too

examples
  evomerge doctor
  evomerge doctor parents.base=BASE 'parents.models=[A,B]' 'task.names=[my_task]' task.include_path=tasks
  evomerge doctor --profile 24gb
  evomerge doctor --selftest device=cuda > selftest.json
"""


def main(args: list[str]) -> int:
    if "-h" in args or "--help" in args:
        print(HELP, end="")
        return 0
    parser = argparse.ArgumentParser(prog="evomerge doctor", add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", action="append", default=[])
    parser.add_argument("--profile")
    for flag in ("--quick", "--json", "--selftest"):
        parser.add_argument(flag, action="store_true")
    options, overrides = parser.parse_known_args(args)
    asking.refuse_options(overrides)
    asking.hush()
    if options.profile and not any(o.lstrip("+~").startswith("parents") for o in overrides):
        return profile(options.profile, as_json=options.json)

    from evomerge import config

    cfg = config.settings(overrides, options.config_dir)
    if options.selftest:
        return selftest(cfg)
    return doctor(cfg, options.profile, quick=options.quick, as_json=options.json)


def doctor(cfg: Any, profile_name: str | None = None, *, quick: bool = False, as_json: bool = False) -> int:
    """Check these settings, telling each finding as it is made; returns 0, or 2 if a search would not work."""
    from rich.console import Console

    from evomerge.doctor import checks, profiles, table
    from evomerge.doctor.findings import Findings

    console = _console()
    with Console(stderr=True).status("checking settings, parents and tasks") as status:
        findings = Findings() if as_json else Findings(lambda f: console.print(table.line(f), markup=False))
        found = checks.examine(
            cfg,
            machine=profiles.machine(profile_name) if profile_name else None,
            quick=quick or profile_name is not None,
            findings=findings,
            tell=lambda what: status.update(what),
        )
    if as_json:
        print(json.dumps(table.as_json(found), indent=1))
    else:
        _show(found, console, profile_name or "this machine")
    return 0 if findings.works else 2


def _show(found: Any, console: Console, machine: str) -> None:
    from evomerge.doctor import table
    from evomerge.reports.table import table as drawn

    grids = [table.memory_grid({machine: found.memory}, "Memory")] if found.memory else []
    grids += [table.time_grid(found.estimate)] if found.estimate else []
    for grid in grids:
        console.print(f"\n{grid.title}", style="bold")
        console.print(drawn(grid))
    console.print("\nall well" if found.findings.works else "\nsomething will not work: see the lines with 'problem'")


def profile(name: str, *, as_json: bool = False) -> int:
    """The table of well-known models on a machine of that profile."""
    from evomerge.doctor import profiles, table
    from evomerge.memory.crews import best_crew
    from evomerge.reports.table import table as drawn

    machine = profiles.machine(name)
    plans: Mapping[str, Plan] = {model: best_crew(profiles.typical(model), machine) for model in profiles.MODELS}
    if as_json:
        print(json.dumps({model: table.plan_data(found) for model, found in plans.items()}, indent=1))
        return 0
    console = _console()
    console.print(drawn(table.memory_grid(plans, "Memory")))
    for line in table.profile_lines(plans, name):
        console.print(line, markup=False)
    return 0


def selftest(cfg: Any) -> int:
    """All steps on these parents and tasks, JSON on stdout, progress on stderr; returns 1 if a step fails."""
    from evomerge.doctor.selftest import selftest as run

    found = run(cfg, tell=lambda line: print(line, file=sys.stderr, flush=True))
    print(json.dumps(found, indent=1, allow_nan=False))
    return 0 if found["passed"] else 1


def _console() -> Console:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 110, highlight=False, soft_wrap=True)
