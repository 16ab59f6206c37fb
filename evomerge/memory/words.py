"""The memory of a search in words: does it fit, where do the parents lie, and which settings would do better."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch

from evomerge.build import SLICE
from evomerge.errors import ConfigError, ParentError
from evomerge.memory.plan import Job, Load, Machine, Placement, Plan, Shape, plan, shape_of, usable
from evomerge.methods import get
from evomerge.models.blank import pick_dtype
from evomerge.models.family import bytes_of, checkpoint_dtype, free_bytes
from evomerge.types import Recipe

RANKS: tuple[Placement | None, ...] = (None, "disk", "host", "device")
WHERE = {
    "device": "all parents stay on the device",
    "host": "parents stay in the host's memory and are copied over tensor by tensor for every candidate",
    "disk": "parents are read from disk tensor by tensor for every candidate, which is slow",
    None: "it does not fit",
}
SHORTEST = 64  # tokens: no max_length below this is suggested


def check(found: Plan) -> None:
    """Raises ConfigError, with the numbers and the way out, if the search fits nowhere."""
    if found.placement is not None:
        return
    if found.loading > usable(found.machine.host):
        raise ConfigError(
            f"the live model takes {gb(found.live)} of host memory while it is loaded, and {gb(found.machine.host)} "
            "are free. Use dtype=bfloat16, a machine with more memory, or a smaller model."
        )
    remedies = ways_out(found)
    advice = f"Set {', or '.join(remedies)}." if remedies else "Use a larger device or a smaller model."
    raise ConfigError(
        f"{gb(found.machine.device)} are free on the device ({gb(usable(found.machine.device))} after a reserve) and "
        f"the search needs {gb(found.streamed_peak)}: {gb(found.live)} for the live model, {gb(found.evaluator)} for "
        f"scoring {load_words(found.job.load)}, {gb(found.building + found.copying)} while building. {advice}"
    )


def ways_out(found: Plan) -> list[str]:
    """Settings under which the search fits, or its parents come nearer to the device; at most one of a kind."""
    kinds = (_batches(found.job), _lengths(found.job), _dtypes(found.job), _parents(found.job))
    firsts = (next((words for words, job in kind if _helps(job, found)), None) for kind in kinds)
    return [words for words in firsts if words]


def _helps(job: Job, found: Plan) -> bool:
    return RANKS.index(plan(job, found.machine).placement) > RANKS.index(found.placement)


def _batches(job: Job) -> Iterator[tuple[str, Job]]:
    for size in _halves(job.load.batch_size):
        yield f"backend.batch_size={size}", replace(job, load=replace(job.load, batch_size=size))


def _lengths(job: Job) -> Iterator[tuple[str, Job]]:
    for n in _halves(max(job.load.scored, job.load.generated)):
        if n >= SHORTEST:
            shorter = replace(job.load, scored=min(n, job.load.scored), generated=min(n, job.load.generated))
            yield f"backend.max_length={n}", replace(job, load=shorter)


def _dtypes(job: Job) -> Iterator[tuple[str, Job]]:
    if job.live_itemsize > 2:
        half = replace(job, live_itemsize=2)
        yield "dtype=bfloat16", half
        yield from ((f"dtype=bfloat16 with {words}", smaller) for words, smaller in _batches(half))


def _parents(job: Job) -> Iterator[tuple[str, Job]]:
    """Fewer parents, the first ones; the base stays."""
    bases = len(job.checkpoints) + len(job.adapters) - job.n_parents
    for n in range(job.n_parents - 1, 1, -1):
        adapters = job.adapters[:n]
        kept = job.checkpoints[: bases + n - len(adapters)]
        yield f"parents.models to {n} parents", replace(job, n_parents=n, checkpoints=kept, adapters=adapters)


def _halves(n: int) -> list[int]:
    return [n >> k for k in range(1, n.bit_length())]


# ---------------------------------------------------------------- in words


def sentence(found: Plan) -> str:
    """Where the parents lie, with the peak; for a search that fits."""
    peak = found.resident_peak if found.placement == "device" else found.streamed_peak
    return f"{WHERE[found.placement]}; peak {gb(peak)} of {gb(found.machine.device)} free"


def load_words(load: Load) -> str:
    return f"{load.batch_size} requests of up to {max(load.scored, load.generated)} tokens at once"


def gb(size: int) -> str:
    """Bytes as people read them: 15.2 GB, 310 MB, 6 kB."""
    for unit, name, digits in ((10**9, "GB", 1), (10**6, "MB", 1 if size < 10**7 else 0)):
        if size >= unit:
            return f"{size / unit:.{digits}f} {name}"
    return f"{size / 1e3:.0f} kB"


# ---------------------------------------------------------------- from real things


def job_of(family: Any, *, recipe: Recipe, dtype: str, load: Load) -> Job:
    """The job of a search over a family; `recipe` is any of its candidates: it names the methods in use."""
    checkpoints, adapters = family.checkpoints, [p for p in family.all if p not in family.checkpoints]
    return Job(
        shape=family_shape(family),
        checkpoints=tuple(map(bytes_of, checkpoints)),
        n_parents=len(family.parents),
        itemsize=pick_dtype(checkpoint_dtype(family.model)).itemsize,
        live_itemsize=pick_dtype(dtype).itemsize,
        load=load,
        slice_entries=SLICE,
        prepares=any(get(name).prepare is not None for name in methods_of(recipe)),
        adapters=tuple(map(folder_bytes, adapters)),
    )


def family_shape(family: Any) -> Shape:
    return shape_of(read_config(family), family.shapes)


def read_config(family: Any) -> Any:
    """The transformers config of the live model. Raises ParentError for an architecture that is not known."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(family.base_folder, local_files_only=True)
    except (ValueError, OSError, KeyError) as e:
        raise ParentError(f"transformers does not know the model in {family.base_folder} ({e}).") from e


def methods_of(recipe: Recipe) -> set[str]:
    blends = [b for slot in recipe.slots for b in slot.blends.values()] + list(recipe.outer.values())
    return {blend.method for blend in blends}


def folder_bytes(adapter: Any) -> int:
    return sum(path.stat().st_size for path in Path(adapter.folder).glob("*.safetensors"))


def machine_of(device: torch.device) -> Machine:
    return Machine(free_bytes(device), psutil.virtual_memory().available, unified=device.type != "cuda")
