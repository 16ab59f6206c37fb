"""How long a search will take, from a short measured run: one merge, a few items of each task, extrapolated.

Each task is timed on a handful of requests and on whole batches, after a warm-up; the fastest and the slowest second
per item make the range, for small batches leave a device idle and items differ in length. The run is from nothing: what
a journal already holds is not paid again. Several workers are taken to be as fast as the one that is timed, and the
search to keep them all busy: a generational optimizer waits for the last of each batch, which is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from evomerge.budget import Budget
from evomerge.families import Task
from evomerge.fitting import drawn
from evomerge.memory.prompts import Asked
from evomerge.plan import Plan
from evomerge.types import Recipe

HANDFUL = 8  # requests of the smallest measurement
PATIENCE = 20.0  # seconds that one measurement of a task may be expected to take
BATCHES = 2  # measurements on whole batches, each on items of its own
MERGES = 2

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Span:
    """Seconds, from and to."""

    low: float
    high: float

    def __add__(self, other: Span) -> Span:
        return Span(self.low + other.low, self.high + other.high)

    def times(self, low: float, high: float | None = None) -> Span:
        return Span(self.low * low, self.high * (low if high is None else high))


@dataclass(frozen=True)
class Estimate:
    """Seconds of a search from its start. phases: in order, summing up to `total` less `loading`, over all workers."""

    loading: float
    merge: Span
    items: Mapping[str, Span]  # by task: one item
    candidate: Span  # merge and the items of a draw
    phases: Mapping[str, Span]
    total: Span
    workers: int = 1


def measure(plan: Plan, requests: Mapping[str, Asked], tell: Tell = lambda line: None, *, workers: int = 1) -> Estimate:
    """Open the live model and time it; `tell` is called with what is being done. Takes seconds to a few minutes."""
    evaluator = plan.evaluator
    tell("loading the live model")
    with _clock(evaluator.device) as loading:
        bench = evaluator.open()
    tell("building a candidate")
    merge = _merging(plan)
    items = {}
    for task in evaluator.tasks:
        tell(f"scoring a few items of {task.name}")
        items[task.name] = per_item(
            task, plan.items["search"][task.name], requests[task.name].per_item, evaluator.backend, evaluator.device
        )
    bench.close()
    return extrapolate(plan, loading(), merge, items, workers=workers)


def _merging(plan: Plan) -> Span:
    """The plain average, then a candidate from the middle of the space; the first time reads the parents' files."""
    middle = plan.space.decode([0.5] * plan.space.size)  # type: ignore[arg-type]
    recipes: list[Recipe] = [plan.references["average"], *([middle] * MERGES)]
    seconds = [_seconds(plan.evaluator.device, partial(plan.evaluator.backend.write, r)) for r in recipes]
    plan.evaluator.backend.write(plan.references["average"])  # what is scored answers as a model does
    return Span(min(seconds[1:]), max(seconds[1:]))


def per_item(task: Task, ids: Sequence[str], per_item: float, backend: Any, device: torch.device) -> Span:
    """Seconds of an item. ids: the items to draw from. per_item: requests of an item."""
    handful = _portion(ids, 0, HANDFUL, per_item)
    _seconds(device, lambda: task.score(backend, handful))  # warm-up: requests are built, kernels chosen
    rates = [_rate(task, handful, backend, device)]
    batch = min(backend.batch_size, PATIENCE / max(rates[0] / max(per_item, 1.0), 1e-9))
    for number in range(BATCHES if batch > HANDFUL else 0):
        rates.append(_rate(task, _portion(ids, number, int(batch), per_item), backend, device))
    return Span(min(rates), max(rates))


def _rate(task: Task, ids: Sequence[str], backend: Any, device: torch.device) -> float:
    return _seconds(device, lambda: task.score(backend, ids)) / len(ids)


def _portion(ids: Sequence[str], number: int, requests: int, per_item: float) -> Sequence[str]:
    """The number-th run of items that make so many requests; items are in the order of a hash, so any run will do."""
    n = min(len(ids), max(2, round(requests / max(per_item, 1.0))))
    start = (number * n) % max(1, len(ids) - n + 1)
    return ids[start : start + n]


# ---------------------------------------------------------------- extrapolating


def extrapolate(plan: Plan, loading: float, merge: Span, items: Mapping[str, Span], *, workers: int = 1) -> Estimate:
    """The seconds of all phases, from those of a merge and of an item of each task."""
    each = {split: _one(merge, items, plan.items[split]) for split in ("search", "selection", "test")}
    asked = drawn(plan)
    candidate = _one(merge, items, asked)
    n_references = len(plan.references)
    control = plan.make_control(()).lag if plan.make_control else 0
    finalists = (n_references + 1, n_references + bool(control) + plan.finalists + 1)  # the last: the mean
    phases = {
        "references": each["search"].times(_turns(n_references, workers)),
        "search": _searching(plan.budget, sum(map(len, asked.values())), candidate, workers),
        "control": candidate.times(_turns(control, workers)),
        "selection": each["selection"].times(*(_turns(n, workers) for n in finalists)),
        "test": each["test"].times(*(_turns(n, workers) for n in finalists)),
    }
    total = sum(phases.values(), Span(loading, loading))
    return Estimate(loading, merge, items, candidate, phases, total, workers)


def _turns(n: int, workers: int) -> int:
    """Candidates, one after another, of the worker that has most of n."""
    return -(-n // workers)


def _one(merge: Span, items: Mapping[str, Span], ids: Mapping[str, Sequence[str]]) -> Span:
    return sum((items[task].times(len(some)) for task, some in ids.items()), merge)


def _searching(budget: Budget, wanted: int, each: Span, workers: int) -> Span:
    """The search phase under its budget: the limit that is reached first. wanted: items of a candidate."""
    counts = [budget.evaluations, budget.items // wanted if budget.items else None]
    known = [c for c in counts if c is not None]
    whole = each.times(_turns(min(known), workers)) if known else Span(float("inf"), float("inf"))
    limit = budget.seconds or float("inf")
    return Span(min(whole.low, limit), min(whole.high, limit + each.high))  # seconds are looked at between batches


# ---------------------------------------------------------------- clocks


def _seconds(device: torch.device, work: Callable[[], Any]) -> float:
    with _clock(device) as elapsed:
        work()
    return elapsed()


@contextmanager
def _clock(device: torch.device) -> Iterator[Callable[[], float]]:
    """Wall seconds between entering and leaving, the device's queue emptied at both ends."""
    ends: list[float] = []
    synchronize(device)
    began = time.perf_counter()
    yield lambda: ends[0] - began
    synchronize(device)
    ends.append(time.perf_counter())


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def human(span: Span) -> str:
    """A range as people say it: 3 to 5 minutes."""
    for unit, name in ((3600, "hours"), (60, "minutes")):
        if span.high >= 2 * unit:
            return f"{span.low / unit:.1f} to {span.high / unit:.1f} {name}"
    return (
        f"{span.low:.2g} to {span.high:.2g} seconds" if span.high < 10 else f"{span.low:.0f} to {span.high:.0f} seconds"
    )
