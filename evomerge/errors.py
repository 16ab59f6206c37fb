"""Errors a user can act on: each says what was wrong, what was wanted and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class EvomergeError(Exception):
    """Base of every error evomerge raises on purpose; the CLI prints it without a traceback."""

    exit_code = 2


class ConfigError(EvomergeError):
    """A setting is unknown, out of range or contradicts another one."""


class ParentError(EvomergeError):
    """A checkpoint is missing, corrupt, or does not fit the other parents."""


class MergeError(EvomergeError):
    """A recipe cannot be built from these parents."""


class TaskError(EvomergeError):
    """A task is unknown, empty, or cannot be scored per item."""


class CalibrationError(EvomergeError):
    """Earlier answers cannot be read, written, or matched with the items of these tasks."""


class JournalError(EvomergeError):
    """A run folder cannot be read, written, or continued."""

    exit_code = 3


class SearchFailed(EvomergeError):
    """The search cannot go on: too many candidates, workers or requests failed; the journal keeps what was paid."""

    exit_code = 4


class MachineFailed(SearchFailed):
    """A file or device failed while a candidate was evaluated: no fault of the candidate's, and no row says so."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Message for a name that is not known: lists the known ones and the nearest."""
    known = sorted(known)
    near = get_close_matches(name, known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"unknown {kind} '{name}'.{hint} Known: {', '.join(known) or 'none'}."
