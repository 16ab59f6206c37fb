"""The grid of simulated searches, its rows, its table, and what to choose by it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.scale_simulation import Costs, Deaths, Policy, simulate
from benchmarks.scale_times import Moments, Shape, Times, lognormal, resampled
from benchmarks.tables import table

WORKERS = (8, 64, 512)
LAMBDAS = (1.0, 1.25, 1.5, 2.0, 4.0)  # batch over workers
LAGS = (1.0, 1.5, 2.0, 4.0)  # lag over workers
SPREADS = (0.1, 0.3, 1.0)
MEASURED, FITTED = "measured", "lognormal, fitted"
IDLE = 0.10  # what a choice may leave idle

Row = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What the simulations have in common.

    seconds: measured, of candidates. candidate_seconds: the mean that they are stretched to. rounds: candidates that a
    worker could serve one after another in the simulated time. deaths_per_hour: of a worker that evaluates; restart:
    seconds until it serves again.
    """

    seconds: Sequence[float]
    candidate_seconds: float
    rounds: int
    generational: Costs
    steady: Costs
    deaths_per_hour: float
    restart: float
    seed: int


def policies(workers: int) -> Iterator[tuple[Policy, float]]:
    """Each with its lambda or lag over workers."""
    for ratio in LAMBDAS:
        yield Policy("generational", round(ratio * workers)), ratio
    for ratio in LAGS:
        yield Policy("in order", round(ratio * workers)), ratio
        yield Policy("free", round(ratio * workers)), ratio


def shapes(setting: Setting) -> Iterator[tuple[str, float, Shape]]:
    """Name, coefficient of variation and shape of each distribution of evaluation times."""
    mean, cv = setting.candidate_seconds, Moments.of(setting.seconds).cv
    yield MEASURED, cv, resampled(setting.seconds, mean)
    yield FITTED, cv, lognormal(mean, cv)
    for spread in SPREADS:
        yield f"lognormal, cv {spread:g}", spread, lognormal(mean, spread)


def study(setting: Setting) -> Iterator[Row]:
    """One row for each number of workers, distribution and policy; the measured one also with workers that die."""
    for workers in WORKERS:
        for name, cv, shape in shapes(setting):
            times = Times(shape, setting.seed)
            for deaths in (0.0, setting.deaths_per_hour) if name == MEASURED else (0.0,):
                for policy, ratio in policies(workers):
                    yield row(setting, policy, workers, times, deaths) | {"times": name, "cv": cv, "ratio": ratio}


def row(setting: Setting, policy: Policy, workers: int, times: Times, deaths_per_hour: float) -> Row:
    costs = setting.generational if policy.rule == "generational" else setting.steady
    deaths = Deaths(3600 / deaths_per_hour, setting.restart, setting.seed) if deaths_per_hour else None
    span = setting.rounds * setting.candidate_seconds
    found = simulate(policy, workers, times, span=span, costs=costs, deaths=deaths)
    return {
        "executor": "simulated",
        "workers": workers,
        "candidates_per_minute": found.candidates_per_minute,
        "idle_share": found.idle_share,
        "overhead_ms": 1000 * (costs.handover + costs.result + costs.tell),
        "measured_or_simulated": "simulated",
        "optimizer": policy.rule if policy.rule == "generational" else f"steady, {policy.rule}",
        "lambda" if policy.rule == "generational" else "lag": policy.lag,
        "candidate_seconds": setting.candidate_seconds,
        "deaths_per_hour": deaths_per_hour,
        "lost_share": found.lost_share,
    }


# ---------------------------------------------------------------- what it says


def idle_table(rows: Sequence[Row]) -> str:
    """Idle share of each policy by workers, one column per distribution."""
    columns = list(dict.fromkeys((r["times"], r["deaths_per_hour"]) for r in rows))
    lines: dict[tuple[str, ...], dict[tuple[str, float], str]] = {}
    for r in rows:
        place = (str(r["workers"]), r["optimizer"], _size(r))
        lines.setdefault(place, {})[r["times"], r["deaths_per_hour"]] = f"{100 * r['idle_share']:.1f}"
    heads = [f"{name}, {deaths:g} deaths/h" if deaths else name for name, deaths in columns]
    body = [[*place, *(cells[c] for c in columns)] for place, cells in lines.items()]
    return table(["workers", "optimizer", "size", *heads], body)


def _size(r: Row) -> str:
    return f"lambda = {r['ratio']:g} W" if "lambda" in r else f"lag = {r['ratio']:g} W"


def advice(rows: Sequence[Row]) -> list[str]:
    """A sentence for each number of workers and distribution: what the barrier costs, what to choose."""
    groups: dict[tuple[int, str, float], list[Row]] = {}
    for r in rows:
        if not r["deaths_per_hour"]:
            groups.setdefault((r["workers"], r["times"], r["cv"]), []).append(r)
    return [_sentence(*place, found) for place, found in groups.items() if place[1] != FITTED]


def _sentence(workers: int, name: str, cv: float, rows: Sequence[Row]) -> str:
    batches = [r for r in rows if "lambda" in r]
    steady = [r for r in rows if r["optimizer"] == "steady, in order"]
    told = ", ".join(f"{r['ratio']:g} W {100 * r['idle_share']:.0f}%" for r in batches)
    return (
        f"W = {workers}, {name if name != MEASURED else f'measured (cv {cv:.2g})'}: lambda leaves idle {told}; "
        f"choose {_choice('lambda', batches)}, or in a steady state {_choice('lag', steady)}."
    )


def _choice(what: str, rows: Sequence[Row]) -> str:
    """The smallest that leaves few idle (a larger one learns less often), else the one that leaves least."""
    served = [r for r in rows if r["idle_share"] <= IDLE]
    best = served[0] if served else min(rows, key=lambda r: float(r["idle_share"]))
    found = f"{what} = {best['ratio']:g} W = {best[what]} ({100 * best['idle_share']:.0f}% idle)"
    return found if served else f"{found}, for no {what} up to {rows[-1]['ratio']:g} W leaves {100 * IDLE:.0f}% or less"
