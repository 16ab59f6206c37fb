"""Seconds that building one candidate takes, by method, against the time that moving its bytes takes; mergekit beside.

    python scripts/bench_build.py --quick                              # under two minutes on two cores
    python scripts/bench_build.py --threads 1,2 --parents 2,3,6 --lora 16 --json rows.json
    python scripts/bench_build.py --methods ties,dare_ties --mergekit /path/to/env/bin/python

Families are generated: Llamas with bfloat16 weights, experts near their base. A candidate is `build.write` into a live
model; every one has other coefficients, so that nothing is spared. Median of --repeats, after those that compile and
learn: what they take longer is told as `compile` and `prepare`, paid once in a search. The floor is measured in the
same minute: the bytes of all inputs, read once, and of the model, written once, over the bandwidth of a copy or a triad
on as many threads. Each number of threads or parents has a process of its own, and compiles anew. Peak memory is beyond
an empty process that has loaded torch and the compiler, beside the bytes of all models.

Knobs are at the middle of their search ranges, densities around 0.3; the settings that methods are compared with are
in the table, with mergekit's rescaling beside the default where they differ. mergekit is told the same recipe, computes
in the checkpoints' dtype, and is timed in memory (planning, executing, copying into live tensors) and by way of the
disk (`run_merge`, and the files read again).

Rows of the JSON: benchmarks/build_measured.py tells what each figure is.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from benchmarks import build_measured, build_mergekit
from benchmarks.build_cases import Case, cases
from benchmarks.build_family import SHAPES, make_adapters, make_family
from benchmarks.build_measured import Plan, Row
from benchmarks.build_table import show
from benchmarks.output import new_file

from evomerge.errors import EvomergeError
from evomerge.methods import METHODS
from evomerge.models.family import open_family

LINEAR = ("linear", "task_arithmetic")
QUICK = ("linear", "task_arithmetic", "ties", "dare_ties")
LORA = ("task_arithmetic", "ties")


def main(arguments: Sequence[str] | None = None) -> None:
    asked = options(arguments)
    if asked.measure:
        measure_here(json.loads(asked.measure))
        return
    rows = []
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        for row in measured(asked, Path(folder)):
            print(f"{row.parameters / 1e6:.0f}M {row.method}: {row.seconds:.3f} s", file=sys.stderr, flush=True)
            rows.append(row)
    show(rows)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=names, default=("135M",), help=f"with commas: {', '.join(SHAPES)}")
    parser.add_argument("--threads", type=numbers, default=(1,), help="with commas, such as 1,2")
    parser.add_argument("--parents", type=numbers, default=(3,), help="with commas; methods that take fewer get those")
    parser.add_argument("--methods", type=names, help="with commas; default: all")
    parser.add_argument("--lora", type=int, metavar="RANK", help="also adapters of this rank over the base")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--repeats", type=int, default=9, help="timed candidates; fewer where they take seconds")
    parser.add_argument("--no-compiler", action="store_true", help="build as where there is none")
    parser.add_argument(
        "--mergekit", type=build_mergekit.interpreter, metavar="PYTHON", help="of an environment with mergekit 0.1.5"
    )
    parser.add_argument("--quick", action="store_true", help="a small family, few methods, one thread")
    parser.add_argument("--folder", type=Path, help="where models are generated; default: the system's own")
    parser.add_argument("--json", type=new_file, metavar="FILE")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # the process that measures
    asked = parser.parse_args(arguments)
    if asked.quick:
        asked.parameters, asked.repeats = ("34M",), min(asked.repeats, 5)
        asked.methods = asked.methods or tuple(m for m in QUICK if m in METHODS)
    asked.methods = asked.methods or tuple(METHODS)
    for size in set(asked.parameters) - set(SHAPES):
        parser.error(f"--parameters: there is no shape {size}; known: {', '.join(SHAPES)}")
    return asked


def names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def numbers(text: str) -> tuple[int, ...]:
    found = tuple(int(n) for n in text.split(","))
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text} has a number below 1")
    return found


# ---------------------------------------------------------------- all families, threads and cases


def measured(asked: argparse.Namespace, folder: Path) -> Iterator[Row]:
    for size in asked.parameters:
        every = list(cases(asked.methods, asked.parents, mergekit=asked.mergekit is not None))
        most = max(case.parents for case in every)
        made = make_family(folder / size, SHAPES[size], most, getattr(torch, asked.dtype))
        for threads in asked.threads:
            for n in sorted({case.parents for case in every}):
                yield from compared([c for c in every if c.parents == n], made[: n + 1], threads, asked, folder)
        if asked.lora:
            yield from adapted(asked, made[0], folder / size)


def adapted(asked: argparse.Namespace, base: Path, folder: Path) -> Iterator[Row]:
    for n in asked.parents:
        adapters = make_adapters(folder / f"lora{n}", base, n, asked.lora)
        for threads in asked.threads:
            some = [case for case in cases(LORA, [n]) if case.method in METHODS]
            yield from rows_of([base, *adapters], some, threads, asked, folder)


def compared(
    some: list[Case], made: list[Path], threads: int, asked: argparse.Namespace, folder: Path
) -> Iterator[Row]:
    """Ours first, then mergekit's of those that it can say, all over one family."""
    found = dict(zip(some, rows_of(made, some, threads, asked, folder), strict=True))
    if asked.mergekit:
        family = open_family([str(path) for path in made[1:]], str(made[0]))
        texts = build_mergekit.said(family, some)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            theirs = build_mergekit.measure(asked.mergekit, texts, threads, Path(scratch))
            found |= {case: beside(found[case], figures) for case, figures in zip(texts, theirs, strict=True)}
    yield from found.values()


def beside(row: Row, figures: build_mergekit.Figures) -> Row:
    return replace(
        row,
        mergekit_seconds=figures.seconds,
        mergekit_cpu_seconds=figures.cpu_seconds,
        mergekit_disk_seconds=figures.disk_seconds,
        mergekit_disk_cpu_seconds=figures.disk_cpu_seconds,
    )


# ---------------------------------------------------------------- a process for each family and number of threads


def rows_of(
    made: Sequence[Path], some: Sequence[Case], threads: int, asked: argparse.Namespace, folder: Path
) -> Iterator[Row]:
    compiles = not asked.no_compiler
    eager = LINEAR if compiles else ()  # the other methods take seconds without a compiler
    plan = Plan([str(p) for p in made], some, threads, asked.repeats, compiles, eager)
    command = [sys.executable, __file__, "--measure", json.dumps(asdict(plan))]
    cache = tempfile.mkdtemp(dir=folder)  # of compiled code: none comes from an earlier process
    own = {**os.environ, "OMP_NUM_THREADS": str(threads), "TORCHINDUCTOR_CACHE_DIR": cache}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=own) as child:
        assert child.stdout is not None
        yield from (Row(**json.loads(line)) for line in child.stdout)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command[:2])


def measure_here(told: dict[str, Any]) -> None:
    some = [Case(c["method"], c["parents"], tuple(tuple(pair) for pair in c["held"])) for c in told["cases"]]
    for row in build_measured.measure(Plan(**{**told, "cases": some})):
        print(json.dumps(asdict(row)), flush=True)


if __name__ == "__main__":
    try:
        main()
    except (EvomergeError, subprocess.CalledProcessError) as e:
        sys.exit(f"error: {e}")
