"""The same candidates built by mergekit, in the environment it is installed in."""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.build_cases import Case, candidate
from evomerge.errors import MergeError
from evomerge.mergekit_io import to_mergekit
from evomerge.models.family import Family

CHILD = Path(__file__).with_name("build_mergekit_child.py")
#: Seconds after which a candidate is not repeated.
ENOUGH = 10.0
VERSION = "import importlib.metadata as m; print(m.version('mergekit'))"


@dataclass(frozen=True)
class Figures:
    """Seconds of a candidate on the clock and of all processors, in memory and by way of the disk."""

    seconds: float
    cpu_seconds: float
    disk_seconds: float
    disk_cpu_seconds: float


def interpreter(given: str) -> Path:
    """For argparse: a Python that has mergekit 0.1.5. Raises ArgumentTypeError for another."""
    try:
        told = subprocess.run([given, "-c", VERSION], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as e:
        raise argparse.ArgumentTypeError(f"{given} is no Python with mergekit ({type(e).__name__})") from e
    if told != "0.1.5":
        raise argparse.ArgumentTypeError(f"{given} has mergekit {told}; wanted 0.1.5")
    return Path(given)


def said(family: Family, cases: Sequence[Case]) -> dict[Case, dict[str, Any]]:
    """The cases that mergekit can say, as its YAML: it computes in the checkpoints' dtype, as its users have it do."""
    pool = family.pool()
    locations = {parent.digest: str(parent.folder) for parent in family.all}
    found = {}
    for case in cases:
        try:
            text = yaml.safe_load(to_mergekit(candidate(pool, case, 0), family, locations))
        except MergeError:
            continue
        found[case] = text | {"dtype": pool.dtype, "out_dtype": pool.dtype}
    return found


def measure(python: Path, texts: dict[Case, dict[str, Any]], threads: int, scratch: Path) -> Iterator[Figures]:
    """One case after another. Raises CalledProcessError if mergekit fails."""
    yamls = [scratch / f"{i}.yml" for i in range(len(texts))]
    for path, text in zip(yamls, texts.values(), strict=True):
        path.write_text(yaml.safe_dump(text, sort_keys=False))
    job = {"threads": threads, "yamls": [str(path) for path in yamls], "scratch": str(scratch), "enough": ENOUGH}
    with subprocess.Popen([str(python), str(CHILD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(json.dumps(job))
        child.stdin.close()
        for line in child.stdout:
            if line.startswith('{"memory"'):  # other lines are libraries' own
                told = json.loads(line)
                yield Figures(*told["memory"], *told["disk"])
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, child.args)
