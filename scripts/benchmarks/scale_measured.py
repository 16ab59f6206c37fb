"""Measured searches: which there are, their rows and table, and the costs that the simulation takes from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any, Literal

from benchmarks.scale_runs import BATCH, LAG, TOGETHER, Job, Measured, costs_of_driver
from benchmarks.scale_simulation import Costs
from benchmarks.tables import table

Row = dict[str, Any]

FREE = 0.9  # share of a processor that a worker has on a quiet machine
Optimizer = Literal["generational", "steady"]


def jobs(
    executors: Sequence[str], workers: Sequence[int], repeats: int, *, generations_only: bool
) -> Iterator[tuple[Job, ...]]:
    """Round by round all of them; those of one tuple at the same time. A quick look has no two side by side."""
    optimizers: tuple[Optimizer, ...] = ("generational",) if generations_only else ("generational", "steady")
    for repeat in range(repeats):
        for optimizer in optimizers:
            for executor in executors:
                for n in (1,) if executor == "local" else workers:
                    yield (Job(executor, n, optimizer, repeat),)
        if "local" in executors and not generations_only:
            yield tuple(Job("local", 1, "generational", repeat, rival) for rival in (0, 1))


def rows(found: Sequence[Measured]) -> list[Row]:
    """One for each executor, number of workers and optimizer; medians over repeats."""
    groups: dict[tuple[str, int, str], list[Measured]] = {}
    for m in (m for m in found if m.job.rival < 0):
        groups.setdefault((m.job.executor, m.job.workers, m.job.optimizer), []).append(m)
    plain = [_row(*place, group) | _speedup(group, found) for place, group in groups.items()]
    return [*plain, *_side_by_side(found)]


def _row(executor: str, workers: int, optimizer: str, group: Sequence[Measured]) -> Row:
    return {
        "executor": executor,
        "workers": workers,
        "candidates_per_minute": median(m.figures.candidates_per_minute for m in group),
        "idle_share": median(m.figures.idle_share for m in group),
        "overhead_ms": median(m.figures.overhead_ms for m in group),
        "measured_or_simulated": "measured",
        "optimizer": optimizer,
        **({"lambda": BATCH} if optimizer == "generational" else {"lag": LAG}),
        "startup_seconds": median(m.startup for m in group),
        "candidate_seconds": median(w.seconds for m in group for w in m.worked),
        "cpu_seconds": median(w.cpu for m in group for w in m.worked),
        "repeats": len(group),
    }


def _speedup(group: Sequence[Measured], found: Sequence[Measured]) -> Row:
    """Over the search of the same round, executor and optimizer with one worker."""
    ratios = [
        m.figures.candidates_per_minute / one.figures.candidates_per_minute
        for m in group
        for one in found
        if m.job.workers > 1 and m.job.rival < 0 and one.job == _alone(m.job)
    ]
    return _spread(ratios)


def _alone(job: Job) -> Job:
    return Job(job.executor, 1, job.optimizer, job.repeat)


def _spread(ratios: Sequence[float]) -> Row:
    if not ratios:
        return {}
    return {"speedup": median(ratios), "speedup_low": min(ratios), "speedup_high": max(ratios)}


def _side_by_side(found: Sequence[Measured]) -> list[Row]:
    """Two local searches at the same time as if they were one executor: the most that two workers could bring."""
    rounds = sorted({m.job.repeat for m in found if m.job.rival >= 0})
    pairs = [[m for m in found if m.job.rival >= 0 and m.job.repeat == r] for r in rounds]
    whole = [p for p in pairs if len(p) == 2]
    if not whole:
        return []
    both = [sum(m.figures.candidates_per_minute for m in p) for p in whole]
    alone = {m.job: m.figures.candidates_per_minute for m in found}
    ratios = [rate / alone[job] for p, rate in zip(whole, both, strict=True) if (job := _alone(p[0].job)) in alone]
    row = _row(TOGETHER, 2, "generational", [m for p in whole for m in p])
    return [row | {"candidates_per_minute": median(both), "repeats": len(whole)} | _spread(ratios)]


def busy(found: Sequence[Row]) -> str:
    """A warning if workers did not have a processor each; "" if they had."""
    share = min(r["cpu_seconds"] / r["candidate_seconds"] for r in found)
    if share > FREE:
        return ""
    return (
        f"The machine was busy with something else: candidates had a processor for {100 * share:.0f}% of their time in "
        "the worst case. Speed-ups and rates are not to be trusted; run again when it is quiet.\n"
    )


def table_of(found: Sequence[Row]) -> str:
    heads = ["executor", "workers", "optimizer", "per minute", "idle %", "overhead ms", "start-up s", "speedup [range]"]
    return table(heads, [_line(r) for r in found])


def _line(r: Row) -> list[str]:
    speedup = "{speedup:.2f} [{speedup_low:.2f}, {speedup_high:.2f}]".format(**r) if "speedup" in r else "-"
    figures = [f"{r['candidates_per_minute']:.1f}", f"{100 * r['idle_share']:.1f}", f"{r['overhead_ms']:.1f}"]
    return [r["executor"], str(r["workers"]), r["optimizer"], *figures, f"{r['startup_seconds']:.1f}", speedup]


# ---------------------------------------------------------------- for the simulation


def costs(found: Sequence[Measured]) -> dict[str, Costs]:
    """By optimizer. The hand-over is the dearest executor's; an unmeasured steady state costs what batches do."""
    handover = max(r["overhead_ms"] for r in rows(found)) / 1000
    driver = {o: costs_of_driver(found, o) for o in ("generational", "steady")}
    measured = {m.job.optimizer for m in found}
    result, tell = driver["generational"]
    steady = driver["steady"] if "steady" in measured else (result, tell)
    return {"generational": Costs(handover, result, tell), "steady": Costs(handover, *steady)}


def startup(found: Sequence[Measured]) -> float:
    """Seconds of the slowest executor."""
    return max(float(r["startup_seconds"]) for r in rows(found))
