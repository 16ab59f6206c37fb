"""Seconds, processor time and memory of candidates that are built one after another into one live model."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch

from benchmarks.build_cases import Case, candidate
from benchmarks.build_floor import Streams, bytes_moved
from evomerge import build
from evomerge.models.family import Family, open_family

#: Fewest timed candidates, and the seconds after which no more than these are.
FEWEST, ENOUGH = 3, 8.0


@dataclass(frozen=True)
class Plan:
    """What one process measures. folders: base, then parents. eager: methods that are timed without a compiler, too."""

    folders: Sequence[str]
    cases: Sequence[Case]
    threads: int
    repeats: int
    compiles: bool
    eager: Sequence[str]


@dataclass(frozen=True)
class Row:
    """One case's figures, seconds of a candidate on the clock unless they say otherwise; None: not measured.

    parameters: of the merged model. bandwidth: bytes a second, the floor is bytes_moved over it. preparation_seconds:
    what the first candidate takes longer than the others, compiling apart, which is compile_seconds. peak_bytes: of
    physical memory beyond an empty process, while facts are learned and candidates built; models_bytes: files of base
    and parents, and the live model.
    """

    method: str
    settings: str
    threads: int
    parents: int
    parameters: int
    dtype: str
    lora: bool
    seconds: float
    cpu_seconds: float
    floor_seconds: float
    ratio: float
    bytes_moved: int
    bandwidth: float
    preparation_seconds: float
    compile_seconds: float | None
    eager_seconds: float | None
    peak_bytes: int | None
    models_bytes: int
    mergekit_seconds: float | None = None
    mergekit_cpu_seconds: float | None = None
    mergekit_disk_seconds: float | None = None
    mergekit_disk_cpu_seconds: float | None = None


def measure(plan: Plan) -> Iterator[Row]:
    """A row for every case, as soon as it is there."""
    torch.set_num_threads(plan.threads)
    streams = Streams()
    if plan.compiles:
        load_compiler()
    empty = resident_bytes()
    bench = Bench(open_family(list(plan.folders[1:]), plan.folders[0]), plan, streams, empty)
    bench.touch()
    for case in plan.cases:
        yield bench.row(case)


def load_compiler() -> None:
    """Import it, which takes seconds and memory that no method is to pay for."""
    rows = torch.ones(4, 8)
    torch._dynamo.mark_dynamic(rows, 0)
    torch.compile(torch.neg)(rows)


class Bench:
    """A family and the live tensors that its candidates are written to."""

    def __init__(self, family: Family, plan: Plan, streams: Streams, empty: int) -> None:
        self.family, self._plan, self._streams, self._empty = family, plan, streams, empty
        self._pool = family.pool()
        dtype = getattr(torch, self._pool.dtype)
        self.live = {name: torch.empty(shape, dtype=dtype) for name, shape in family.shapes.items()}
        self._numbers = count()

    def touch(self) -> None:
        """Read every file and write every page once, so that no case has to."""
        self.family.compiles = False
        self._write(self._plan.cases[0])

    def row(self, case: Case) -> Row:
        before = self._streams.bandwidth()
        self.family.compiles = self._plan.compiles
        self.family.learned.clear()
        compiling, _ = self._write(case)
        forget_peak()
        self.family.learned.clear()
        first, _ = self._write(case)
        seconds, cpu = self._typical(case, self._plan.repeats)
        peak = peak_bytes()
        eager = self._eager(case) if case.method in self._plan.eager else None
        bandwidth = max(before, self._streams.bandwidth())
        moved = bytes_moved(candidate(self._pool, case, 0), self.family, self.live)
        return Row(
            method=case.method,
            settings=case.settings,
            threads=self._plan.threads,
            parents=case.parents,
            parameters=sum(t.numel() for t in self.live.values()),
            dtype=self._pool.dtype,
            lora=any(self.family.is_adapter(digest) for digest in self._pool.digests),
            seconds=seconds,
            cpu_seconds=cpu,
            floor_seconds=moved / bandwidth,
            ratio=seconds * bandwidth / moved,
            bytes_moved=moved,
            bandwidth=bandwidth,
            preparation_seconds=max(0.0, first - seconds),
            compile_seconds=max(0.0, compiling - first) if self._plan.compiles else None,
            eager_seconds=eager if self._plan.compiles else seconds,
            peak_bytes=None if peak is None else peak - self._empty,
            models_bytes=sum(t.nbytes for t in self.live.values()) + sum(map(_bytes_on_disk, self._plan.folders)),
        )

    def _eager(self, case: Case) -> float:
        self.family.compiles = False
        self._write(case)
        return self._typical(case, FEWEST)[0]

    def _typical(self, case: Case, repeats: int) -> tuple[float, float]:
        """Median seconds on the clock and of all processors."""
        found: list[tuple[float, float]] = []
        while len(found) < repeats and (len(found) < FEWEST or sum(s for s, _ in found) < ENOUGH):
            found.append(self._write(case))
        seconds, cpu = zip(*found, strict=True)
        return statistics.median(seconds), statistics.median(cpu)

    def _write(self, case: Case) -> tuple[float, float]:
        recipe = candidate(self._pool, case, next(self._numbers))
        began, cpu = time.perf_counter(), time.process_time()
        build.write(recipe, self.family, self.live, {})  # as a search does, but that nothing stands already
        return time.perf_counter() - began, time.process_time() - cpu


def _bytes_on_disk(folder: str) -> int:
    return sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))


# ---------------------------------------------------------------- memory, as Linux tells it


def resident_bytes() -> int:
    return _status("VmRSS") or 0


def peak_bytes() -> int | None:
    """The most that was resident since `forget_peak`; None where the system does not tell."""
    return _status("VmHWM")


def forget_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _status(field: str) -> int | None:
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(rf"{field}:\s+(\d+) kB", text)
    return 1024 * int(found[1]) if found else None
