"""What the doctor says: a line with its level and topic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from evomerge.errors import EvomergeError

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """ok: as it should be. note: it works, and the user should know. problem: a search would stop here."""

    level: Level
    topic: str
    text: str


Say = Callable[[Finding], None]


def ok(topic: str, text: str) -> Finding:
    return Finding("ok", topic, text)


def note(topic: str, text: str) -> Finding:
    return Finding("note", topic, text)


def problem(topic: str, text: str) -> Finding:
    return Finding("problem", topic, text)


class Findings:
    """Findings in the order they are made; `heard` is told each at once. The same problem is told once."""

    def __init__(self, heard: Say = lambda finding: None) -> None:
        self.all: list[Finding] = []
        self._heard = heard

    def say(self, finding: Finding) -> None:
        if finding.text not in [f.text for f in self.all if f.level == "problem"]:
            self.all.append(finding)
            self._heard(finding)

    @contextmanager
    def of(self, topic: str) -> Iterator[None]:
        """An error of ours inside becomes a problem with this topic; the checks after it go on."""
        try:
            yield
        except EvomergeError as e:
            self.say(problem(topic, str(e)))

    @property
    def works(self) -> bool:
        return all(f.level != "problem" for f in self.all)
