"""What a search holds in memory, counted before anything is loaded, and where its parents can lie: plain arithmetic.

Sizes are bytes unless a name says entries. The counts follow what is held at once:

- *building*: float32 slices of all parents, or whole tensors for a method that looks at them first (`prepare`);
- *scoring*: see evomerge.memory.passes.

Building ends before scoring begins, so only the larger of the two is counted beside model and parents.

A worker may spread its model over several devices, and several workers may share a host. Weights of a model in M
pieces are counted as an even share and two blocks on the fullest device, which bounds what accelerate's split gives
for 7B to 70B. Workers on one memory map the same parents, which lie there once; all else each has for itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from evomerge.memory.passes import FLOAT32, evaluating
from evomerge.models import layout

Placement = Literal["device", "host", "disk"]

#: Share of a memory that stays free: context and workspaces of the device's libraries, fragments of the allocator.
SPARE = 0.05
#: What the process itself holds on the host: python, torch, lm-eval, the tasks' documents.
PROCESS = 2 * 10**9
#: What each further process holds where it has no device of its own: 0.26 GB measured, and its tasks' documents.
WORKER = 5 * 10**8
UNEVEN = 2  # blocks by which the fullest of several devices exceeds an even share


@dataclass(frozen=True)
class Shape:
    """What of an architecture its memory depends on, in entries; `largest_block` is the largest tensor of a block."""

    parameters: int
    largest: int
    largest_block: int
    layers: int
    kv_heads: int
    head_dim: int
    hidden: int
    intermediate: int
    vocabulary: int


@dataclass(frozen=True)
class Load:
    """What the evaluator is given at once: requests, and tokens of the longest one to score and to continue.

    `generated` counts prompt and answer; 0 means that no task asks for such requests.
    """

    batch_size: int
    scored: int
    generated: int = 0


@dataclass(frozen=True)
class Job:
    """A search as far as memory goes. checkpoints: bytes of base and parents; adapters: bytes of their factors.

    itemsize, live_itemsize: bytes of an entry at rest and in the live model. prepares: whether the method looks at
    whole tensors first. slice_entries: evomerge.build.SLICE.
    """

    shape: Shape
    checkpoints: tuple[int, ...]
    n_parents: int
    itemsize: int
    live_itemsize: int
    load: Load
    slice_entries: int
    prepares: bool = True
    adapters: tuple[int, ...] = ()


@dataclass(frozen=True)
class Machine:
    """Free bytes. `unified`: device and host share one memory (cpu, mps), and `device` is what is free of it.

    device: free on each of the `devices` over which a worker spreads its model. workers: those that share the host.
    engine: share of a device that an inference engine takes for the live model and for scoring; 0 if there is none.
    Beside it each device builds its own slices, and keeps parents whole.
    """

    device: int
    host: int
    unified: bool = False
    devices: int = 1
    workers: int = 1
    engine: float = 0.0

    @property
    def reserved(self) -> int:
        """Bytes of a device that the engine takes."""
        return int(self.engine * self.device)

    @property
    def room(self) -> int:
        """Bytes of a device that may be used, the engine's with them."""
        return self.reserved + usable(self.device - self.reserved)


