"""Memory and time of a candidate: measured on generated models here, computed for 7B to 70B; docs/scaling.md quotes it.

    python scripts/bench_memory.py --quick               # 10M and 40M parameters, under two minutes
    python scripts/bench_memory.py --json rows.json      # 10M, 135M and 400M; 6 GB of disk under --folder

Measured on one thread of this machine's CPU: bandwidths, building by method and number of parents, a forward pass, and
what a process holds of its own while a live model is opened and written. Counted: the bytes that a method's operations
move for an entry, one by one. Computed: what a compiled loop moves, its inputs and its result; and, from these and from
assumed rates, the tables for large models.

Rows of the JSON have `kind` (rate, build, held, traffic, plan), `measured_or_computed`, and the figures of the tables.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from benchmarks import memory_measured, memory_tables, memory_traffic
from benchmarks.memory_tables import table
from benchmarks.output import new_file

from evomerge.models import blank

Row = Mapping[str, Any]
LARGE = 10**8  # parameters from which two builds are timed, with two parents: the first compiles and learns


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    if options.held:
        print(json.dumps(asdict(memory_measured.held([Path(p) for p in options.held]))))
        return
    sizes = ("10M", "40M") if options.quick else ("10M", "135M", "400M")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = measured(Path(folder), sizes)
    show(rows)
    if options.json:
        options.json.write_text(json.dumps([*rows, *computed()], indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=new_file)
    parser.add_argument("--folder", type=Path, help="where models are generated; default: the system's own")
    parser.add_argument("--held", nargs="+", help=argparse.SUPPRESS)  # the child that is weighed
    return parser.parse_args()


def measured(folder: Path, sizes: tuple[str, ...]) -> list[Row]:
    rows: list[Row] = [_rate("copy in memory, read and written", memory_measured.copying(), "GB/s")]
    for size in sizes:
        made = memory_measured.generate(folder / size, size)
        rows += of_size(made, size)
        if size == sizes[0]:
            rows += traffic(made)
        if size == sizes[-1]:
            file = made[1] / "model.safetensors"
            rows.append(_rate("file read cold", memory_measured.reading(file, cold=True), "GB/s"))
            rows.append(_rate("file mapped, in the page cache", memory_measured.reading(file, cold=False), "GB/s"))
    return rows


def _rate(name: str, value: float, unit: str) -> Row:
    return {"kind": "rate", "name": name, "value": value / 1e9, "unit": unit, "measured_or_computed": "measured"}


def of_size(made: list[Path], size: str) -> list[Row]:
    """Builds of all blocks, a forward pass, and the memory of a process of its own."""
    family = memory_measured.open_made(made)
    model, _ = blank.live_model(made[0], torch.device("cpu"), "bfloat16")
    targets = blank.targets(model, family.shapes)
    of_blocks = memory_traffic.blocks(targets)
    entries, in_blocks = (sum(t.numel() for t in some.values()) for some in (targets, of_blocks))
    common = {"size": size, "parameters": entries, "measured_or_computed": "measured"}
    tokens, flops = memory_measured.flops(model)
    counts, repeats = ((2, 4), 3) if entries < LARGE else ((2,), 2)
    rows = [
        {
            "kind": "build",
            "method": b.method,
            "n_parents": b.n_parents,
            "seconds": b.seconds,
            **common,
            "parameters": in_blocks,
        }
        for b in memory_measured.builds(family, of_blocks, counts, repeats)
    ]
    forward = {"kind": "forward", "tokens_per_second": tokens, "gflops": flops / 1e9, **common}
    return [*rows, forward, {"kind": "held", **_weighed(made), **common}]


def _weighed(made: list[Path]) -> dict[str, int]:
    told = subprocess.run(
        [sys.executable, __file__, "--held", *map(str, made)], capture_output=True, text=True, check=True
    )
    found: dict[str, int] = json.loads(told.stdout.splitlines()[-1])
    return found


def traffic(made: list[Path]) -> list[Row]:
    family = memory_measured.open_made(made)
    return [
        {
            "kind": "traffic",
            "method": method,
            "n_parents": n,
            "bytes_per_entry": memory_traffic.per_entry(family, method, n),
            "fused_bytes_per_entry": memory_traffic.fused_per_entry(method, n, base=True),
            "measured_or_computed": "counted",
        }
        for method in memory_measured.METHODS
        for n in memory_tables.PARENTS
    ]


def computed() -> list[Row]:
    return [
        {
            "kind": "plan",
            "model": model,
            "n_parents": n,
            "machine": profile,
            "placement": found.placement,
            "workers": found.machine.workers,
            "devices_of_a_worker": found.machine.devices,
            "batch_size": found.job.load.batch_size,
            "resident_peak": found.resident_peak,
            "streamed_peak": found.streamed_peak,
            "measured_or_computed": "computed",
        }
        for model, n, profile, found in memory_tables.plans()
    ]


# ---------------------------------------------------------------- printed


def show(rows: list[Row]) -> None:
    def of(kind: str) -> list[Row]:
        return [r for r in rows if r["kind"] == kind]

    rates = [(r["name"], f"{r['value']:.2f} {r['unit']}") for r in of("rate")]
    _print("Rates of this machine, one thread (measured)", table(("what", "rate"), rates))
    copy = of("rate")[0]["value"] * 1e9
    _print("Building (measured)", _builds(of("build"), {(r["method"], r["n_parents"]): r for r in of("traffic")}, copy))
    forward = [(r["size"], f"{r['tokens_per_second']:.0f}", f"{r['gflops']:.1f}") for r in of("forward")]
    _print("Forward pass, bfloat16 (measured)", table(("model", "tokens/s", "GFLOP/s"), forward))
    held = [(r["size"], *(f"{r[k] / 1e6:.0f} MB" for k in ("opening", "writing", "planned"))) for r in of("held")]
    _print("Memory of its own, TIES of two parents (measured)", table(("model", "opened", "written", "plan"), held))
    moved = {(r["method"], r["n_parents"]): r["bytes_per_entry"] for r in of("traffic")}
    cells = [(m, *(f"{moved[m, n]:.0f}" for n in memory_tables.PARENTS)) for m in memory_measured.METHODS]
    _print(
        "Bytes moved for an entry without a compiler (counted)",
        table(("method", *(f"{n} parents" for n in memory_tables.PARENTS)), cells),
    )
    fused = {(r["method"], r["n_parents"]): r["fused_bytes_per_entry"] for r in of("traffic")}
    _print("Rates of the tables below (assumed)", memory_tables.rates_table())
    for profile in memory_tables.PROFILES:
        _print(f"Memory on {profile} (computed)", memory_tables.memory_table(profile))
        _print(f"A candidate of 4 parents on {profile} (computed)", memory_tables.time_table(profile, 4, fused))


def _builds(rows: list[Row], counted: Mapping[Any, Row], copy: float) -> str:
    """CPU nanoseconds for an entry, and how many times what moving a compiled loop's bytes takes."""
    lines = []
    for r in rows:
        each = r["seconds"] / r["parameters"]
        floor = counted[r["method"], r["n_parents"]]["fused_bytes_per_entry"] / copy
        figures = (f"{r['seconds']:.3f}", f"{1e9 * each:.2f}", f"{each / floor:.1f}")
        lines.append((r["method"], str(r["n_parents"]), f"{r['parameters'] / 1e6:.0f}M", *figures))
    titles = ("method", "parents", "parameters", "seconds", "ns an entry", "times its traffic")
    return table(titles, sorted(lines, key=lambda line: line[:2]))


def _print(title: str, text: str) -> None:
    print(f"\n**{title}**\n\n{text}", flush=True)


if __name__ == "__main__":
    main()
