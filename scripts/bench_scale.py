"""What more workers bring: measured for each executor on this machine, simulated for 8, 64 and 512 workers.

    python scripts/bench_scale.py --quick                       # under two minutes on two cores
    python scripts/bench_scale.py --json rows.json              # every executor, three times, 1 and 2 workers
    python scripts/bench_scale.py --run RUN                     # only simulated, from the times in RUN's events
    python scripts/bench_scale.py --model BASE --experts A B --include-path TASKS --tasks t1,t2   # hand-over, too

Measured: searches on the embedded zoo whose candidates take most of a second on one thread, each in a process of its
own and one after another in rounds (A B C A B C). Figures are of the search phase, when all workers are up; medians of
the rounds. generational: `uniform`, 8 at a time; steady: `m2n2` with 4 out at once. "two searches side by side" is two
local ones at the same time: what two workers could bring at most here.

Simulated: policies on equal candidates, whose times are drawn from the measured ones (processor seconds, which others
on the machine do not stretch; of a RUN, those in its events) or from a lognormal, stretched to a mean of
--candidate-seconds and, in the JSON only, to the measured mean. Costs of driver and hand-over are the measured ones.

A row of the JSON: executor, workers, candidates_per_minute, idle_share (of the workers' time), overhead_ms (of a
candidate: from sending it out to its answer, less the worker's own seconds), measured_or_simulated; optimizer, with
lambda (batch) or lag (most candidates asked and not told).
Measured rows also have startup_seconds (until the first evaluation begins), candidate_seconds and cpu_seconds, repeats,
and with more than one worker speedup over one, speedup_low and speedup_high (paired by round).
Simulated rows also have times, cv, ratio (lambda or lag over workers), candidate_seconds, deaths_per_hour, lost_share;
their overhead_ms has the driver's seconds, too. The hand-over's row has handover_share, write_seconds (its overhead_ms)
and answer_seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from benchmarks import scale_handover, scale_measured, scale_runs, scale_study
from benchmarks.output import new_file
from benchmarks.scale_events import driver_seconds, served
from benchmarks.scale_simulation import Costs
from benchmarks.scale_study import Row, Setting
from benchmarks.scale_times import Moments

from evomerge.journal import events

EXECUTORS = ("local", "processes", "ray_cluster")
NOT_MODELLED = (
    "Candidates per minute is not all: a batch is learned from once, so a budget of B candidates has B / lambda "
    "generations, and what is asked in a steady state has not seen the last lag results. What that costs a search "
    "depends on the optimizer and is not modelled here; nor are networks, shared disks and caches that grow cold."
)


def main(arguments: Sequence[str] | None = None) -> None:
    asked = options(arguments)
    torch.set_num_threads(1)
    rows = [*handover(asked)]
    rows += from_run(asked) if asked.run else measured(asked)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round of 8 candidates, generations only")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="write the rows there")
    parser.add_argument("--executors", nargs="+", default=EXECUTORS, choices=EXECUTORS)
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2], help="to measure (default 1 2)")
    parser.add_argument("--candidates", type=int, help="of each measured search (default 24; quick: 8)")
    parser.add_argument("--repeats", type=int, help="rounds (default 3; quick: 1)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--run", type=Path, metavar="DIR", help="simulate from this run's times, measure nothing")
    parser.add_argument(
        "--candidate-seconds", type=float, default=60.0, help="mean to simulate beside the measured one"
    )
    parser.add_argument("--rounds", type=int, default=100, help="simulated candidates of a worker, one after another")
    parser.add_argument("--deaths-per-hour", type=float, default=1.0, help="of a worker, in one column")
    real = parser.add_argument_group("hand-over on real models")
    real.add_argument("--model", help="folder of the base")
    real.add_argument("--experts", nargs="+", default=(), metavar="DIR")
    real.add_argument("--include-path", type=Path, help="folder of multiple-choice tasks; they are asked to generate")
    real.add_argument("--tasks", default="", help="names, with commas between them")
    real.add_argument("--items", type=int, default=20, help="of each task; a default search of three tasks asks 20")
    real.add_argument("--shots", type=int, default=5)
    real.add_argument("--dtype", default="bfloat16")
    real.add_argument("--device", default="cpu")
    asked = parser.parse_args(arguments)
    if asked.model and not (asked.experts and asked.include_path and asked.tasks):
        parser.error("--model needs --experts, --include-path and --tasks")
    asked.candidates = asked.candidates or (8 if asked.quick else 24)
    asked.repeats = asked.repeats or (1 if asked.quick else 3)
    return asked


# ---------------------------------------------------------------- parts


def handover(asked: argparse.Namespace) -> list[Row]:
    if not asked.model:
        return []
    case = scale_handover.Case(
        base=asked.model,
        experts=tuple(asked.experts),
        include_path=asked.include_path,
        tasks=tuple(asked.tasks.split(",")),
        items=asked.items,
        shots=asked.shots,
        candidates=asked.repeats,
        dtype=asked.dtype,
        device=asked.device,
        batch_size=16,
        seed=asked.seed,
    )
    row = scale_handover.row(case, scale_handover.measure(case))
    print(
        f"hand-over: {row['write_seconds']:.2f} s of building and writing and {row['answer_seconds']:.2f} s of answers "
        f"({row['items']} items, {row['shots']}-shot generation): {100 * row['handover_share']:.1f}% of a candidate\n"
    )
    return [row]


def measured(asked: argparse.Namespace) -> list[Row]:
    jobs = scale_measured.jobs(asked.executors, asked.workers, asked.repeats, generations_only=asked.quick)
    with tempfile.TemporaryDirectory() as folder:
        found, failed = scale_runs.run(jobs, Path(folder), asked.candidates, asked.seed)
    for line in failed:
        print(f"left out: {line}", file=sys.stderr)
    if not found:
        raise SystemExit("nothing was measured.")
    rows = scale_measured.rows(found)
    print(scale_measured.table_of(rows), end="\n\n")
    print(scale_measured.busy(rows))
    alone = [w.cpu for m in found if m.job.rival < 0 for w in m.worked]
    return rows + simulated(alone, scale_measured.costs(found), scale_measured.startup(found), asked)


def from_run(asked: argparse.Namespace) -> list[Row]:
    found = served(events(asked.run))
    if not found:
        raise SystemExit(f"{asked.run} has no candidate of a search in its events.jsonl.")
    one = len({s.worker for s in found}) == 1
    costs = Costs(result=driver_seconds(found, 1)[0] if one else 0.0)
    return simulated([s.seconds for s in found], {"generational": costs, "steady": costs}, 0.0, asked)


def simulated(
    seconds: Sequence[float], costs: dict[str, Costs], startup: float, asked: argparse.Namespace
) -> list[Row]:
    moments = Moments.of(seconds)
    print(f"evaluations: {moments.n}, mean {moments.mean:.2f} s, standard deviation over mean {moments.cv:.2f}")
    setting = Setting(
        seconds=seconds,
        candidate_seconds=asked.candidate_seconds,
        rounds=asked.rounds,
        generational=costs["generational"],
        steady=costs["steady"],
        deaths_per_hour=asked.deaths_per_hour,
        restart=startup,
        seed=asked.seed,
    )
    rows = list(scale_study.study(setting))
    short = list(scale_study.study(replace(setting, candidate_seconds=moments.mean)))
    print(f"\n## simulated, a candidate takes {asked.candidate_seconds:g} s: % of the workers' time idle\n")
    print(scale_study.idle_table(rows), end="\n\n")
    print("\n".join(scale_study.advice(rows)))
    for name, own in costs.items():
        if driver := own.result + own.tell:
            at = " and ".join(f"{m / driver:.0f} of {m:.2g} s" for m in (asked.candidate_seconds, moments.mean))
            print(f"{name}: the driver takes {1000 * driver:.1f} ms a candidate and keeps so many workers busy: {at}.")
    print(f"\n{NOT_MODELLED}")
    return rows + short


if __name__ == "__main__":
    main()
