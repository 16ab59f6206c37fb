"""scripts/bench_scale.py: the simulation against closed forms, the figures on made events, and a whole quick look."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
KEYS = {"executor", "workers", "candidates_per_minute", "idle_share", "overhead_ms", "measured_or_simulated"}


@pytest.fixture(scope="module", autouse=True)
def scripts_path() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield
    for name in [m for m in sys.modules if m == "bench_scale" or m.split(".")[0] == "benchmarks"]:
        del sys.modules[name]


def part(name: str) -> ModuleType:
    return import_module(f"benchmarks.scale_{name}")


def simulated(rule: str, lag: int, workers: int, seconds: Callable[[int], float], span: float, **more: Any) -> Any:
    simulation = part("simulation")
    return simulation.simulate(simulation.Policy(rule, lag), workers, seconds, span=span, **more)


def exponential(mean: float, seed: int = 1) -> Callable[[int], float]:
    found: Callable[[int], float] = part("times").Times(lambda rng, n: rng.exponential(mean, n), seed)
    return found


def constant(candidate: int) -> float:
    return 2.0


def harmonic(n: int) -> float:
    return sum(1 / k for k in range(1, n + 1))


# ---------------------------------------------------------------- the simulation


@pytest.mark.parametrize(("batch", "idle"), [(8, 0.0), (16, 0.0), (9, 1 - 9 / 16), (10, 1 - 10 / 16), (4, 0.5)])
def test_with_equal_times_a_batch_is_whole_rounds_and_the_last_one_is_part_idle(batch: int, idle: float):
    found = simulated("generational", batch, 8, constant, span=80.0)
    assert found.idle_share == pytest.approx(idle)
    assert found.candidates_per_minute == pytest.approx(30 * 8 * (1 - idle))


@pytest.mark.parametrize("batch", [8, 16, 28])
def test_a_batch_of_exponential_times_ends_with_the_slowest_of_the_workers(batch: int):
    mean, workers = 2.0, 8
    generation = mean * ((batch - workers) / workers + harmonic(workers))  # no memory: whoever is left begins anew
    found = simulated("generational", batch, workers, exponential(mean), span=4000 * generation)
    assert found.candidates_per_minute == pytest.approx(60 * batch / generation, rel=0.02)
    assert found.idle_share == pytest.approx(1 - batch * mean / (workers * generation), abs=0.02)


def test_in_order_two_workers_wait_a_quarter_of_their_time_for_the_older_candidate():
    # both run, or the younger is done and the older is not: as much time in either state, half of the workers idle
    found = simulated("in order", 2, 2, exponential(1.0), span=20000.0)
    assert found.idle_share == pytest.approx(1 / 4, abs=0.01)
    assert found.candidates_per_minute == pytest.approx(60 * 1.5, rel=0.02)


def test_told_in_any_order_nobody_waits_and_a_long_lag_has_nobody_wait_in_order_either():
    heavy = part("times").Times(part("times").lognormal(1.0, 1.0), 3)
    assert simulated("free", 8, 8, heavy, span=500.0).idle_share == pytest.approx(0, abs=1e-9)
    assert simulated("in order", 4000, 8, heavy, span=500.0).idle_share == pytest.approx(0, abs=1e-9)
    idle = [simulated("in order", lag, 8, heavy, span=500.0).idle_share for lag in (8, 12, 16, 32, 64)]
    assert idle == sorted(idle, reverse=True)
    assert idle[0] > 0.3


def test_in_order_waits_less_than_a_barrier_of_the_same_size():
    for cv in (0.1, 0.3, 1.0):
        times = part("times").Times(part("times").lognormal(1.0, cv), 5)
        for lag in (8, 16, 32):
            steady, batch = (simulated(rule, lag, 8, times, span=800.0) for rule in ("in order", "generational"))
            assert steady.idle_share < batch.idle_share


def test_one_workers_cycle_is_evaluation_and_all_costs():
    costs = part("simulation").Costs(handover=0.5, result=0.25, tell=0.25)
    for rule in ("generational", "in order", "free"):
        found = simulated(rule, 1, 1, constant, span=300.0, costs=costs)
        assert found.candidates_per_minute == pytest.approx(60 / 3, rel=0.02)
        assert found.idle_share == pytest.approx(1 / 3, abs=0.01)


def test_a_driver_that_is_busy_all_the_time_sets_the_rate():
    costs = part("simulation").Costs(result=0.1, tell=0.4)
    found = simulated("in order", 400, 100, constant, span=4000.0, costs=costs)
    assert found.candidates_per_minute == pytest.approx(60 / 0.5, rel=0.02)
    assert found.busy == pytest.approx(found.finished * 2.0, rel=0.03)


def test_a_worker_that_dies_starts_its_candidate_anew():
    between, restart = 3.0, 1.0
    deaths = part("simulation").Deaths(between, restart, seed=2)
    found = simulated("in order", 1, 1, constant, span=60000.0, deaths=deaths)
    each = math.exp(2 / between) - 1  # deaths of a candidate
    assert 60 / found.candidates_per_minute == pytest.approx((between + restart) * each, rel=0.02)
    assert found.busy == pytest.approx(2.0 * found.finished, rel=0.001)
    assert found.idle_share * found.seconds == pytest.approx(restart * each * found.finished, rel=0.03)
    assert found.lost_share + found.idle_share + found.busy / found.seconds == pytest.approx(1)


def test_the_same_seed_gives_the_same_outcome_and_another_seed_another():
    simulation = part("simulation")

    def found(seed: int) -> Any:
        deaths = simulation.Deaths(20.0, 1.0, seed)
        return simulated("in order", 12, 8, exponential(1.0, seed), span=200.0, deaths=deaths)

    assert found(1) == found(1) != found(2)


# ---------------------------------------------------------------- times


def test_a_lognormal_has_the_asked_mean_and_spread():
    times = part("times")
    for cv in (0.1, 1.0):
        drawn = times.lognormal(60.0, cv)(np.random.default_rng(0), 400_000)
        moments = times.Moments.of(drawn)
        assert (moments.mean, moments.cv) == (pytest.approx(60, rel=0.01), pytest.approx(cv, rel=0.02))
    assert times.lognormal(60.0, 0.0)(np.random.default_rng(0), 3).tolist() == pytest.approx([60.0] * 3)


def test_measured_times_keep_their_shape_when_they_are_stretched():
    times = part("times")
    drawn = times.resampled([1.0, 2.0, 3.0], mean=60.0)(np.random.default_rng(0), 1000)
    assert set(drawn) == {30.0, 60.0, 90.0}


def test_a_candidate_takes_the_same_time_whoever_asks_first():
    forth, back = (exponential(1.0) for _ in range(2))
    ids = [0, 4095, 4096, 9000]
    assert [forth(i) for i in ids] == [back(i) for i in reversed(ids)][::-1]
    assert len({forth(i) for i in ids}) == 4


# ---------------------------------------------------------------- events


def event(kind: str, ident: Any, time: float, worker: int = 0, phase: str = "search", **more: Any) -> dict[str, Any]:
    return {"event": kind, "id": ident, "time": time, "worker": worker, "phase": phase, **more}


TWO_WORKERS = [
    event("attempt", "base", 0.0, phase="references"),
    event("done", "base", 9.0, phase="references", seconds=9.0),
    event("attempt", 0, 10.0),
    event("attempt", 1, 10.0, worker=1),
    event("done", 0, 12.0, seconds=1.9),
    event("attempt", 2, 12.5),
    event("died", 2, 13.0),
    event("attempt", 2, 13.5),
    event("done", 1, 14.0, worker=1, seconds=3.9),
    event("done", 2, 15.0, seconds=1.0, rung=0),
    event("done", 2, 16.0, seconds=1.0, rung=1),
    {"event": "note", "time": 17.0, "text": "of no phase"},
]


def test_figures_are_those_of_the_search_and_an_attempt_that_died_is_no_work():
    events = part("events")
    found = events.served(TWO_WORKERS)
    assert [(s.id, s.began, s.ended, s.seconds) for s in found] == [
        (0, 10, 12, 1.9),
        (1, 10, 14, 3.9),
        (2, 13.5, 16, 2),
    ]
    figures = events.figures(found, workers=2)
    assert figures.candidates_per_minute == pytest.approx(60 * 3 / 6)
    assert figures.idle_share == pytest.approx(1 - 7.8 / 12)
    assert figures.overhead_ms == pytest.approx(100)


def test_a_workers_own_clock_counts_and_waiting_behind_another_candidate_is_no_overhead():
    sent_ahead = [event("attempt", 0, 0.0), event("attempt", 1, 0.1), event("done", 0, 2.0, seconds=2.0)]
    found = part("events").served([*sent_ahead, event("done", 1, 4.0, seconds=3.9)], {0: 1.9, 1: 1.5})
    assert [s.overhead for s in found] == [pytest.approx(0.1), pytest.approx(0.5)]


def test_the_drivers_seconds_are_told_apart_by_where_a_batch_ends():
    rows, clock = [], 0.0
    for ident in range(12):
        clock += 0.0 if ident == 0 else 1.01 if ident % 4 == 0 else 0.01
        rows += [event("attempt", ident, clock), event("done", ident, clock + 5, seconds=5.0)]
        clock += 5
    found = part("events").served(rows)
    assert part("events").driver_seconds(found, 4) == (pytest.approx(0.01), pytest.approx(0.25))
    assert part("events").driver_seconds(found, 1)[1] == 0
    assert part("events").driver_seconds(found, 1)[0] == pytest.approx((9 * 0.01 + 2 * 1.01) / 11)


# ---------------------------------------------------------------- the whole


def look(*arguments: str, file: Path) -> list[dict[str, Any]]:
    import_module("bench_scale").main([*arguments, "--rounds", "6", "--json", str(file)])
    rows: list[dict[str, Any]] = json.loads(file.read_text())
    assert all(row.keys() >= KEYS for row in rows)
    return rows


def test_a_quick_look_measures_an_executor_and_simulates_many_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    quick = part("runs").TIMED.replace("share_prefix: false", "share_prefix: true").replace("8", "64")
    monkeypatch.setattr(part("runs"), "TIMED", quick)
    rows = look("--quick", "--executors", "local", file=tmp_path / "rows.json")
    (local,) = [row for row in rows if row["measured_or_simulated"] == "measured"]
    assert (local["executor"], local["workers"], local["lambda"]) == ("local", 1, 8)
    assert 0 <= local["idle_share"] < 0.5
    assert local["candidates_per_minute"] == pytest.approx(60 / local["candidate_seconds"], rel=0.5)
    assert 0 < local["cpu_seconds"] <= local["candidate_seconds"] * 1.05
    assert 0 <= local["overhead_ms"] < 200
    grid = {(row["workers"], row["optimizer"]) for row in rows if row["measured_or_simulated"] == "simulated"}
    assert grid == {(w, o) for w in (8, 64, 512) for o in ("generational", "steady, in order", "steady, free")}
    assert "choose lambda = " in capsys.readouterr().out


def test_times_of_a_run_are_simulated_again_and_again_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in TWO_WORKERS))
    rows = look("--run", str(tmp_path), file=tmp_path / "rows.json")
    assert rows == look("--run", str(tmp_path), file=tmp_path / "again.json")
    told = capsys.readouterr().out
    assert "evaluations: 3, mean 2.60 s" in told
    assert sorted({row["candidate_seconds"] for row in rows}) == [pytest.approx(2.6), 60.0]


def test_a_run_without_a_search_and_a_model_without_experts_are_errors(tmp_path: Path):
    with pytest.raises(SystemExit, match="no candidate of a search"):
        look("--run", str(tmp_path), file=tmp_path / "rows.json")
    with pytest.raises(SystemExit, match="2"):
        look("--model", str(tmp_path), file=tmp_path / "rows.json")


def test_the_hand_over_is_a_share_of_a_candidate_that_writes_its_answers(tmp_path: Path):
    from evomerge.config import ZOO

    zoo, found = ZOO / "pico", part("handover")
    case = found.Case(
        base=str(zoo / "base"),
        experts=(str(zoo / "rev"), str(zoo / "add")),
        include_path=zoo / "tasks",
        tasks=("pico_rev",),
        items=4,
        shots=2,
        candidates=2,
        dtype="float32",
        device="cpu",
        batch_size=4,
        seed=1,
    )
    candidates = found.measure(case)
    row = found.row(case, candidates)
    assert len(candidates) == row["candidates"] == 2
    assert row["items"] == 4
    assert 0 < row["handover_share"] < 1
    assert row["overhead_ms"] == pytest.approx(1000 * row["write_seconds"])


def test_speed_ups_are_paired_by_round_and_two_side_by_side_are_added_up():
    runs, measured, events = part("runs"), part("measured"), part("events")

    def made(rate: float, **job: Any) -> Any:
        figures = events.Figures(8, rate, 0.1, 5.0)
        worked = (part("backend").Worked(1.0, 0.99),)
        job = {"executor": "processes", "workers": 1, "optimizer": "generational"} | job
        return runs.Measured(runs.Job(**job), (), worked, figures, 1.0)

    found = [made(r, repeat=i) for i, r in enumerate((60.0, 30.0, 50.0))]
    found += [made(r, repeat=i, workers=2) for i, r in enumerate((120.0, 30.0, 75.0))]
    found += [made(50.0, executor="local")]
    found += [made(r, executor="local", rival=i) for i, r in enumerate((45.0, 40.0))]
    rows = {(row["executor"], row["workers"]): row for row in measured.rows(found)}
    two = rows["processes", 2]
    assert (two["speedup"], two["speedup_low"], two["speedup_high"]) == (1.5, 1.0, 2.0)
    both = rows[runs.TOGETHER, 2]
    assert (both["candidates_per_minute"], both["speedup"], both["repeats"]) == (85.0, 1.7, 1)
    assert "speedup" not in rows["processes", 1]
    assert measured.busy(list(rows.values())) == ""
    assert "for 50% of their time" in measured.busy([two, two | {"cpu_seconds": 0.5}])