@dataclass(frozen=True)
class Plan:
    """Bytes of one search on one machine. placement None: it does not fit, wherever the parents lie."""

    parents: int
    live: int
    evaluator: int
    building: int  # with resident parents
    copying: int  # whole tensors on the device, on top of `building`, where parents do not lie there
    job: Job
    machine: Machine

    @property
    def resident_peak(self) -> int:
        """With all parents on the devices: on the fullest one, or of all workers where memory is one."""
        parents = sum(self.job.checkpoints)
        return (parents if self.machine.engine else self.share(parents)) + self._workers(self.building)

    @property
    def streamed_peak(self) -> int:
        """The same with checkpoints' tensors brought there one by one; factors of adapters stay there."""
        return self._workers(self.building + self.copying)

    def _workers(self, building: int) -> int:
        if self.machine.engine:
            return sum(self.job.adapters) + self.machine.reserved + building
        each = self.share(sum(self.job.adapters)) + self.share(self.live) + max(self.evaluator, building)
        if not self.machine.unified:
            return each
        return self.machine.workers * each + (self.machine.workers - 1) * WORKER

    def share(self, weights: int) -> int:
        """Of a model's weights, or of several models', what lies on the fullest device of a worker."""
        n, layers = self.machine.devices, self.job.shape.layers
        return weights if n == 1 else min(weights, -(-weights // n) + UNEVEN * weights // layers)

    @property
    def outgrows_engine(self) -> bool:
        return 0 < self.machine.reserved < self.share(self.live)

    @property
    def loading(self) -> int:
        """On the host while transformers loads live models: one image of the files, or a copy each if they are cast."""
        cast = self.job.live_itemsize != self.job.itemsize
        copies = 0 if self.machine.unified else self.machine.workers if cast else 1
        return self._processes + copies * self.live

    @property
    def _processes(self) -> int:
        return PROCESS * (1 if self.machine.unified else self.machine.workers)

    @property
    def placement(self) -> Placement | None:
        """Where the parents lie: device, host (copied over for every candidate), or disk (read for every candidate)."""
        room, host = self.machine.room, usable(self.machine.host)
        if self.loading > host or self.streamed_peak > room or self.outgrows_engine:
            return None
        if self.resident_peak <= room:
            return "device"
        return "host" if not self.machine.unified and self._processes + self.parents <= host else "disk"


def usable(free: int) -> int:
    return int(free * (1 - SPARE))


def plan(job: Job, machine: Machine) -> Plan:
    """The bytes of a search; Plan.placement is decided from them."""
    shape = job.shape
    deltas = len(job.adapters) * shape.largest_block * FLOAT32  # an adapter's B @ A is made whole
    return Plan(
        parents=sum(job.checkpoints) + sum(job.adapters),
        live=shape.parameters * job.live_itemsize,
        evaluator=evaluating(_piece(shape, machine.devices), job.load, job.live_itemsize),
        building=deltas + building(shape, job.n_parents, job.slice_entries, prepares=job.prepares),
        copying=shape.largest * len(job.checkpoints) * job.itemsize,
        job=job,
        machine=machine,
    )


def _piece(shape: Shape, devices: int) -> Shape:
    """What one device of several computes with: its own layers' caches; the logits pass through the first and last."""
    return shape if devices == 1 else replace(shape, layers=min(shape.layers, -(-shape.layers // devices) + UNEVEN))


def building(shape: Shape, n_parents: int, slice_entries: int, *, prepares: bool) -> int:
    """Peak of build.write beside parents and model. The factors are measured: the largest of all methods, P = 2..6."""
    part = min(slice_entries, shape.largest)
    if not prepares:
        return (2 * n_parents + 2) * part * FLOAT32
    whole = max(2 * n_parents, n_parents + 4) * shape.largest_block
    return max(whole, (3 * n_parents + 6) * part) * FLOAT32


# ---------------------------------------------------------------- from real things


def shape_of(config: Any, shapes: Mapping[str, Sequence[int]]) -> Shape:
    """From a transformers config and the live model's tensors (name -> shape, a tied one once)."""
    text = config.get_text_config()
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    in_blocks = [size for name, size in sizes.items() if layout.place(name).stack is not None]
    heads = text.num_attention_heads
    return Shape(
        parameters=sum(sizes.values()),
        largest=max(sizes.values()),
        largest_block=max(in_blocks, default=max(sizes.values())),
        layers=text.num_hidden_layers,
        kv_heads=getattr(text, "num_key_value_heads", None) or heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // heads,
        hidden=text.hidden_size,
        intermediate=_intermediate(text),
        vocabulary=text.vocab_size,
    )


def _intermediate(text: Any) -> int:
    """Entries of the MLP's inner state per token, over all experts that a token visits."""
    expert = getattr(text, "moe_intermediate_size", None)
    width = expert or getattr(text, "intermediate_size", None) or getattr(text, "n_inner", None) or 4 * text.hidden_size
    return int(width * (getattr(text, "num_experts_per_tok", None) or 1))
