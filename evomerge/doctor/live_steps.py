"""Steps of the self-test on a live model: memory against the plan, writing back, batch sizes, speed."""

from __future__ import annotations

import gc
import hashlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psutil
import torch

from evomerge.doctor.steps import StepFailed
from evomerge.doctor.timing import synchronize
from evomerge.evaluate import Evaluator
from evomerge.families import Request
from evomerge.memory.plan import Plan as MemoryPlan
from evomerge.memory.prompts import requests_of, scored_text
from evomerge.models.blank import live_tensors
from evomerge.models.family import open_family
from evomerge.models.parent import Parent
from evomerge.plan import Plan
from evomerge.spaces.references import unique
from evomerge.types import Recipe

SOME = 32  # items of each task that are scored
ALLOWANCE = 512 * 2**20  # bytes of buffers and threads that a CPU's libraries take at their first use
#: Largest change of a log-likelihood with the batch size. Half precision rounds each of hundreds of terms.
NOISE = {"float32": 1e-3, "bfloat16": 0.5, "float16": 0.5}


# ---------------------------------------------------------------- memory


def memory(plan: Plan, planned: MemoryPlan) -> dict[str, Any]:
    """Open the live model, build a candidate, score a few items: the peak must not exceed the plan."""
    device = plan.evaluator.device
    gc.collect()  # a model of an earlier step
    with peak(device) as reached:
        plan.evaluator.open()
        plan.evaluator.backend.write(middle(plan))
        answers(plan.evaluator)
    bound = planned.peak
    allowed = bound + (0 if device.type == "cuda" else ALLOWANCE)
    figures = {"peak_bytes": reached(), "planned_bytes": bound, "allowed_bytes": allowed, "kind": _kind(device)}
    if reached() > allowed:
        raise StepFailed(f"the peak of {reached()} bytes exceeds the {allowed} of the plan", figures)
    return figures


def _kind(device: torch.device) -> str:
    return "allocated on the device" if device.type == "cuda" else "growth of the process (RSS)"


