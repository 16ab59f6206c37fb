"""Answers made up for tests, and an evaluator that needs no model."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from evomerge.calibration.responses import Responses
from evomerge.calibration.run import bank_works, calibrate
from evomerge.executors.local import Local
from evomerge.types import Blend, Evaluation, ItemScores, Metric, Recipe, Slot, Work
from tests.executing import evaluations

ACC = Metric("acc", True)
LOSS = Metric("loss", False)
PPL = Metric("word_perplexity", False, "pairs")


@dataclass(frozen=True)
class Quiz:
    """A task of made-up items, 4 for search and 2 each for selection and test."""

    name: str
    metric: Metric = ACC
    subtasks: Mapping[str, str] = field(default_factory=dict)
    filter: str = "none"

    @property
    def items(self) -> dict[str, tuple[str, ...]]:
        return {s: tuple(f"{s}{k}" for k in range(n)) for s, n in (("search", 4), ("selection", 2), ("test", 2))}

    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "metric": asdict(self.metric), "items": self.items}

    def report(self, scores: ItemScores) -> float:
        return float(scores.values.mean())


QUIZZES = (Quiz("one"), Quiz("two", LOSS), Quiz("three", PPL))
BANK = tuple((quiz.name, i) for quiz in QUIZZES for i in quiz.items["search"])
SETTINGS = json.dumps({"tasks": [quiz.identity() for quiz in QUIZZES], "batch_size": 8})


def recipe(weight: float, method: str = "linear", seed: int = 0) -> Recipe:
    return Recipe(("p",), None, (Slot(((0, "layers", 0),), {"*": Blend(method, {"weight": weight})}),), {}, seed=seed)


RECIPES = {"base": recipe(0.0), "parent:a": recipe(1.0), "parent:b": recipe(2.0), "average": recipe(3.0)}


def answer(weight: float, quiz: Quiz, ids: tuple[str, ...]) -> ItemScores:
    """Bits that no decimal of few digits can carry, different for every model, task and item."""
    values = np.array([np.sqrt(2 + weight + ord(i[-1])) * len(quiz.name) for i in ids])
    if quiz.metric.kind == "pairs":
        return ItemScores(quiz.name, ids, np.stack([-values, 1 + values / 7], 1))
    return ItemScores(quiz.name, ids, values, values - 7 if quiz.metric == ACC else None)


class MadeEvaluator:
    """Opens a bench that counts what it is asked; `fails` gives the error code of a work."""

    def __init__(self, fails: Callable[[Work], str | None] = lambda work: None):
        self.fails, self.asked = fails, []

    def open(self) -> MadeEvaluator:
        return self

    def evaluate(self, work: Work, *, shrink: int, record: Callable[..., None]) -> Iterator[Evaluation]:
        self.asked.append(work.id)
        code = self.fails(work)
        if code:
            record("failed", phase=work.phase, id=work.id, error=code, traceback="Traceback of " + code)
        weight = work.recipe.slots[0].blends["*"].knobs["weight"]
        quizzes = {quiz.name: quiz for quiz in QUIZZES}
        scores = () if code else tuple(answer(weight, quizzes[task], ids) for task, ids in work.items.items())
        yield Evaluation(
            work.id, work.phase, work.recipe.digest, work.items, scores, batch_size=8 // shrink, error_code=code
        )


def works(recipes: Mapping[str, Recipe] = RECIPES) -> list[Work]:
    return bank_works(recipes, QUIZZES)


def evaluated(recipes: Mapping[str, Recipe] = RECIPES) -> dict[str, Evaluation]:
    """By the names of the recipes."""
    return {e.id: e for e in evaluations(Local(), MadeEvaluator(), works(recipes))}


def calibrate_and_die(path: Path, models: int) -> None:
    """In a forked child that kills itself (SIGKILL) once so many models were asked."""
    child = os.fork()
    if child == 0:
        left = iter(range(models - 1))

        def watch(step: str, /, **facts: Any) -> None:
            if step == "evaluated" and next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            calibrate(works(), MadeEvaluator(), Local(), path, SETTINGS, watch=watch)
        finally:  # never let the child go on as a second test runner
            os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "the child lived to the end"


def others(values: np.ndarray, **changes: Any) -> Responses:
    """Imported models on the bank."""
    m = len(values)
    return Responses(tuple(f"m{k}" for k in range(m)), ("other",) * m, ("",) * m, BANK, values, **changes)
