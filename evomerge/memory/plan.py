"""What a search holds in memory, counted before anything is loaded, and where its parents can lie: plain arithmetic.

Sizes are bytes unless a name says entries. The counts follow what is held at once:

- *building*: see evomerge.memory.building;
- *scoring*: see evomerge.memory.passes.

Building ends before scoring begins, so only the larger of the two is counted beside model, parents and what is learned
of them.

A worker may spread its model over several devices, and several workers may share a host. Weights of a model in M
pieces are counted as an even share and two blocks on the fullest device, which bounds what accelerate's split gives
for 7B to 70B. Workers on one memory map the same parents, which lie there once; all else each has for itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evomerge.memory.building import buffers, learned, learning, merging, tables
from evomerge.memory.passes import FLOAT32, evaluating
from evomerge.models.residency import Placement

#: Share of a memory that stays free: context and workspaces of the device's libraries, fragments of the allocator.
SPARE = 0.05
#: What the process itself holds on the host: python, torch, lm-eval, the tasks' documents.
PROCESS = 2 * 10**9
#: What each further process holds where it has no device of its own: 0.26 GB measured, and its tasks' documents.
WORKER = 5 * 10**8
UNEVEN = 2  # blocks by which the fullest of several devices exceeds an even share


@dataclass(frozen=True)
class Shape:
    """What of an architecture its memory depends on, in entries; `largest` is that of its `tensors`."""

    parameters: int
    tensors: int
    largest: int
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

    itemsize, live_itemsize: bytes of an entry at rest and in the live model. learns, keeps: see `Method`. whole:
    entries of adapters' differences that stand whole in float32 at once. residency: where the parents are to lie; None:
    wherever they fit.
    """

    shape: Shape
    checkpoints: tuple[int, ...]
    n_parents: int
    itemsize: int
    live_itemsize: int
    load: Load
    learns: bool = True
    keeps: int = 0
    whole: int = 0
    adapters: tuple[int, ...] = ()
    residency: Placement | None = None


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
    learned: int  # of the parents, on the device
    tables: int  # of the parents, on the host
    building: int
    buffers: int  # on top of `building`, where parents do not lie on the device
    job: Job
    machine: Machine

    @property
    def resident_peak(self) -> int:
        """With all parents on the devices: on the fullest one, or of all workers where memory is one."""
        parents = sum(self.job.checkpoints)
        return (parents if self.machine.engine else self.share(parents)) + self._workers(self.building)

    @property
    def streamed_peak(self) -> int:
        """The same with checkpoints' tensors brought there piece by piece; factors of adapters stay there."""
        return self._workers(self.building + self.buffers)

    def _workers(self, building: int) -> int:
        if self.machine.engine:
            return sum(self.job.adapters) + self.learned + self.machine.reserved + building
        resting = sum(map(self.share, (sum(self.job.adapters), self.learned, self.live)))
        each = resting + max(self.evaluator, building)
        if not self.machine.unified:
            return each
        return self.machine.workers * (each + self.tables) + (self.machine.workers - 1) * WORKER

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
        return PROCESS if self.machine.unified else (PROCESS + self.tables) * self.machine.workers

    @property
    def placement(self) -> Placement | None:
        """Where the parents lie: as near to the device as they fit, or where the job wants them, if they fit there."""
        wanted = self.job.residency
        if self.machine.unified and wanted == "host":
            wanted = "device"
        return next((where for where in self._possible if wanted in (None, where)), None)

    @property
    def _possible(self) -> Iterator[Placement]:
        """The places where parents fit, the nearest first. Each worker pins a copy of its own on the host."""
        room, host = self.machine.room, usable(self.machine.host)
        if self.loading > host or self.outgrows_engine:
            return
        if self.resident_peak <= room:
            yield "device"
        if self.streamed_peak <= room:
            if not self.machine.unified and self._processes + self.machine.workers * self.parents <= host:
                yield "host"
            yield "disk"

    @property
    def at_hand(self) -> bool:
        """Whether the host's memory can hold the parents: what is read again from disk is then read from there."""
        return self._processes + self.parents <= usable(self.machine.host)

    @property
    def peak(self) -> int:
        """Of the placement; where there is none, the least."""
        return self.resident_peak if self.placement == "device" else self.streamed_peak


def usable(free: int) -> int:
    return int(free * (1 - SPARE))


def plan(job: Job, machine: Machine) -> Plan:
    """The bytes of a search; Plan.placement is decided from them."""
    shape, on_cpu = job.shape, machine.unified
    looking = learning(shape, job.n_parents, on_cpu=on_cpu) if job.learns else 0
    return Plan(
        parents=sum(job.checkpoints) + sum(job.adapters),
        live=shape.parameters * job.live_itemsize,
        evaluator=evaluating(_piece(shape, machine.devices), job.load, job.live_itemsize),
        learned=learned(shape, job.n_parents, job.keeps) if job.learns else 0,
        tables=tables(shape, job.n_parents, job.itemsize) if job.learns else 0,
        building=job.whole * FLOAT32 + max(looking, merging(shape, job.n_parents, on_cpu=on_cpu)),
        buffers=0 if machine.unified else buffers(shape, len(job.checkpoints), job.itemsize),
        job=job,
        machine=machine,
    )


def _piece(shape: Shape, devices: int) -> Shape:
    """What one device of several computes with: its own layers' caches; the logits pass through the first and last."""
    return shape if devices == 1 else replace(shape, layers=min(shape.layers, -(-shape.layers // devices) + UNEVEN))


# ---------------------------------------------------------------- from real things


def shape_of(config: Any, shapes: Mapping[str, Sequence[int]]) -> Shape:
    """From a transformers config and the live model's tensors (name -> shape, a tied one once)."""
    text = config.get_text_config()
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    heads = text.num_attention_heads
    return Shape(
        parameters=sum(sizes.values()),
        tensors=len(sizes),
        largest=max(sizes.values()),
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
