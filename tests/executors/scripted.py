"""An evaluator that does what the works' own names say, in whatever process it is opened, and writes it down."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch

from evomerge.errors import MachineFailed, TaskError
from evomerge.types import Blend, Evaluation, Items, ItemScores, Recipe, Slot, Work

ODD = np.array([0.1 + 0.2, 5e-324, -0.0, 1e308])  # must travel bit for bit


@dataclass(frozen=True)
class Scripted:
    """log: a file; who opens or evaluates appends a line."""

    log: Path
    threads: int = 1

    def open(self) -> ScriptedBench:
        write_down(self.log, "open", os.getpid())
        return ScriptedBench(self.log)


@dataclass(frozen=True)
class ScriptedBench:
    log: Path

    def evaluate(self, work: Work, *, shrink: int, record: Callable[..., None]) -> Iterator[Evaluation]:
        write_down(self.log, "evaluate", work.id, shrink)
        _act(str(work.id), shrink, record)
        if work.id == "sick once" and lines(self.log).count(f"evaluate sick once {shrink}") == 1:
            raise MachineFailed("OSError: no such disk")
        for place in range(len(work.answered), len(work.rungs)):
            yield answer(work, place, shrink)


def answer(work: Work, place: int, shrink: int = 1) -> Evaluation:
    """One rung, scored by a hash of recipe and item."""
    rung, code = work.rungs[place], "merge" if work.id == "fails" else None
    scores = tuple(_scores(work.recipe, task, ids) for task, ids in rung.items() if not code)
    row = Evaluation(work.id, work.phase, work.recipe.digest, rung, scores, work.genome, work.rung + place, 8 // shrink)
    return replace(row, error_code=code, last=code is not None or place + 1 == len(work.rungs))


def _scores(recipe: Recipe, task: str, ids: tuple[str, ...]) -> ItemScores:
    if task == "odd":
        return ItemScores(task, ids, ODD)
    return ItemScores(task, ids, np.array([crc32(f"{recipe.digest}{i}".encode()) / 2**32 for i in ids]))


def _act(name: str, shrink: int, record: Callable[..., None]) -> None:
    if name == "tells":
        record("failed", id=name, error="told by the bench", threads=torch.get_num_threads())
    if name.startswith("full below") and shrink < int(name.split()[-1]):
        raise MemoryError("device full")
    if name == "raises":
        raise ZeroDivisionError("by nought")
    if name == "misset":
        raise TaskError("no chat template")
    if name == "kills":
        print("these are my last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "hangs":
        ctypes.PyDLL(None).sleep(600)  # native code that never lets go of the interpreter


def write_down(log: Path, *words: Any) -> None:
    with open(log, "a") as file:
        file.write(" ".join(map(str, words)) + "\n")


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def work(name: int | str, phase: str = "search", chunks: int = 1) -> Work:
    """A work that differs from others in its recipe, too. Whole numbers are ordinary ones."""
    x = 0.01 * (name if isinstance(name, int) else len(name))
    recipe = Recipe(("parent",), None, (Slot(((0, "layers", 0),), {"*": Blend("linear", {"weight": (x,)})}),), {})
    rungs = tuple(_items(f"{phase}{c}") for c in range(chunks)) if chunks > 1 else ()
    genome = (x, 0.2) if isinstance(name, int) else None
    items = {"odd": tuple("abcd")} if name == "odd" else _items(phase)
    return Work(name, phase, recipe, items, genome, rung=chunks, chunks=rungs)


def _items(split: str) -> Items:
    return {task: tuple(f"{split}-{task}-{i}" for i in range(4)) for task in ("alpha", "beta")}
