"""The memory plan of real parents and tasks on a real device: what a search asks before it opens a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from evomerge.errors import ParentError
from evomerge.families import Space, Task
from evomerge.memory.plan import Machine, Plan, plan
from evomerge.memory.prompts import Asked, ask_all, load_of, max_length_of
from evomerge.memory.words import job_of, machine_of, methods_of, read_config
from evomerge.methods import get
from evomerge.models import speech
from evomerge.models.blank import pick_dtype
from evomerge.problem import gene_of
from evomerge.types import Recipe


def plan_search(
    family: Any,
    tasks: Sequence[Task],
    recipe: Recipe,
    machine: Machine | torch.device,
    *,
    dtype: str,
    batch_size: int,
    max_length: int | None = None,
) -> tuple[Plan, Mapping[str, Asked]]:
    """The plan, and how each task asks. To be made before the live model is loaded: that is counted in.

    recipe: any candidate, it names the methods in use. batch_size, max_length: the backend's. The tasks' requests are
    built here; the tasks keep them. Raises EvomergeError without a tokenizer or for an unknown architecture or dtype;
    evomerge.memory.words.check tells whether the plan fits.
    """
    pick_dtype(dtype)
    asked = ask_all(tasks, _tokenizer(family))
    load = load_of(list(asked.values()), batch_size, max_length_of(read_config(family), max_length))
    there = machine if isinstance(machine, Machine) else machine_of(machine)
    return plan(job_of(family, recipe=recipe, dtype=dtype, load=load), there), asked


def dearest(space: Space) -> Recipe:
    """A candidate for the plan: of one for each choice that a space offers, the one most of whose methods prepare."""
    levels = max((v.levels for v in space.variables), default=0) or 1
    recipes = [space.decode(np.full(space.size, gene_of(i, levels))) for i in range(levels)]
    return max(recipes, key=lambda recipe: sum(get(name).prepare is not None for name in methods_of(recipe)))


def _tokenizer(family: Any) -> Any:
    found = speech.live_tokenizer(family)
    if found is None:
        raise ParentError(f"{family.base_folder} has no tokenizer. Copy one from the model it was made from.")
    return found
