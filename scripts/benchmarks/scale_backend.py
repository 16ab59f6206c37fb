"""A backend that writes down when it worked, in any process of this machine: what a worker took by its own clock."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from evomerge.backends.hf import HFBackend
from evomerge.families import Request
from evomerge.lines import read_lines
from evomerge.types import Recipe


class TimedBackend(HFBackend):
    """log: file to which every process appends a line when it has written a recipe, and when it has answered."""

    def __init__(self, *, log: str, batch_size: int, share_prefix: bool = True) -> None:
        super().__init__(batch_size=batch_size, share_prefix=share_prefix)
        self._log, self._recipe = log, ""

    def write(self, recipe: Recipe) -> None:
        began, self._recipe = (time.time(), time.process_time()), recipe.digest
        super().write(recipe)
        self._append(*began)

    def answer(self, requests: Sequence[Request]) -> list[Any]:
        began = time.time(), time.process_time()
        answers = super().answer(requests)
        self._append(*began)
        return answers

    def _append(self, began: float, processor: float) -> None:
        cpu = time.process_time() - processor
        line = {"recipe": self._recipe, "began": began, "ended": time.time(), "cpu": cpu}
        with open(self._log, "a") as file:
            file.write(json.dumps(line) + "\n")  # one write, so that lines of several processes stay whole

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(TimedBackend, log=self._log, batch_size=self.batch_size, share_prefix=self.share_prefix), ()


@dataclass(frozen=True)
class Worked:
    """Seconds of one candidate: from the begin of its writing to its last answer, and the processor's in these."""

    seconds: float
    cpu: float


def worked(log: Path, journal: Iterable[Mapping[str, Any]]) -> dict[int, Worked]:
    """By candidate of the search."""
    lines: dict[str, list[dict[str, Any]]] = {}
    for line in read_lines(log)[0]:
        lines.setdefault(line["recipe"], []).append(line)
    asked = {r["id"]: r["recipe"] for r in journal if r.get("phase") == "search" and r["row"] == "evaluation"}
    return {ident: _worked(lines[name]) for ident, name in asked.items() if name in lines}


def _worked(lines: Sequence[Mapping[str, Any]]) -> Worked:
    wall = max(line["ended"] for line in lines) - min(line["began"] for line in lines)
    return Worked(wall, sum(line["cpu"] for line in lines))
