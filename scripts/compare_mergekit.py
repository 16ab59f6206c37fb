"""Merge mergekit YAMLs with evomerge and with mergekit, side by side, and print how far apart the tensors are.

    python scripts/compare_mergekit.py --mergekit /path/to/env/bin/python [CONFIG.yml...]

Without files these are all of tests/golden/mergekit, a few for every method, on tiny llamas. evomerge computes in
float32, so by default mergekit is told to, too (dtype and out_dtype of a copy of the YAML); --as-is leaves the YAML's
dtypes, and mergekit's rounding in bfloat16 is then part of the difference. Models are found from the folder this is run
in, by both. Needs room for two merged models in the temporary folder. Both times include opening the models and writing
the merge; mergekit's, a process of its own, also its start of some ten seconds. Masks that a method draws are drawn by
each for itself, and the difference is that of two draws.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from safetensors import safe_open

from evomerge import api
from evomerge.errors import EvomergeError
from evomerge.mergekit_io import notes
from evomerge.models.parent import tensor_files

ROOT = Path(__file__).resolve().parents[1]

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
    parser.add_argument("configs", nargs="*", type=Path, metavar="CONFIG.yml")
    parser.add_argument("--mergekit", required=True, type=Path, metavar="PYTHON", help="of mergekit's environment")
    parser.add_argument("--as-is", action="store_true", help="keep the YAML's dtypes")
    asked = parser.parse_args()
    python = asked.mergekit.expanduser().absolute()
    with tempfile.TemporaryDirectory() as scratch:
        configs = asked.configs or own_configs(Path(scratch))
        print_head()
        for i, config in enumerate(configs):
            print_row(compare(config, python, Path(scratch) / f"{i}", asked.as_is))


def own_configs(scratch: Path) -> list[Path]:
    """Those of the tests, with their models made in the scratch folder, which becomes the working folder."""
    sys.path.insert(0, str(ROOT))
    from tests.mergekit_io.llamas import make_llamas

    make_llamas(scratch / "llamas")
    os.chdir(scratch)
    return sorted((ROOT / "tests" / "golden" / "mergekit").glob("*.yml"))


def compare(config: Path, python: Path, scratch: Path, as_is: bool) -> Row:
    scratch.mkdir()
    text = yaml.safe_load(config.read_text())
    row = Row(config.name, str(text.get("merge_method")))
    given = scratch / config.name
    given.write_text(yaml.safe_dump(text if as_is else text | FLOAT32, sort_keys=False))
    for note in notes(given):
        print(f"{config.name}: {note}", file=sys.stderr)
    row.ours = seconds_of(lambda: api.merge(given, scratch / "ours", device="cpu"))
    row.theirs = seconds_of(lambda: run_mergekit(python, given, scratch / "theirs"))
    measure(row, tensor_files(scratch / "ours"), tensor_files(scratch / "theirs"))
    return row


def measure(row: Row, ours: Mapping[str, Path], theirs: Mapping[str, Path]) -> None:
    both = [name for name in ours if name in theirs]
    row.tensors, row.only = len(both), len(ours) + len(theirs) - 2 * len(both)
    row.largest = max((distance(ours[name], theirs[name], name) for name in both), default=0.0)


def seconds_of(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def distance(ours: Path, theirs: Path, name: str) -> float:
    with safe_open(ours, framework="pt") as one, safe_open(theirs, framework="pt") as other:
        return float((one.get_tensor(name).float() - other.get_tensor(name).float()).abs().max())


def run_mergekit(python: Path, config: Path, out: Path) -> None:
    loras = ("--lora-merge-cache", str(out.with_name("loras")))
    plain = ("--no-copy-tokenizer", "--no-write-model-card")
    command = [str(python), "-m", "mergekit.scripts.run_yaml", str(config), str(out), *plain, *loras]
    done = subprocess.run(command, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"mergekit failed on {config.name}:\n{done.stderr.strip()[-2000:]}")


def print_head() -> None:
    heads = ("file", "method", "tensors", "in one only", "largest difference", "evomerge s", "mergekit s")
    print("| " + " | ".join(heads) + " |")
    print("|" + " --- |" * len(heads))


def print_row(r: Row) -> None:
    numbers = (str(r.tensors), str(r.only), f"{r.largest:.2e}", f"{r.ours:.2f}", f"{r.theirs:.2f}")
    print("| " + " | ".join((r.file, r.method, *numbers)) + " |", flush=True)


if __name__ == "__main__":
    try:
        main()
    except EvomergeError as e:
        sys.exit(f"error: {e}")
