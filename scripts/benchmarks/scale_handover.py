"""What part of a candidate's time goes to building its weights and handing them to the live model."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import yaml

from evomerge.backends.hf import HFBackend
from evomerge.models.blank import pick_device
from evomerge.models.family import Family, open_family
from evomerge.spaces.weights import WeightsSpace
from evomerge.tasks.harness import HarnessTask, load
from evomerge.tasks.quiet import quiet
from evomerge.types import Recipe

#: For documents with `choices` and the place of the right one, `gold`.
GENERATION = {
    "output_type": "generate_until",
    "doc_to_target": "{{choices[gold]}}",
    "doc_to_choice": None,
    "generation_kwargs": {"until": ["\n"], "do_sample": False, "max_gen_toks": 8},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


@dataclass(frozen=True)
class Case:
    """Real models and tasks. items: asked of each task. shots: examples before each."""

    base: str
    experts: tuple[str, ...]
    include_path: Path
    tasks: tuple[str, ...]
    items: int
    shots: int
    candidates: int
    dtype: str
    device: str
    batch_size: int
    seed: int


@dataclass(frozen=True)
class Candidate:
    """Seconds of building and handing over, and of asking."""

    write: float
    answer: float

    @property
    def share(self) -> float:
        return self.write / (self.write + self.answer)


def measure(case: Case) -> list[Candidate]:
    """Candidates with random coefficients, after one that is not counted: it makes requests and tokens."""
    family = open_family(list(case.experts), case.base)
    backend = HFBackend(batch_size=case.batch_size)
    with tempfile.TemporaryDirectory() as folder, quiet():
        backend.open(family, pick_device(case.device), case.dtype)
        tasks = [generating(name, case, Path(folder)) for name in case.tasks]
        found = [_cost(recipe, backend, tasks, case.items) for recipe in _recipes(family, case)]
    return found[1:]


def generating(name: str, case: Case, folder: Path) -> HarnessTask:
    """The task after some examples; if it is one of multiple choice, the model has to write the right one."""
    path = (case.include_path / f"{name}.yaml").resolve()
    variant: dict[str, Any] = {"include": str(path), "task": f"{name}_generated", "num_fewshot": case.shots}
    if "output_type: multiple_choice" in path.read_text():
        variant |= GENERATION
    (folder / f"{name}_generated.yaml").write_text(yaml.safe_dump(variant))
    (task,) = load([variant["task"]], folder)
    return task


def _recipes(family: Family, case: Case) -> Iterator[Recipe]:
    space = WeightsSpace(family.pool(), method="task_arithmetic", seed=case.seed, dtype=case.dtype)
    rng = np.random.default_rng(case.seed)
    for _ in range(case.candidates + 1):
        yield space.decode(rng.random(space.size))


def _cost(recipe: Recipe, backend: HFBackend, tasks: Sequence[HarnessTask], items: int) -> Candidate:
    start = time.perf_counter()
    backend.write(recipe)
    written = time.perf_counter()
    for task in tasks:
        task.score(backend, [*task.items["search"], *task.items["selection"]][:items])
    return Candidate(written - start, time.perf_counter() - written)


def row(case: Case, found: Sequence[Candidate]) -> dict[str, Any]:
    """The median candidate."""
    write, answer = median(c.write for c in found), median(c.answer for c in found)
    return {
        "executor": "none, the backend alone",
        "workers": 1,
        "candidates_per_minute": 60 / (write + answer),
        "idle_share": 0.0,
        "overhead_ms": 1000 * write,
        "measured_or_simulated": "measured",
        "handover_share": median(c.share for c in found),
        "write_seconds": write,
        "answer_seconds": answer,
        "items": case.items * len(case.tasks),
        "shots": case.shots,
        "candidates": len(found),
    }
