"""What of this machine each worker gets: some of its GPUs, or a number of threads on its cores."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.errors import ConfigError


@dataclass(frozen=True)
class Share:
    """threads: what torch computes with, exactly the driver's number, or bits would differ. gpus: () on the CPU."""

    threads: int
    gpus: tuple[str, ...] = ()

    @property
    def environment(self) -> Mapping[str, str]:
        """Set before anything touches CUDA or starts a pool of threads."""
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(self.gpus)} if self.gpus else {}
        return {"OMP_NUM_THREADS": str(self.threads), **visible}


def shares(
    evaluator: Any, workers: int | None, devices: Sequence[int | str] | None, gpus_per_worker: int
) -> tuple[list[Share], tuple[str, ...]]:
    """One share a worker, and what the user should know. Raises ConfigError if more is wanted than there is.

    workers: None for as many as there is room for. devices: places among the visible GPUs, or their names.
    """
    import torch

    threads = getattr(evaluator, "threads", None) or torch.get_num_threads()
    device = getattr(evaluator, "device", torch.device("cpu"))
    if device.type == "cuda":
        chosen = [device.index] if devices is None and device.index is not None else devices
        return _of_gpus(_chosen(visible_gpus(), chosen), workers, gpus_per_worker, threads), ()
    if devices is not None:
        raise ConfigError(
            f"executor.devices is {list(devices)}, and device={device} uses none. Leave it out, or set device=cuda."
        )
    if gpus_per_worker != 1:
        raise ConfigError(
            f"executor.gpus_per_worker is {gpus_per_worker}, and device={device} uses none. Leave it out, or set "
            "device=cuda."
        )
    return _of_cores(cores(), workers, threads)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them. CUDA itself stays untouched."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
    return [name.strip() for name in names][: torch.cuda.device_count()]


def _chosen(visible: Sequence[str], devices: Sequence[int | str] | None) -> list[str]:
    if devices is None:
        return list(visible)
    unknown = [d for d in devices if not (d in visible if isinstance(d, str) else 0 <= d < len(visible))]
    if unknown:
        raise ConfigError(
            f"executor.devices names {unknown}, and the GPUs visible here are {list(visible)}. Wanted some of these "
            f"names, or places among them, from 0."
        )
    return [d if isinstance(d, str) else visible[d] for d in devices]


def _of_gpus(gpus: Sequence[str], workers: int | None, each: int, threads: int) -> list[Share]:
    wanted = (workers or 1) * each
    if wanted > len(gpus):
        raise ConfigError(
            f"executor.workers={workers or 1} with executor.gpus_per_worker={each} want {wanted} GPUs, and {len(gpus)} "
            "are to be had. Lower either of them."
        )
    count = workers or len(gpus) // each
    return [Share(threads, tuple(gpus[i * each : (i + 1) * each])) for i in range(count)]


def _of_cores(present: int, workers: int | None, threads: int) -> tuple[list[Share], tuple[str, ...]]:
    if workers is None:
        count = max(1, present // threads)
        return [Share(threads)] * count, lone(count, threads, present)
    note = f"{workers} workers of {threads} threads share {present} cores: fewer workers, or threads=1, may be faster"
    return [Share(threads)] * workers, (note,) if workers > 1 and workers * threads > present else ()


def lone(workers: int, threads: int, present: int) -> tuple[str, ...]:
    """A note where workers have so many threads each that there is but one."""
    if workers > 1 or threads == 1 or present == 1:
        return ()
    return (f"one worker of {threads} threads on {present} cores: threads=1 makes {present} workers",)
