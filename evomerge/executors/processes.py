"""Workers as processes of this machine: one per GPU, or per share of its cores. Parents are shared by mmap."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import wait as wait_for
from typing import Any

from evomerge.errors import ConfigError
from evomerge.executors.crew import Message
from evomerge.executors.jobs import Job
from evomerge.executors.limits import Limits
from evomerge.executors.pool import Pool
from evomerge.executors.shares import Share, shares
from evomerge.executors.spawn import Process, Spawner


def processes(
    workers: int | None = None,
    devices: Sequence[int | str] | None = None,
    gpus_per_worker: int = 1,
    retries: int = 2,
    strikes: int = 3,
    timeout: float | None = None,
    start_timeout: float | None = 1800.0,
) -> Pool:
    """The executor `processes`; see conf/executor/processes.yaml. Raises ConfigError for values out of range."""
    crew = Processes(workers, devices, gpus_per_worker)
    return Pool(crew, Limits(retries, strikes, timeout, start_timeout))


class Processes:
    """A crew of processes that are started afresh, never forked: torch's threads do not survive a fork.

    workers: None for as many as devices, or cores by threads, allow. devices: the GPUs to use, None for all visible.
    """

    def __init__(
        self, workers: int | None = None, devices: Sequence[int | str] | None = None, gpus_per_worker: int = 1
    ):
        for name, value in (("workers", workers), ("gpus_per_worker", gpus_per_worker)):
            if value is not None and value < 1:
                raise ConfigError(f"executor.{name} is {value}; wanted 1 or more.")
        if devices is not None and not devices:
            raise ConfigError("executor.devices is empty; wanted GPUs, as in [0,1], or null for all visible ones.")
        self._workers, self._devices, self._gpus = workers, devices, gpus_per_worker
        self.size = workers or 1
        self.notes: tuple[str, ...] = ()
        self._spawner: Spawner | None = None
        self._shares: list[Share] = []
        self._processes: dict[int, Process] = {}

    def check(self, evaluator: Any) -> None:
        self._shares, self.notes = shares(evaluator, self._workers, self._devices, self._gpus)
        self.size = len(self._shares)
        _pickled(evaluator)

    def start(self, evaluator: Any) -> None:
        self.check(evaluator)
        self._spawner = Spawner(_pickled(_of_one_device(evaluator)))

    def open(self, worker: int) -> None:
        assert self._spawner is not None, "start comes first"
        self._processes[worker] = self._spawner.start(self._shares[worker])

    def opening(self, worker: int) -> str:
        return f"its process on {self.host(worker)} is loading the model"

    def host(self, worker: int) -> str:
        return socket.gethostname()

    def alive(self, worker: int) -> bool:
        return not self._processes[worker].ended

    def send(self, worker: int, job: Job) -> None:
        self._processes[worker].send(job)

    def wait(self, seconds: float) -> Sequence[Message]:
        by_connection = {p.connection: worker for worker, p in self._processes.items()}
        heard: list[Message] = []
        for connection in wait_for(list(by_connection), seconds):
            heard += self._heard(by_connection[connection])  # type: ignore[index]
        for worker in [w for w, p in self._processes.items() if p.ended and not p.connection.poll()]:
            heard.append(self._buried(worker))
        return heard

    def kill(self, worker: int) -> None:
        if worker in self._processes:  # else it has said "died"
            self._processes[worker].kill()

    def close(self) -> None:
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.bury()
        self._processes = {}
        if self._spawner:
            self._spawner.close()
            self._spawner = None

    def _heard(self, worker: int) -> Iterator[Message]:
        """All that it has said by now, and its death if that is what follows."""
        connection = self._processes[worker].connection
        try:
            while connection.poll():
                yield Message(worker, *connection.recv())
        except (EOFError, OSError):
            yield self._buried(worker)

    def _buried(self, worker: int) -> Message:
        return Message(worker, "died", self._processes.pop(worker).bury())


def _pickled(evaluator: Any) -> bytes:
    try:
        return pickle.dumps(evaluator)
    except (pickle.PicklingError, AttributeError, TypeError) as e:
        raise ConfigError(
            f"what is to be evaluated cannot be sent to another process ({e}). Code of your own must be a module's "
            "function or class, not a lambda or local one; or use executor=local."
        ) from e


def _of_one_device(evaluator: Any) -> Any:
    """For a worker that sees its own GPUs only: there, the first of them is "cuda"."""
    import torch

    on_gpu = getattr(getattr(evaluator, "device", None), "type", "cpu") == "cuda"
    return replace(evaluator, device=torch.device("cuda")) if on_gpu else evaluator
