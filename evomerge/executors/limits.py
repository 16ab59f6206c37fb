"""What a pool puts up with before it gives up on a work, a worker or the search."""

from __future__ import annotations

from dataclasses import dataclass

from evomerge.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """retries: attempts after running out of memory, each with half the batch.

    strikes: workers that may die over a work before it ends as a failed candidate, "worker_died" or, if the last was
    killed for being late, "timeout"; or that the machine may fail over it before the search ends. timeout: seconds that
    a rung may take. start_timeout: seconds from asking for a worker until it is ready. None: any. Raises ConfigError.
    """

    retries: int = 2
    strikes: int = 3
    timeout: float | None = None
    start_timeout: float | None = None

    def __post_init__(self) -> None:
        for name, value, least in (("retries", self.retries, 0), ("strikes", self.strikes, 1)):
            if value < least:
                raise ConfigError(f"executor.{name} is {value}; wanted {least} or more.")
        for name, seconds in (("timeout", self.timeout), ("start_timeout", self.start_timeout)):
            if seconds is not None and not seconds > 0:
                raise ConfigError(f"executor.{name} is {seconds}; wanted seconds above 0, or null for any.")
