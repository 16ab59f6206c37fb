"""The memory plan of real parents and tasks on a real device: what a search asks before it opens a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from evomerge.errors import ParentError
from evomerge.families import Space, Task
from evomerge.memory.crews import fewest_devices
from evomerge.memory.jobs import job_of, machine_of, methods_of, read_config
from evomerge.memory.plan import Machine, Plan, plan
from evomerge.memory.prompts import Asked, ask_all, load_of, max_length_of
from evomerge.methods import get
from evomerge.models import speech
from evomerge.models.blank import pick_dtype
from evomerge.models.residency import Placement
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
    workers: int = 1,
    devices: float = 1,
    residency: Placement | None = None,
) -> tuple[Plan, Mapping[str, Asked]]:
    """The plan, and how each task asks. To be made before the live model is loaded: that is counted in.

    recipe: any candidate, it names the methods in use. batch_size, max_length: the backend's. workers: those that share
    this machine; devices: what each of them has, below 1 if several share a device (see `devices_of`). residency: where
    the parents are to lie, None for wherever they fit. The tasks' requests are built here; the tasks keep them. Raises
    EvomergeError without a tokenizer or for an unknown architecture or dtype; evomerge.memory.words.check tells whether
    the plan fits.
    """
    pick_dtype(dtype)
    asked = ask_all(tasks, tokenizer_of(family))
    load = load_of(list(asked.values()), batch_size, max_length_of(read_config(family), max_length))
    there = machine if isinstance(machine, Machine) else machine_of(machine, every=workers * devices > 1)
    there = replace(there, device=int(there.device * min(1, devices)), devices=max(1, int(devices)), workers=workers)
    return plan(job_of(family, recipe=recipe, dtype=dtype, load=load, residency=residency), there), asked


def devices_given(executor: Mapping[str, Any]) -> float:
    """Devices of a worker: what the settings of its executor say, else all that this process sees."""
    said = executor.get("gpus_per_worker") or executor.get("num_gpus")
    alone = str(executor.get("_target_", "")).endswith(".Local")
    return float(said or (torch.cuda.device_count() if alone else 1) or 1)


def workers_here(executor: Mapping[str, Any], workers: int) -> int:
    """How many of the workers share this machine: of a cluster that was there before, nobody knows."""
    return 1 if executor.get("address") else workers


def devices_of(backend: Any, given: float) -> float:
    """Devices that the backend makes use of in a worker that is given so many; a part of one stays a part."""
    parallel, placed = getattr(backend, "tensor_parallel", 1), getattr(backend, "device_map", None)
    if given < 1 or isinstance(placed, str):
        return given
    return parallel if placed is None else max(1, len(set(placed.values()) - {"cpu"}))


def settle(found: Plan, evaluator: Any) -> Plan:
    """Do as the plan says: where the parents lie, and whether device_map=auto spreads the live model.

    Returns the plan that holds then. Changes the family and the backend in place.
    """
    backend = evaluator.backend
    found = beside_engine(found, backend)
    if spreads_by_plan(backend):
        found = fewest_devices(found)
        backend.device_map = "balanced" if found.machine.devices > 1 else None
    evaluator.family.placement = found.placement
    return found


def spreads_by_plan(backend: Any) -> bool:
    """Whether device_map=auto is the plan's to decide; where there are limits, the backend goes by these."""
    return getattr(backend, "device_map", None) == "auto" and getattr(backend, "max_memory", None) is None


def beside_engine(found: Plan, backend: Any) -> Plan:
    """The plan with what the backend's engine takes of each device, if it has one that does."""
    taken = 0.0 if found.machine.unified else getattr(backend, "gpu_memory_utilization", 0.0)
    return plan(found.job, replace(found.machine, engine=taken)) if taken else found


def choices_of(space: Space) -> list[Recipe]:
    """A candidate for each choice that a space offers."""
    levels = max((v.levels for v in space.variables), default=0) or 1
    return [space.decode(np.full(space.size, gene_of(i, levels))) for i in range(levels)]


def dearest(space: Space) -> Recipe:
    """A candidate for the plan: of one for each choice that a space offers, the one whose methods keep most."""
    return max(choices_of(space), key=lambda recipe: max(get(name).keeps for name in methods_of(recipe)))


def tokenizer_of(family: Any) -> Any:
    """The live model's. Raises ParentError if there is none."""
    found = speech.live_tokenizer(family)
    if found is None:
        raise ParentError(f"{family.base_folder} has no tokenizer. Copy one from the model it was made from.")
    return found
