"""Real searches on tiny models over worker processes: whatever is killed, the journal is that of an undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from evomerge import config, launch, preparation
from evomerge.journal import events, rows
from tests.poisoned import Poisoned

pytestmark = pytest.mark.slow

TWO = ("executor=processes", "executor.workers=2")
SEARCHES = {
    "generations": ("optimizer=cma_es", "space.method=dare_ties", "budget.evaluations=14"),
    "steady": ("optimizer=m2n2", "optimizer.archive=4", "optimizer.lag=3", "race=none", "budget.evaluations=14"),
}


def run(command: list[str], folder: Path, *settings: str, harm: dict[int | str, str] | None = None) -> None:
    words = [*command[1:], *settings]
    prepared = preparation.prepare(config.settings(words), folder)
    if harm:
        plan = prepared.plan
        prepared = replace(prepared, plan=replace(plan, evaluator=Poisoned(plan.evaluator, harm)))
    launch.run(prepared, folder, {"overrides": words, "config_dirs": [], "cwd": "."})


def canonical(folder: Path) -> list[str]:
    return sorted(map(repr, rows(folder)))


def workers(driver: int) -> list[psutil.Process]:
    """Its worker processes, oldest first."""
    children = [p for p in psutil.Process(driver).children() if "evomerge.executors.worker" in p.cmdline()]
    return sorted(children, key=lambda p: p.create_time())


def rows_of(folder: Path) -> int:
    path = folder / "journal.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def paid(folder: Path) -> Counter[tuple[str, object, int]]:
    """How often each rung was evaluated to its end."""
    return Counter((e["phase"], e["id"], e["rung"]) for e in events(folder) if e["event"] == "done")


@pytest.fixture(scope="module")
def undisturbed(command, tmp_path_factory):
    """What one process finds, by kind of search; each is searched when it is first wanted."""
    found: dict[str, list[str]] = {}

    def of(kind: str) -> list[str]:
        if kind not in found:
            folder = tmp_path_factory.mktemp("undisturbed")
            run(command, folder, *SEARCHES[kind], "executor=local")
            found[kind] = canonical(folder)
        return found[kind]

    return of


class Killer(threading.Thread):
    """Kills a worker of this process after some row was written."""

    def __init__(self, folder: Path, seed: int):
        super().__init__(daemon=True)
        self._folder, self._rng, self.killed = folder, random.Random(seed), False

    def run(self) -> None:
        after = self._rng.randrange(4, 16)
        while rows_of(self._folder) < after:
            time.sleep(0.01)
        self._rng.choice(workers(os.getpid())).kill()
        self.killed = True


def test_a_worker_killed_at_a_random_moment_leaves_no_trace_in_the_journal(command, undisturbed, tmp_path):
    killer = Killer(tmp_path, seed=1)
    killer.start()
    run(command, tmp_path, *SEARCHES["generations"], *TWO)
    killer.join(1)
    assert killer.killed
    assert canonical(tmp_path) == undisturbed("generations")
    assert set(paid(tmp_path).values()) == {1}
    assert workers(os.getpid()) == []


def test_after_the_driver_was_killed_workers_are_gone_and_a_resumed_run_is_the_undisturbed_one(
    command, undisturbed, tmp_path
):
    driver = os.fork()
    if driver == 0:
        try:
            run(command, tmp_path, *SEARCHES["steady"], *TWO)
        finally:
            os._exit(0)
    while rows_of(tmp_path) < 9:
        time.sleep(0.01)
    living = workers(driver)
    os.kill(driver, signal.SIGKILL)
    os.waitpid(driver, 0)
    assert len(living) == 2
    assert psutil.wait_procs(living, timeout=5)[1] == []
    run(command, tmp_path, *SEARCHES["steady"], "executor=local")
    assert canonical(tmp_path) == undisturbed("steady")
    assert sum(paid(tmp_path).values()) <= len(paid(tmp_path)) + 2  # those in flight


def test_a_candidate_that_kills_ends_as_failed_and_one_that_fills_the_device_is_asked_in_smaller_batches(
    command, tmp_path
):
    harm: dict[int | str, str] = {1: "kills", 2: "full"}
    run(command, tmp_path, *SEARCHES["generations"], *TWO, "executor.strikes=1", harm=harm)
    found = {
        r["id"]: (r["error"], r["batch_size"])
        for r in rows(tmp_path)
        if r["row"] == "evaluation" and r["phase"] == "search"
    }
    whole = found[0][1]
    assert found == {i: (None, whole) for i in range(14)} | {1: ("worker_died", whole), 2: (None, whole // 2)}
    assert Counter(e["event"] for e in events(tmp_path) if e["event"] in ("died", "retry")) == {"died": 1, "retry": 1}
