"""What each worker of a Ray cluster claims of its node, and how many such claims the nodes have room for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evomerge.errors import ConfigError


@dataclass(frozen=True)
class Claim:
    """Of one worker. threads: what it computes with, exactly the driver's number, or bits would differ."""

    cpus: float
    gpus: float
    threads: int

    def __str__(self) -> str:
        return resources(self.cpus, self.gpus)

    def times(self, workers: int) -> str:
        return resources(workers * self.cpus, workers * self.gpus)


def claim(evaluator: Any, cpus: float | None, gpus: float | None) -> Claim:
    """cpus: None for a worker's threads, or 1 beside a GPU. gpus: None for 1 if the device is cuda, else 0."""
    import torch

    threads = getattr(evaluator, "threads", None) or torch.get_num_threads()
    on_gpu = _on_gpu(evaluator)
    if on_gpu and gpus == 0:
        raise ConfigError("executor.num_gpus is 0, and device=cuda. Wanted a share above 0, or null for a whole GPU.")
    share = 1.0 if on_gpu else float(threads)
    return Claim(share if cpus is None else cpus, float(on_gpu) if gpus is None else gpus, threads)


def of_one_device(evaluator: Any) -> Any:
    """For an actor that sees its own GPUs only: there, the first of them is "cuda"."""
    import torch

    return replace(evaluator, device=torch.device("cuda")) if _on_gpu(evaluator) else evaluator


def _on_gpu(evaluator: Any) -> bool:
    return getattr(getattr(evaluator, "device", None), "type", "cpu") == "cuda"


def places(nodes: Sequence[Mapping[str, Any]], each: Claim) -> int:
    """How many workers have room on nodes, as ray.nodes() tells of them; a share of a GPU is never cut from two."""
    return sum(_places(node["Resources"], each) for node in nodes if node["Alive"])


def _places(has: Mapping[str, float], each: Claim) -> int:
    by_cpu = _times(has.get("CPU", 0.0), each.cpus)
    if not each.gpus:
        return by_cpu
    gpus = has.get("GPU", 0.0)
    return min(by_cpu, int(gpus) * _times(1.0, each.gpus) if each.gpus < 1 else _times(gpus, each.gpus))


def _times(whole: float, each: float) -> int:
    return math.floor(whole / each + 1e-9)  # 0.3 / 0.1 is 2.9999999999999996


def resources(cpus: float, gpus: float) -> str:
    return f"{cpus:g} CPUs and {gpus:g} GPUs"


def check_settings(workers: int | None, cpus: float | None, gpus: float | None) -> None:
    """Raises ConfigError for what no cluster could serve."""
    if workers is not None and workers < 1:
        raise ConfigError(f"executor.workers is {workers}; wanted 1 or more, or null for all there is room for.")
    if cpus is not None and not 0 < cpus < math.inf:
        raise ConfigError(f"executor.num_cpus is {cpus}; wanted a number above 0.")
    if gpus is not None and not (0 <= gpus <= 1 or gpus == int(gpus) > 0):
        raise ConfigError(f"executor.num_gpus is {gpus}; wanted a share of one GPU, or a whole number of them.")