@contextmanager
def peak(device: torch.device) -> Iterator[Callable[[], int]]:
    """Bytes at the highest point between entering and leaving: of the device's allocator, or what RSS grew by."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield lambda: torch.cuda.max_memory_allocated(device)
        return
    process, done = psutil.Process(), threading.Event()
    before = process.memory_info().rss
    seen = [before]

    def watch() -> None:
        while not done.wait(0.005):
            seen.append(max(seen[-1], process.memory_info().rss))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: seen[-1] - before
    finally:
        done.set()
        thread.join()


def middle(plan: Plan) -> Recipe:
    return plan.space.decode([0.5] * plan.space.size)  # type: ignore[arg-type]


# ---------------------------------------------------------------- writing back


@dataclass(frozen=True)
class Alone:
    """What a parent is when transformers loads it by itself: digests of its tensors, and its answers."""

    tensors: Mapping[str, str]
    answers: list[Any]


def parent_alone(plan: Plan, left: dict[str, Alone]) -> dict[str, Any]:
    """Load a parent by itself, ask it, and leave what it is in `left` under its id; nothing is written."""
    evaluator = plan.evaluator
    _, away = home_and_away(plan)
    parent = evaluator.family.find(plan.references[away].parents[0])
    construct, arguments = evaluator.backend.__reduce__()  # the settings without the live model
    fresh = replace(evaluator, family=open_family([str(parent.folder)]), backend=construct(*arguments))
    fresh.open()
    left[away] = Alone(tensors(fresh.backend), answers(fresh))
    return {"parent": away, "tensors": len(left[away].tensors), "answers": len(left[away].answers)}


def write_back(plan: Plan, alone: Mapping[str, Alone]) -> dict[str, Any]:
    """A parent written into the live model is that parent loaded alone; back again are the first bits."""
    home, away = home_and_away(plan)
    evaluator = plan.evaluator
    evaluator.backend.write(plan.references[home])
    first = tensors(evaluator.backend)
    evaluator.backend.write(plan.references[away])
    figures = {
        "home": home,
        "away": away,
        "tensors_unequal": _unequal(tensors(evaluator.backend), alone[away].tensors),
        "answers_unequal": _unequal(dict(enumerate(answers(evaluator))), dict(enumerate(alone[away].answers))),
    }
    evaluator.backend.write(plan.references[home])
    figures["tensors_not_restored"] = _unequal(tensors(evaluator.backend), first)
    if any(isinstance(n, int) and n for n in figures.values()):
        raise StepFailed("writing is not exact", figures)
    return figures


def home_and_away(plan: Plan) -> tuple[str, str]:
    """Base, or the first parent, and a checkpoint that can be loaded alone."""
    family = plan.evaluator.family
    names = [f"parent:{name}" for name in unique(family.pool().names)]
    full = [n for n, p in zip(names, family.parents, strict=True) if isinstance(p, Parent)]
    home = "base" if family.base else full[0]
    others = [n for n in full if n != home]
    return home, others[0] if others else home


def tensors(backend: Any) -> dict[str, str]:
    """Digest of every tensor of the live model: a copy of all would not fit beside it."""
    return {name: _digest(tensor.detach()) for name, tensor in live_tensors(backend.lm.model).items()}


def _digest(tensor: torch.Tensor) -> str:
    content = tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy()
    return hashlib.sha256(content.data).hexdigest()[:16]


def answers(evaluator: Evaluator) -> list[Any]:
    """What the live model answers to some search items of every task: log-likelihoods and texts."""
    return evaluator.backend.answer(some_requests(evaluator))  # type: ignore[no-any-return]


def some_requests(evaluator: Evaluator) -> list[Request]:
    asked = ((task, task.items["search"][:SOME]) for task in evaluator.tasks)
    return [r for task, ids in asked for r in requests_of(task, ids, evaluator.backend.tokenizer)]


def _unequal(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> int:
    return sum(one.get(key) != other.get(key) for key in {*one, *other})


# ---------------------------------------------------------------- batch sizes


def batch_noise(plan: Plan) -> dict[str, Any]:
    """How far answers depend on the batch size: one request at a time against the setting."""
    backend, limit = plan.evaluator.backend, NOISE[plan.evaluator.dtype]
    requests, full = some_requests(plan.evaluator), backend.batch_size
    at: dict[int, list[Any]] = {}
    for size in (full, 1):
        backend.batch_size = size
        at[size] = backend.answer(requests)
    backend.batch_size = full
    pairs = list(zip(at[full], at[1], strict=True))
    shifts = [abs(a[0] - b[0]) for a, b in pairs if isinstance(a, tuple)]
    figures = {
        "batch_sizes": [1, full],
        "requests": len(requests),
        "largest_shift": max(shifts, default=0.0),
        "texts_changed": sum(a != b for a, b in pairs if isinstance(a, str)),
        "limit": limit,
    }
    if not max(shifts, default=0.0) <= limit:
        raise StepFailed("log-likelihoods depend on the batch size more than rounding explains", figures)
    return figures


# ---------------------------------------------------------------- speed


def speed(plan: Plan, planned: MemoryPlan, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Tokens and merges per second, and merges against what the memory's speed allows."""
    evaluator = plan.evaluator
    merge = min(_timed(evaluator, lambda: evaluator.backend.write(middle(plan))) for _ in range(3))
    requests = some_requests(plan.evaluator)
    seconds = _timed(evaluator, lambda: evaluator.backend.answer(requests))
    tokens = sum(map(len, (evaluator.backend.tokenizer(_text(r))["input_ids"] for r in requests)))
    floor = (planned.parents + planned.live) / facts["bytes_per_second"] if "bytes_per_second" in facts else None
    return {
        "merge_seconds": merge,
        "merges_per_second": 1 / merge,
        "floor_seconds": floor,
        "times_the_floor": merge / floor if floor else None,
        "tokens_per_second": tokens / seconds,
        "requests_per_second": len(requests) / seconds,
    }


def _text(request: Request) -> str:
    return str(request.args[0]) if request.request_type == "generate_until" else scored_text(request)


def _timed(evaluator: Evaluator, work: Callable[[], Any]) -> float:
    synchronize(evaluator.device)
    began = time.perf_counter()
    work()
    synchronize(evaluator.device)
    return max(time.perf_counter() - began, math.ulp(1.0))
