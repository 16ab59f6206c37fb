"""Searches on the embedded zoo by each executor, interleaved so that what the machine does meanwhile hits all alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.scale_backend import Worked, worked
from benchmarks.scale_events import Figures, Served, driver_seconds, figures, served
from evomerge.config import ZOO
from evomerge.journal import events, rows
from evomerge.overrides import assign

BATCH, LAG = 8, 4  # for any number of workers, so that the candidates are the same
TOGETHER = "two searches side by side"
CHILD = Path(__file__).with_name("scale_child.py")
#: Few rows a forward pass and no shared prompts: a candidate takes a second, and almost none of it is ours.
SETTINGS = (
    "parents=pico",
    "task.names=[pico_add,pico_rev]",
    assign("task.include_path", str(ZOO / "pico" / "tasks")),
    "calibration.cache=false",  # references are scored by every run: then all workers are up when its search begins
    "subset=everything",
    "estimator=mean",
    "control=none",
    "finalists=1",
    "backend=timed",
    "threads=1",
    "device=cpu",
)
CONFIG = "conf"
CLOCK = "worked.jsonl"
#: Written as a config member of its own, for it has less settings than backend=hf.
TIMED = """_target_: benchmarks.scale_backend.TimedBackend
log: null
batch_size: 8
share_prefix: false
"""
OPTIMIZERS = {
    "generational": ("optimizer=uniform", f"optimizer.batch={BATCH}"),
    "steady": ("optimizer=m2n2", f"optimizer.lag={LAG}"),
}


@dataclass(frozen=True)
class Job:
    """A search to be measured. rival: which of two side by side; -1 for one alone."""

    executor: str
    workers: int
    optimizer: Literal["generational", "steady"]
    repeat: int = 0
    rival: int = -1

    @property
    def folder(self) -> str:
        rival = f"-{self.rival}" if self.rival >= 0 else ""
        return f"{self.executor}-{self.workers}-{self.optimizer}-{self.repeat}{rival}"

    def settings(self, folder: Path, candidates: int, seed: int) -> list[str]:
        own = [f"executor={self.executor}", f"seed={seed}", f"budget.evaluations={candidates}"]
        workers = [] if self.executor == "local" else [assign("executor.workers", self.workers)]
        clock = assign("backend.log", str(folder / self.folder / CLOCK))
        return [*SETTINGS, *OPTIMIZERS[self.optimizer], *own, *workers, clock]


@dataclass(frozen=True)
class Measured:
    """A job and what its events tell. startup: seconds from the begin of the run to that of its first evaluation."""

    job: Job
    served: tuple[Served, ...]
    worked: tuple[Worked, ...]
    figures: Figures
    startup: float


def run(batches: Iterable[Sequence[Job]], folder: Path, candidates: int, seed: int) -> tuple[list[Measured], list[str]]:
    """Jobs of one batch run at the same time, each in a process of its own. Returns what was found, and what failed."""
    found, failed = list[Measured](), list[str]()
    member = folder / CONFIG / "backend" / "timed.yaml"
    member.parent.mkdir(parents=True)
    member.write_text(TIMED)
    for batch in batches:
        print("measuring " + " beside ".join(job.folder for job in batch), file=sys.stderr, flush=True)
        children = [_begun(job, folder, candidates, seed) for job in batch]
        for job, child in zip(batch, children, strict=True):
            told = child.communicate()[1]
            outcome = _read(job, folder / job.folder) if child.returncode == 0 else f"{job.folder}: {told[-500:]}"
            if isinstance(outcome, str):
                failed.append(outcome)
            else:
                found.append(outcome)
    return found, failed


def _begun(job: Job, folder: Path, candidates: int, seed: int) -> subprocess.Popen[str]:
    given = [str(folder / job.folder), str(folder / CONFIG), *job.settings(folder, candidates, seed)]
    own = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(CHILD.parents[1])}
    return subprocess.Popen(
        [sys.executable, str(CHILD), *given],
        env=os.environ | own,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _read(job: Job, folder: Path) -> Measured | str:
    clock = json.loads((folder / "clock.json").read_text())
    if clock["error"]:
        return f"{job.folder}: {clock['error']}"
    written = events(folder)
    own = worked(folder / CLOCK, rows(folder))
    found = served(written, {ident: w.seconds for ident, w in own.items()})
    startup = _startup(written, clock["began"])
    return Measured(job, tuple(found), tuple(own.values()), figures(found, job.workers), startup)


def _startup(written: Sequence[dict[str, Any]], began: float) -> float:
    """Until the first evaluation of all began: of a worker's clock only the seconds are used, so hosts may differ."""
    return float(min(e["time"] - e["seconds"] for e in written if e["event"] == "done") - began)


def costs_of_driver(found: Iterable[Measured], optimizer: str) -> tuple[float, float]:
    """Seconds for a result and for a tell, from local runs: there all between two evaluations is the driver's."""
    runs = [m for m in found if m.job.executor == "local" and m.job.optimizer == optimizer and m.job.rival < 0]
    each = [driver_seconds(m.served, BATCH if optimizer == "generational" else 1) for m in runs]
    results, tells = zip(*each, strict=True) if each else ((0.0,), (0.0,))
    return sum(results) / len(results), sum(tells) / len(tells)
