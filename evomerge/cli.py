"""The command line: `evomerge COMMAND`; Hydra composes the settings of a search, argparse reads the rest."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evomerge import commands
from evomerge.errors import EvomergeError

HELP = """\
evomerge: search for good merges of language models

usage: evomerge COMMAND ...

searching
  search [KEY=VALUE ...]       search a merge; the same line again resumes, a larger budget extends
  resume RUN [KEY=VALUE ...]   go on with the run in this folder
  report RUN                   what a run found, with intervals           (--json)
models
  export RUN --to DIR          the winner as a model that transformers loads
  merge RECIPE.yaml --to DIR   build a recipe without a search
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

SEARCH_HELP = """\
usage: evomerge search [KEY=VALUE ...] [--config-dir DIR] [--force]

Settings, each with its default in conf/ (evomerge list settings):
  parents       parents=pico | parents.base=PATH 'parents.models=[A,B]'    folders or hub ids
  tasks         'task.names=[t1,t2]' task.include_path=DIR task.num_fewshot=5 task.apply_chat_template=true
  space         space.method=ties space.groups=3 'space.parts=[self_attn,mlp]' space.ranges.weight='[0,1]'
  optimizer     optimizer=cma_es | uniform | lambda_grid        seed=1
  budget        budget.evaluations=100 budget.items=50000 budget.seconds=3600
  items         subset=random subset.n=120 split.selection=0.4
  objective     objective=gap_closed | weighted_mean | minimum
  control       control=lambda_grid | uniform | none
  machine       device=auto dtype=auto threads=2 backend.batch_size=32
  folder        run=DIR      journal.jsonl, events.jsonl and report.md are written there

  --config-dir DIR   look for your own config files in DIR, too
  --force            start a new lineage in a folder that holds another run, warm-started from its winner
  --cfg              print the composed settings and stop

examples
  evomerge search run=outputs/first
  evomerge search space.method=ties space.groups=3 budget.evaluations=300 run=outputs/ties
  evomerge search optimizer=uniform seed=7 run=outputs/uniform7
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 2 bad input, 3 journal, 4 search failed, 130 interrupted."""
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
    except KeyboardInterrupt:
        return 130
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
    runners: dict[str, Callable[[list[str]], int]] = {
        "search": _search,
        "resume": _resume,
        "report": _report,
        "export": _export,
        "merge": _merge,
        "score": _score,
        "list": _list,
    }
    if args[0] not in runners:
        from evomerge.errors import ConfigError, unknown

        raise ConfigError(unknown("command", args[0], runners) + " See `evomerge --help`.")
    return runners[args[0]](args[1:])


# ---------------------------------------------------------------- searching


def _search(args: list[str]) -> int:
    if "-h" in args or "--help" in args:
        print(SEARCH_HELP, end="")
        return 0
    parser = argparse.ArgumentParser(prog="evomerge search", add_help=False)
    parser.add_argument("--config-dir", action="append", default=[])
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--cfg", action="store_true")
    options, overrides = parser.parse_known_args(args)
    _refuse_options(overrides)
    _interrupt_on_term()
    return commands.search(overrides, options.config_dir, force=options.force, show=options.cfg)


def _resume(args: list[str]) -> int:
    parser = _parser("resume", "Go on with a run: the command that started it, again.", "evomerge resume outputs/first")
    parser.add_argument("run", metavar="RUN", help="folder of the run")
    options, overrides = parser.parse_known_args(args)
    _refuse_options(overrides)
    _interrupt_on_term()
    return commands.resume(Path(options.run), overrides)


def _report(args: list[str]) -> int:
    parser = _parser(
        "report", "What a run found: scores on fresh items, paired differences, costs.", "evomerge report outputs/first"
    )
    parser.add_argument("run", metavar="RUN", help="folder of the run")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args(args)
    return commands.report(Path(options.run), as_json=options.json)


# ---------------------------------------------------------------- models


def _export(args: list[str]) -> int:
    parser = _parser("export", "Write a finalist as a model.", "evomerge export outputs/first --to merged")
    parser.add_argument("run", metavar="RUN", help="folder of the run")
    parser.add_argument("--to", required=True, metavar="DIR", help="empty or new folder")
    parser.add_argument("--pick", default="winner", metavar="ID", help="another finalist, by its id in the report")
    parser.add_argument("--device", help="the run's own by default: then the model is the winner in every bit")
    options = parser.parse_args(args)
    return commands.export(Path(options.run), Path(options.to), options.pick, options.device)


def _merge(args: list[str]) -> int:
    parser = _parser("merge", "Build a recipe into a model.", "evomerge merge recipe.yaml --to merged")
    parser.add_argument("recipe", metavar="RECIPE.yaml")
    parser.add_argument("--to", required=True, metavar="DIR", help="empty or new folder")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(args)
    return commands.merge(Path(options.recipe), Path(options.to), options.device)


def _score(args: list[str]) -> int:
    parser = _parser(
        "score",
        "Score a model or a recipe on all items of a split.",
        "evomerge score merged 'task.names=[t]' task.include_path=DIR",
    )
    parser.add_argument("model", metavar="MODEL|RECIPE.yaml")
    parser.add_argument("--split", default="test", choices=("search", "selection", "test"))
    parser.add_argument("--json", action="store_true")
    options, overrides = parser.parse_known_args(args)
    _refuse_options(overrides)
    return commands.score(options.model, options.split, overrides, as_json=options.json)


def _list(args: list[str]) -> int:
    parser = _parser("list", "Names that can be chosen.", "evomerge list methods")
    parser.add_argument(
        "kind", metavar="KIND", help="methods, settings, or a config group such as optimizer, subset, objective"
    )
    return commands.list_names(parser.parse_args(args).kind)


# ---------------------------------------------------------------- small change


def _parser(name: str, what: str, example: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"evomerge {name}", description=what, epilog=f"example: {example}", allow_abbrev=False
    )


def _refuse_options(overrides: list[str]) -> None:
    from evomerge.errors import ConfigError

    for one in overrides:
        if one.startswith("-") or "=" not in one:
            raise ConfigError(f"'{one}' is not understood here; settings are KEY=VALUE, as in budget.evaluations=50.")


def _interrupt_on_term() -> None:
    """A polite kill ends like Ctrl-C: the journal line is finished, the command that resumes is printed."""

    def interrupt(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


if __name__ == "__main__":
    sys.exit(main())
