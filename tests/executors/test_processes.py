"""Worker processes: what befalls them costs an attempt, and none outlives its driver."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from evomerge.errors import ConfigError, SearchFailed
from evomerge.executors.processes import Processes, processes
from tests.executing import evaluations
from tests.executors.scripted import Scripted, ScriptedBench, lines, work, write_down

#: No main guard, and a thread that ends before its workers are used: neither may matter.
DRIVER = """
import sys, threading
from pathlib import Path
from evomerge.executors.processes import processes
from tests.executors.scripted import Scripted, work
pool = processes(workers=2)
start = threading.Thread(target=lambda: pool.start(Scripted(Path(sys.argv[1])), lambda kind, **facts: None))
start.start()
start.join()
pool.submit([work("hangs"), work("hangs")])
pool.next()
"""


def opened(log: Path) -> list[int]:
    """Process ids of all workers that opened a bench so far."""
    return [int(line.split()[1]) for line in lines(log) if line.startswith("open")]


def gone(pids: list[int], seconds: float = 5.0) -> bool:
    until = time.monotonic() + seconds
    while any(psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE for p in pids):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def test_kills_hangs_and_signals_cost_what_they_should_and_nothing_more(tmp_path):
    told, evaluator = [], Scripted(tmp_path / "log")

    def record(kind, **facts):
        told.append((kind, facts))

    pool = processes(workers=2, strikes=1, timeout=3.0)
    try:
        list(evaluations(pool, evaluator, [work(0)], record))
        for pid in opened(evaluator.log):  # Ctrl-C and Slurm's warning go to everybody: the driver decides
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGTERM)
        sent = [work(1), work("kills"), work("hangs"), *(work(i) for i in range(2, 9)), work("tells")]
        back = list(evaluations(pool, evaluator, sent, record))
    finally:
        pool.close()
    died = {facts["id"]: facts["reason"] for kind, facts in told if kind == "died"}
    assert died == {
        "kills": "ended by SIGKILL; its last words: these are my last words",
        "hangs": "no answer within 3 s",
    }
    codes = {"kills": "worker_died", "hangs": "timeout"}
    assert {row.id: row.error_code for row in back} == {one.id: codes.get(one.id) for one in sent}
    (threads,) = [facts["threads"] for kind, facts in told if kind == "failed"]
    assert threads == evaluator.threads != os.cpu_count()
    assert gone(opened(evaluator.log), 0)


def test_workers_die_with_a_driver_that_is_killed_even_in_native_code(tmp_path):
    log, script = tmp_path / "log", tmp_path / "driver.py"
    script.write_text(DRIVER)
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.Popen([sys.executable, script, log], env=paths)
    while lines(log).count("evaluate hangs 1") < 2:  # both hang, and never let go of the interpreter
        assert driver.poll() is None
        time.sleep(0.1)
    workers = opened(log)
    assert len(workers) == 2 and not gone(workers, 0.5)
    driver.kill()
    driver.wait()
    assert gone(workers)


@dataclass(frozen=True)
class Fitful:
    """Cannot be opened at first, as where memory is short for a moment, or a disk is away."""

    log: Path
    threads: int = 1

    def open(self) -> ScriptedBench:
        times = len(lines(self.log))
        write_down(self.log, "open", os.getpid())
        if times < 1:
            raise OSError("no such disk")
        return ScriptedBench(self.log)


def test_a_worker_that_could_not_be_opened_is_tried_again_with_its_reason_at_hand(tmp_path):
    crew, heard = Processes(workers=1), []
    crew.start(Fitful(tmp_path / "log"))
    try:
        for ends in (1, 2):
            crew.open(0)
            while len(heard) < ends:
                heard += crew.wait(1.0)
    finally:
        crew.close()
    assert [message.kind for message in heard] == ["died", "ready"]
    assert heard[0].payload == "ended with exit status 7; its last words: OSError: no such disk"


def test_a_worker_that_a_machine_failed_is_replaced_and_its_work_done_again(tmp_path):
    pool, told, evaluator = processes(workers=1), [], Scripted(tmp_path / "log")
    try:
        (row,) = evaluations(pool, evaluator, [work("sick once")], lambda kind, **facts: told.append((kind, facts)))
    finally:
        pool.close()
    assert row.error_code is None and len(set(opened(evaluator.log))) == 2
    assert [facts["reason"] for kind, facts in told if kind == "died"] == ["OSError: no such disk"]


def test_a_busy_driver_takes_no_worker_for_late_and_counts_the_workers_own_seconds(tmp_path):
    pool, told, evaluator = processes(workers=1, timeout=1.0), [], Scripted(tmp_path / "log")
    try:
        list(evaluations(pool, evaluator, [work(0)], lambda kind, **facts: told.append((kind, facts))))
        pool.submit([work("tells", chunks=3)])  # an event and three rungs
        time.sleep(1.5)
        assert [pool.next().error_code for _ in range(3)] == [None] * 3
    finally:
        pool.close()
    assert {kind for kind, _ in told} == {"attempt", "done", "failed"}
    assert max(facts["seconds"] for kind, facts in told if kind == "done") < 1.0


@dataclass(frozen=True)
class Stuck:
    """Can never be opened, nor fails to be."""

    threads: int = 1

    def open(self) -> None:
        time.sleep(600)


def test_an_opening_that_hangs_ends_in_time(tmp_path):
    pool = processes(workers=1, start_timeout=0.2)
    try:
        with pytest.raises(SearchFailed, match=r"no worker could be opened.*not ready within 0\.2 s .*SIGKILL"):
            list(evaluations(pool, Stuck(), [work(0)]))
    finally:
        pool.close()


def test_what_a_worker_cannot_load_is_told_with_what_to_do(tmp_path, monkeypatch):
    here = tmp_path / "only_here.py"
    here.write_text("class Evaluator:\n    threads = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here  # type: ignore[import-not-found]

    here.unlink()
    pool = processes(workers=1)
    try:
        with pytest.raises(
            ConfigError, match=r"cannot load .*No module named 'only_here'.* module that can be imported"
        ):
            list(evaluations(pool, only_here.Evaluator(), [work(0)]))
    finally:
        pool.close()


def test_what_cannot_be_sent_is_told_before_anything_is_started():
    evaluator = Scripted(lambda: None)  # type: ignore[arg-type]
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(evaluator)
    with pytest.raises(ConfigError, match=r"cannot be sent to another process .*executor=local"):
        processes(workers=1).check(evaluator)


@pytest.mark.parametrize(
    "bad, words",
    [
        ({"workers": 0}, "executor.workers is 0; wanted 1 or more"),
        ({"gpus_per_worker": 0}, "executor.gpus_per_worker is 0; wanted 1 or more"),
        ({"devices": []}, "executor.devices is empty"),
        ({"start_timeout": 0.0}, "executor.start_timeout is 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(bad, words):
    with pytest.raises(ConfigError, match=words):
        processes(**bad)


def test_as_many_workers_as_cores_allow_by_the_evaluators_threads():
    crew = Processes()
    crew.check(Scripted(Path("log"), threads=10**6))
    assert crew.size == 1
    crew.check(Scripted(Path("log"), threads=1))
    assert crew.size == len(os.sched_getaffinity(0))
