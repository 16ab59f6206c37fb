"""What the commands share: reading arguments, settings given as KEY=VALUE, other libraries' chatter."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evomerge.errors import ConfigError


def parser(name: str, what: str, example: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"evomerge {name}", description=what, epilog=f"example: {example}", allow_abbrev=False
    )


def refuse_options(overrides: Sequence[str]) -> None:
    """What argparse left must be settings. Raises ConfigError for anything else."""
    for one in overrides:
        if one.startswith("-") or "=" not in one:
            raise ConfigError(f"'{one}' is not understood here; settings are KEY=VALUE, as in budget.evaluations=50.")


def check_rank(options: argparse.Namespace) -> None:
    if options.rank is not None and (options.rank < 1 or not options.adapter):
        raise ConfigError(f"--rank {options.rank} needs --adapter and is at least 1.")


def tell_notes(path: Path) -> None:
    """Where a file of mergekit's is read otherwise than mergekit does; nothing for our own recipes."""
    from evomerge.mergekit_io import is_mergekit, notes

    if path.is_file() and is_mergekit(path):
        for note in notes(path):
            print(f"note: {note}", file=sys.stderr)


class Terminated(KeyboardInterrupt):
    """SIGTERM: not the user but the machine wants to be rid of us, as Slurm does before it preempts a job."""


def interrupt_on_term() -> None:
    """A polite kill ends like Ctrl-C: the journal line is finished, the command that resumes is printed."""

    def interrupt(signum: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, lambda *again: None)  # closing is not to be interrupted
        raise Terminated

    signal.signal(signal.SIGTERM, interrupt)


def stopped(interrupt: KeyboardInterrupt, again: str) -> int:
    """Print the command that goes on; returns the exit code: 130 after Ctrl-C, 75 ("try again") after SIGTERM."""
    print(f"stopped; what was paid for is on file. Resume with: {again}", file=sys.stderr)
    return exit_code(interrupt)


def exit_code(interrupt: KeyboardInterrupt) -> int:
    return os.EX_TEMPFAIL if isinstance(interrupt, Terminated) else 130


def hush() -> None:
    """Other libraries' chatter off; our own errors and notes are what the user should read."""
    warnings.filterwarnings("ignore")
    for name in ("transformers", "datasets", "lm_eval", "huggingface_hub", "httpx", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)
