"""evomerge resume: the command that started a run, again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path

from evomerge.commands import asking
from evomerge.commands.search import search


def main(args: list[str]) -> int:
    parser = asking.parser(
        "resume", "Go on with a run: the command that started it, again.", "evomerge resume outputs/first"
    )
    parser.add_argument("run", metavar="RUN", help="folder of the run")
    options, overrides = parser.parse_known_args(args)
    asking.refuse_options(overrides)
    asking.interrupt_on_term()
    return resume(Path(options.run), overrides)


def resume(folder: Path, overrides: Sequence[str] = ()) -> int:
    """The command that started the run, again, with further overrides after it."""
    from evomerge.launch import command_of
    from evomerge.overrides import assign

    started, config_dirs, cwd = command_of(folder)
    run = assign("run", str(folder.resolve()))
    with chdir(cwd):
        return search([*started, *overrides, run], config_dirs)
