"""Merge mergekit YAMLs with evomerge and with mergekit, side by side, and print how far apart the tensors are.

    python scripts/compare_mergekit.py CONFIG.yml... --mergekit /path/to/env/bin/mergekit-yaml

evomerge computes in float32, so by default mergekit is told to, too (dtype and out_dtype of a copy of the YAML);
--as-is leaves the YAML's dtypes, and mergekit's rounding in bfloat16 is then part of the difference. Models are found
from the folder this is run in, by both. Needs room for one merged model in the temporary folder. Both times include
opening the models; mergekit's, a process of its own, also its start of some ten seconds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from safetensors import safe_open

from evomerge.errors import EvomergeError
from evomerge.export import merged
from evomerge.mergekit_io import notes, read
from evomerge.models.family import open_family
from evomerge.models.parent import tensor_files

FLOAT32 = {"dtype": "float32", "out_dtype": "float32"}


@dataclass
class Row:
    """One YAML's comparison. `only`: tensors that only one of the two wrote; `ours` and `theirs` are seconds."""

    file: str
    method: str
    tensors: int = 0
    only: int = 0
    largest: float = 0.0
    ours: float = 0.0
    theirs: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("configs", nargs="+", type=Path, metavar="CONFIG.yml")
    parser.add_argument("--mergekit", required=True, type=Path, help="the mergekit-yaml program")
    parser.add_argument("--as-is", action="store_true", help="keep the YAML's dtypes")
    asked = parser.parse_args()
    rows = []
    for config in asked.configs:
        with tempfile.TemporaryDirectory() as scratch:
            rows.append(compare(config, asked.mergekit.expanduser().absolute(), Path(scratch), asked.as_is))
    print_table(rows)


def compare(config: Path, program: Path, scratch: Path, as_is: bool) -> Row:
    text = yaml.safe_load(config.read_text())
    row = Row(config.name, str(text.get("merge_method")))
    given = scratch / config.name
    given.write_text(yaml.safe_dump(text if as_is else text | FLOAT32, sort_keys=False))
    for note in notes(given):
        print(f"{config.name}: {note}", file=sys.stderr)
    row.theirs = seconds_of(lambda: run_mergekit(program, given, scratch / "merged"))
    files = tensor_files(scratch / "merged")
    for name, ours in timed_merge(given, row):
        if name in files:
            row.tensors += 1
            row.largest = max(row.largest, distance(ours, files.pop(name), name))
        else:
            row.only += 1
    row.only += len(files)
    return row


def timed_merge(config: Path, row: Row) -> Iterator[tuple[str, torch.Tensor]]:
    """Our merged tensors, one at a time; the time that reading theirs takes in between is not counted."""
    started = time.perf_counter()
    recipe, family = read(config, open_family)
    for name, tensor in merged(recipe, family, torch.device("cpu")):
        row.ours += time.perf_counter() - started
        yield name, tensor
        started = time.perf_counter()


def seconds_of(call: Callable[[], None]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def distance(ours: torch.Tensor, file: Path, name: str) -> float:
    with safe_open(file, framework="pt") as f:
        return float((ours.float() - f.get_tensor(name).float()).abs().max())


def run_mergekit(program: Path, config: Path, out: Path) -> None:
    loras = ("--lora-merge-cache", str(out.with_name("loras")))
    command = [str(program), str(config), str(out), "--no-copy-tokenizer", "--no-write-model-card", *loras]
    done = subprocess.run(command, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"mergekit failed on {config.name}:\n{done.stderr.strip()[-2000:]}")


def print_table(rows: list[Row]) -> None:
    heads = ("file", "method", "tensors", "in one only", "largest difference", "evomerge s", "mergekit s")
    cells = [
        (r.file, r.method, str(r.tensors), str(r.only), f"{r.largest:.2e}", f"{r.ours:.2f}", f"{r.theirs:.2f}")
        for r in rows
    ]
    print("| " + " | ".join(heads) + " |")
    print("|" + " --- |" * len(heads))
    for cell in cells:
        print("| " + " | ".join(cell) + " |")


if __name__ == "__main__":
    try:
        main()
    except EvomergeError as e:
        sys.exit(f"error: {e}")
