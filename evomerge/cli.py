"""The command line: `evomerge COMMAND`; each command is a module of evomerge.commands, imported when it is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from evomerge.errors import ConfigError, EvomergeError, unknown

COMMANDS = (
    "search",
    "resume",
    "report",
    "front",
    "inspect",
    "doctor",
    "calibrate",
    "export",
    "merge",
    "convert",
    "score",
    "list",
)

HELP = """\
evomerge: search for good merges of language models

usage: evomerge COMMAND ...

before
  inspect KEY=VALUE ...        parents compared: norms, cosines, sign conflict, alarms     (--json, --png FILE)
  doctor [KEY=VALUE ...]       everything that can be checked before work: memory, time, splits   (--selftest)
  calibrate [KEY=VALUE ...] --to FILE.npz    what base and parents answer to every item, asked once and kept
searching
  search [KEY=VALUE ...]       search a merge; the same line again resumes, a larger budget extends  (-m: a sweep)
  resume RUN [KEY=VALUE ...]   go on with the run in this folder
  report RUN                   what a run found, with intervals           (--json)
  front RUN                    several goals: the front, its knee, choices by preference  (--prefer GOAL=2)
models
  export RUN --to DIR          the winner as a model that transformers loads     (--pick WHICH; --adapter)
  merge RECIPE.yaml --to DIR   build a recipe, ours or mergekit's, without a search
  convert RECIPE.yaml TO.yaml  a recipe of mergekit's as ours, or ours as mergekit's
  score MODEL|RECIPE.yaml      score a model or a recipe on tasks
help
  list KIND                    methods, optimizers, objectives, subsets, ...
  COMMAND --help               options and examples of a command

examples
  evomerge search run=outputs/first                                   the embedded zoo, 100 evaluations
  evomerge search run=outputs/first budget.evaluations=200            the same run, extended
  evomerge search parents.base=BASE 'parents.models=[A,B,C]' \\
      'task.names=[my_task]' task.include_path=tasks run=outputs/mine   your own models and tasks
  evomerge report outputs/first && evomerge export outputs/first --to merged

options: --debug shows tracebacks, --version the version
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 2 bad input, 3 journal, 4 search failed, 130 interrupted, 75 ended
    by SIGTERM."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]
    try:
        return _dispatch(args)
    except EvomergeError as e:
        if debug:
            raise
        print(f"error: {e}", file=sys.stderr)
        return e.exit_code
    except KeyboardInterrupt as e:
        from evomerge.commands.asking import exit_code

        return exit_code(e)
    except BrokenPipeError:  # the reader of our output has left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if args[0] == "--version":
        from importlib.metadata import version

        print(f"evomerge {version('evomerge')}")
        return 0
    if args[0] not in COMMANDS:
        raise ConfigError(unknown("command", args[0], COMMANDS) + " See `evomerge --help`.")
    code: int = import_module(f"evomerge.commands.{args[0]}").main(args[1:])
    return code


if __name__ == "__main__":
    sys.exit(main())
