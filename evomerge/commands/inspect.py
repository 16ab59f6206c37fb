"""evomerge inspect: what can be known of parents before any merge."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomerge.commands import asking

if TYPE_CHECKING:
    from rich.console import Console

    from evomerge.survey.nouns import Survey

WHAT = """\
Compare parents before any merge: how far each went from the base, how they agree, who is no kin, what to search.
One pass over the weights; nothing is merged or scored.
"""


def main(args: list[str]) -> int:
    parser = asking.parser(
        "inspect", WHAT, "evomerge inspect parents.base=BASE 'parents.models=[A,B,C]' --png parents.png"
    )
    parser.usage = "evomerge inspect [KEY=VALUE ...] [--json] [--png FILE] [--device DEVICE]"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", action="store_true", help="print the survey as JSON (keys: evomerge.survey.document)")
    parser.add_argument("--png", metavar="FILE", type=Path, help="draw it, too (needs the extra 'plots')")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N; mps counts on the cpu")
    options, overrides = parser.parse_known_args(args)
    asking.refuse_options(overrides)
    return inspect(overrides, as_json=options.json, png=options.png, device=options.device)


def inspect(overrides: Sequence[str], *, as_json: bool, png: Path | None, device: str) -> int:
    """Print the survey of the parents that the settings name."""
    from rich.console import Console

    from evomerge.survey.document import document
    from evomerge.survey.plot import plot

    found = _surveyed(overrides, device)
    if png is not None:
        plot(found, png)
    if as_json:
        print(json.dumps(document(found), indent=1, allow_nan=False))
        return 0
    show(found, overrides, Console(width=None if sys.stdout.isatty() else 100))
    return 0


def _surveyed(overrides: Sequence[str], device: str) -> Survey:
    import torch
    from rich.console import Console

    from evomerge import config, ingredients
    from evomerge.models.blank import pick_device
    from evomerge.spaces.references import unique
    from evomerge.survey.measure import survey

    cfg = config.settings(overrides)
    asking.hush()
    console = Console(stderr=True)
    with console.status("opening the parents"):
        family = ingredients.open_parents(cfg)
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    family.placement = "disk"  # every tensor is read once: keeping it would only fill the memory
    with _progress(console) as bar:
        task = bar.add_task("tensors", total=None) if bar else None
        watch = None if bar is None else lambda done, total: bar.update(task, completed=done, total=total)
        return survey(family, device=pick_device(device), names=unique(family.pool().names), watch=watch)


def _progress(console: Console) -> AbstractContextManager[Any]:
    """A bar that leaves nothing behind; none where nobody looks."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if not console.is_terminal:
        return nullcontext()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)


def show(survey: Survey, overrides: Sequence[str], console: Console) -> None:
    """What was found, the tables, and a line to go on with."""
    from evomerge.reports.table import table
    from evomerge.survey.findings import findings
    from evomerge.survey.grids import grids
    from evomerge.survey.suggest import suggestions

    _say(console, f"{len(survey.parents)} parents, {survey.total.entries:,} entries; base: {survey.base or 'none'}")
    said = findings(survey)
    _say(console, "" if said else "Nothing odd about these parents.")
    for finding in said:
        _say(console, f"{finding.level.upper()}: {finding.text}", "bold" if finding.level == "alarm" else "")
    for grid in grids(survey):
        _say(console, f"\n{grid.title}", "bold")
        console.print(table(grid))
        _say(console, grid.note)
    _suggest(console, overrides, suggestions(survey))


def _suggest(console: Console, overrides: Sequence[str], suggested: Sequence[Any]) -> None:
    if not suggested:
        return
    _say(console, "\nTo start with (rules of thumb, not tuned)", "bold")
    for one in suggested:
        _say(console, f"- {' '.join([*one.overrides, ''])}{'- ' if one.overrides else ''}{one.reason}")
    chosen = [*overrides, *(o for one in suggested for o in one.overrides)]
    if len(chosen) > len(overrides):  # unwrapped: it is there to be pasted
        console.print(f"\nevomerge search {shlex.join(chosen)}", markup=False, highlight=False, soft_wrap=True)


def _say(console: Console, line: str, style: str = "") -> None:
    if line:
        console.print(line, style=style, markup=False, highlight=False)
