"""Rows of bench_build.py as tables: times against floors, memory, mergekit, and what more threads bring."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.build_measured import Row

WIDTH = 160


def show(rows: Sequence[Row]) -> None:
    console = Console(width=WIDTH)
    console.print(times(rows))
    if any(row.mergekit_seconds is not None for row in rows):
        console.print(beside(rows))
    if len({row.threads for row in rows}) > 1:
        console.print(threads(rows))


def times(rows: Sequence[Row]) -> Table:
    heads = ("seconds", "processor", "floor", "ratio", "eager", "compile", "prepare", "peak / models, MB")
    table = _table("Seconds of a candidate", *_CASE, *heads)
    for row in rows:
        built = (row.seconds, row.cpu_seconds, row.floor_seconds, row.ratio, row.eager_seconds)
        once = (row.compile_seconds, row.preparation_seconds)
        memory = f"{_megabytes(row.peak_bytes)} / {_megabytes(row.models_bytes)}"
        table.add_row(*_case(row), *map(_number, (*built, *once)), memory)
    return table


def beside(rows: Sequence[Row]) -> Table:
    """Both tools' seconds, and how many times ours mergekit's are."""
    heads = ("evomerge", "mergekit in memory", "mergekit by disk", "times", "times, by disk")
    table = _table("Beside mergekit: seconds of a candidate (of processors)", *_CASE, *heads)
    for row in rows:
        if row.mergekit_seconds is None or row.mergekit_disk_seconds is None:
            continue
        pairs = (
            (row.seconds, row.cpu_seconds),
            (row.mergekit_seconds, row.mergekit_cpu_seconds),
            (row.mergekit_disk_seconds, row.mergekit_disk_cpu_seconds),
        )
        cells = [f"{_number(seconds)} ({_number(cpu)})" for seconds, cpu in pairs]
        gains = [f"{theirs / row.seconds:.0f}" for theirs in (row.mergekit_seconds, row.mergekit_disk_seconds)]
        table.add_row(*_case(row), *cells, *gains)
    return table


def threads(rows: Sequence[Row]) -> Table:
    """What each number of threads gains over the smallest one: building, and memory's bandwidth."""
    table = _table("Gain of more threads", *_CASE, "building", "bandwidth", "share")
    least = min(row.threads for row in rows)
    alone = {_key(row): row for row in rows if row.threads == least}
    for row in rows:
        one = alone.get(_key(row))
        if one is not None and row is not one:
            gains = (one.seconds / row.seconds, row.bandwidth / one.bandwidth)
            table.add_row(*_case(row), *map(_number, (*gains, gains[0] / gains[1])))
    return table


_CASE = ("method", "settings", "parents", "threads")


def _case(row: Row) -> tuple[str, ...]:
    kind = " adapters" if row.lora else ""
    return (row.method, row.settings, f"{row.parents} x {row.parameters / 1e6:.0f}M{kind}", str(row.threads))


def _key(row: Row) -> tuple[object, ...]:
    return (row.method, row.settings, row.parents, row.parameters, row.lora)


def _table(title: str, *heads: str) -> Table:
    table = Table(title=title)
    for place, head in enumerate(heads):
        table.add_column(head, justify="left" if place < 2 else "right", no_wrap=place == 0)
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _megabytes(value: int | None) -> str:
    return "-" if value is None else f"{value / 1e6:.0f}"
