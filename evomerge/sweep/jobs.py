"""The runs of a sweep as jobs of Hydra's launchers: on this machine, or on a cluster."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext

from evomerge import config
from evomerge.overrides import key_of, name
from evomerge.sweep.children import Child, Order, announce


@dataclass(frozen=True)
class Job:
    """What a launcher is given to call: one run. Plain data, so that it can be sent to another process.

    folder: of the sweep, absolute. swept: keys that name the run. cwd: where relative paths of the settings start.
    driver: the sweep's process and when it began, if jobs are to end with it. gpus: this machine's, for jobs that take
    `gpus_each` of them in turn; () leaves the choice to the launcher.
    """

    folder: str
    swept: tuple[str, ...]
    config_dirs: tuple[str, ...]
    cwd: str
    total: int
    driver: tuple[int, float] | None = None
    gpus: tuple[str, ...] = ()
    gpus_each: int = 0

    def order(self, words: Sequence[str]) -> Order:
        folder = Path(self.folder, name(word for word in words if key_of(word) in self.swept))
        return Order(tuple(words), str(folder), self.config_dirs)

    def __call__(self, cfg: Any) -> None:
        """Make the run that Hydra has composed, in a child: this process stays free to hear signals.

        submitit's requeueing ends this process by an exception, which stops the child; then the job starts again.
        """
        hydra = HydraConfig.get()
        number, order = int(hydra.job.num), self.order([str(word) for word in hydra.overrides.task])
        # a command put in the background by a script has its processes ignore SIGINT: the sweep must be able to end us
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.driver:
            Thread(target=_end_with, args=self.driver, daemon=True).start()
        announce(number + 1, self.total, order)
        with Child(self.cwd, {**os.environ, **self._devices(number)}) as child:
            child.make(order)

    def _devices(self, number: int) -> dict[str, str]:
        """submitit_local shows every job the first GPUs; so they are dealt out here."""
        if not (self.gpus and self.gpus_each):
            return {}
        mine = [self.gpus[(number * self.gpus_each + i) % len(self.gpus)] for i in range(self.gpus_each)]
        return {"CUDA_VISIBLE_DEVICES": ",".join(mine)}


def me() -> tuple[int, float]:
    """This process, told apart from a later one of the same number."""
    return os.getpid(), psutil.Process().create_time()


def _end_with(pid: int, began: float) -> None:
    """Interrupt this job once the sweep is gone, so that the same line finds no run taken."""
    while _lives(pid, began):
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)


def _lives(pid: int, began: float) -> bool:
    try:
        found = psutil.Process(pid)
        return bool(found.create_time() == began and found.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def gpus_here() -> tuple[str, ...]:
    """Names of the GPUs that this process may use; none on a machine without NVIDIA's driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(filter(None, visible.split(",")))
    known = Path("/proc/driver/nvidia/gpus")
    return tuple(str(i) for i, _ in enumerate(known.iterdir())) if known.is_dir() else ()


# ---------------------------------------------------------------- launching


@contextmanager
def hydra_session() -> Iterator[Any]:
    """Hydra on our conf/, without hydra.main: that reads sys.argv, prints errors itself and ends the process."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config.CONF), version_base="1.3", job_name="evomerge"):
        yield GlobalHydra.instance().hydra


def launch(hydra: Any, cfg: Any, job: Job, runs: Sequence[Sequence[str]]) -> None:
    """Start these runs and wait for all, those of a broken launcher too; Ctrl-C ends those of this machine.

    cfg: the sweep's composed settings, Hydra's own among them. runs: the settings of each.
    """
    before = set(psutil.Process().children())
    context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(cfg))
    launcher = Plugins.instance().instantiate_launcher(context, job, cfg)
    try:
        launcher.launch([list(words) for words in runs], initial_job_idx=0)
    except KeyboardInterrupt:
        _stop(_children_since(before))
        raise
    except Exception as e:  # a job was lost with its machine: the launcher gives up, its other jobs go on
        print(f"error: the launcher failed ({type(e).__name__}: {e})", file=sys.stderr)
        _wait_for(_children_since(before))
    finally:
        _end_ray()


def _end_ray() -> None:
    """The launcher leaves Ray's processes behind; those of the jobs end with them."""
    if "ray" in sys.modules:
        import ray

        ray.shutdown()


def _wait_for(jobs: Sequence[Any]) -> None:
    if "ray" not in sys.modules:  # its processes end with ours
        psutil.wait_procs(jobs)


def _children_since(before: set[Any]) -> list[Any]:
    return [child for child in psutil.Process().children() if child not in before]


def _stop(children: Sequence[Any]) -> None:
    """End the jobs that a launcher has started on this machine; Ctrl-C on a terminal has reached them by itself."""
    _, alive = psutil.wait_procs(children, timeout=3)
    for child in alive:
        child.send_signal(signal.SIGINT)
    psutil.wait_procs(alive, timeout=10)
