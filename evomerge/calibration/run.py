"""Base, parents, plain average and designs asked once on the whole item bank, each on file before the next is begun."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evomerge.calibration.evaluations import answers_of, evaluation_of
from evomerge.calibration.responses import Responses, joined, load, save
from evomerge.errors import CalibrationError
from evomerge.families import Executor, Space, Task
from evomerge.journal import Watch, differences, unwatched
from evomerge.types import Evaluation, Recipe, Work

_PURPOSE = 0xCA11B  # keys the designs' draws apart from every other draw of the same seed


@dataclass(frozen=True, eq=False)
class Calibrated:
    """What is on file now. seconds: of models that were asked this time. failed: error codes of designs."""

    answers: Responses
    seconds: Mapping[str, float]
    failed: Mapping[str, str]


def designs(space: Space, n: int, seed: int) -> dict[str, Recipe]:
    """n merges drawn uniformly from the unit cube of the space; design k depends on (seed, k) alone."""
    genomes = [np.random.default_rng([seed, _PURPOSE, k]).random(space.size) for k in range(n)]
    return {f"design:{k}": space.decode(genome) for k, genome in enumerate(genomes)}


def bank_works(recipes: Mapping[str, Recipe], tasks: Sequence[Task]) -> list[Work]:
    """Each recipe on all search items, as the search itself asks its references."""
    items = {task.name: task.items["search"] for task in tasks}
    return [Work(name, "references", recipe, items) for name, recipe in recipes.items()]


def calibrate(
    works: Sequence[Work],
    evaluator: Any,
    executor: Executor,
    path: Path,
    settings: str,
    *,
    imported: Sequence[Responses] = (),
    watch: Watch = unwatched,
) -> Calibrated:
    """Ask what the file does not hold yet, and add `imported` models to it.

    The file is written before the first model and after each, so nothing is paid twice. Raises CalibrationError if it
    holds answers to other settings, cannot be written, or a model that is no design cannot be scored. A design that
    fails is left out; it is tried again the next time.
    """
    answers = _on_file(works, path, settings)
    for other in imported:
        answers = joined(answers, replace(other, settings=settings))
    save(answers, path)
    missing = [work for work in works if evaluation_of(work, answers) is None]
    watch("asked", n=len(works), known=len(works) - len(missing))
    recipes, told = {str(work.id): work.recipe for work in works}, _Told()
    failed: dict[str, str] = {}
    for evaluation in _evaluations(missing, evaluator, executor, told):
        name = str(evaluation.id)
        if evaluation.error_code:
            failed[name] = _excused(evaluation, told)
        else:
            answers = joined(answers, answers_of(recipes, {name: evaluation}, settings))
            save(answers, path)
        watch("evaluated", id=name, error=evaluation.error_code)
    return Calibrated(answers, told.seconds, failed)


def _evaluations(works: Sequence[Work], evaluator: Any, executor: Executor, told: _Told) -> Iterator[Evaluation]:
    if not works:
        return
    try:
        executor.start(evaluator, told.record)
        executor.submit(works)
        for _ in works:
            yield executor.next()
    finally:
        executor.close()


class _Told:
    """What an executor records meanwhile."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.traceback = ""

    def record(self, kind: str, **facts: Any) -> None:
        if kind == "done":
            self.seconds[str(facts["id"])] = facts["seconds"]
        elif kind == "failed":
            self.traceback = facts["traceback"]


def _excused(evaluation: Evaluation, told: _Told) -> str:
    """The error code of a design: a merge drawn blindly may be broken, a checkpoint may not."""
    code = str(evaluation.error_code)
    if str(evaluation.id).startswith("design:"):
        return code
    raise CalibrationError(
        f"{evaluation.id} cannot be scored ({code}); what was scored before is kept. Check it with `evomerge score`, "
        f"or leave it out.\n{told.traceback}"
    )


def _on_file(works: Sequence[Work], path: Path, settings: str) -> Responses:
    """What the file holds for these settings; nothing if there is no file."""
    items = tuple((task, i) for task, ids in works[0].items.items() for i in ids)
    if not path.exists():
        return Responses((), (), (), items, np.zeros((0, len(items))), settings=settings)
    found = load(path)
    if found.settings != settings:
        changed = differences(json.loads(found.settings or "{}"), json.loads(settings))
        raise CalibrationError(
            f"{path} holds answers to other settings: {'; '.join(changed)}. Name a new file, or restore the settings."
        )
    return found.on(items)
