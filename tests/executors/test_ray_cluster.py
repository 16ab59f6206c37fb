"""Workers in a Ray cluster: what local says, whoever dies; nothing begins with other files, or without room."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from omegaconf import OmegaConf

from evomerge.cli import main
from evomerge.config import CONF
from evomerge.errors import ConfigError, MachineFailed, SearchFailed, TaskError
from evomerge.executors import ray_session
from evomerge.executors.jobs import Job
from evomerge.executors.local import Local
from evomerge.executors.ray_actor import Actor
from evomerge.executors.ray_claims import Claim, claim, places
from evomerge.executors.ray_cluster import ray_cluster
from evomerge.executors.ray_seat import last_words
from evomerge.journal import events, rows
from tests.executing import evaluations
from tests.executors.scripted import Scripted, lines, work
from tests.sphere import SphereBench

CPUS = 3


@pytest.fixture(scope="module", autouse=True)
def here():
    """One Ray for all tests of this file; executors find it running, and leave it so."""
    before = signal.getsignal(signal.SIGTERM)
    session = ray_session.start(CPUS)
    assert signal.getsignal(signal.SIGTERM) == before
    yield session
    session.leave()


class Pair:
    """An executor of two workers that two deaths end a candidate for, its evaluator, and what it records."""

    def __init__(self, log: Path):
        self.executor, self.evaluator, self.told = ray_cluster(workers=2, strikes=2), Scripted(log), []

    def evaluate(self, *works):
        return list(evaluations(self.executor, self.evaluator, works, self.record))

    def record(self, kind, **facts):
        self.told.append((kind, facts))

    def facts(self, kind):
        return [facts for told, facts in self.told if told == kind]


@pytest.fixture(scope="module")
def living(tmp_path_factory):
    one = Pair(tmp_path_factory.mktemp("pair") / "log")
    yield one
    one.executor.close()


@pytest.fixture
def pair(living):
    living.told.clear()
    return living


@pytest.fixture(scope="module")
def alike(command, finished):
    """Whether a run's canonical rows are those of the same search with executor=local, undisturbed."""
    return lambda folder: sorted(map(repr, rows(folder))) == sorted(map(repr, rows(finished)))


def search(command, folder, *more):
    settings = ["space.method=ties", "optimizer=cma_es", "budget.evaluations=9", f"run={folder}"]
    return [*command, *settings, "executor=ray_cluster", "executor.workers=2", *more]


def table(found):
    return {(r.phase, r.id, r.rung): (r.last, r.error_code, [s.values.tobytes() for s in r.scores]) for r in found}


def wait_until(true, seconds=30.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)


# ---------------------------------------------------------------- what is asked is answered


def test_two_workers_answer_as_one_process_does(pair):
    sent = [work(i, chunks=1 + i % 3) for i in range(30)]
    assert table(pair.evaluate(*sent)) == table(evaluations(Local(), Scripted(Path(os.devnull)), sent))


def test_workers_compute_with_the_drivers_threads(tmp_path):
    before, actor = torch.get_num_threads(), Actor()
    try:
        actor.open(pickle.dumps(Scripted(tmp_path / "log")), 2, None)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# ---------------------------------------------------------------- deaths


def test_a_worker_that_dies_while_idle_is_no_strike_and_its_successor_does_the_work(pair):
    pair.evaluate(*[work(i) for i in range(6)])
    openings = [int(line.split()[1]) for line in lines(pair.evaluator.log) if line.startswith("open")][-2:]
    for process in openings:
        os.kill(process, signal.SIGKILL)
    again = [work(i) for i in range(6, 10)]
    assert table(pair.evaluate(*again)) == table(evaluations(Local(), Scripted(Path(os.devnull)), again))
    assert not pair.facts("died") and not pair.facts("retry")
    assert "lost" in {kind for kind, _ in pair.told}


def test_a_candidate_that_kills_its_workers_ends_failed_and_the_others_are_served(pair):
    back = pair.evaluate(work(1), work("kills"), work(2), work(3, chunks=3))
    assert {r.id: r.error_code for r in back} == {1: None, "kills": "worker_died", 2: None, 3: None}
    assert [(f["id"], f["strikes"]) for f in pair.facts("died")] == [("kills", 1), ("kills", 2)]
    assert all(".err" in f["reason"] for f in pair.facts("died"))


def test_a_worker_that_a_machine_failed_is_replaced_and_its_work_done_again(pair):
    assert [r.error_code for r in pair.evaluate(work("sick once"))] == [None]
    assert [(f["id"], f["strikes"], f["reason"]) for f in pair.facts("died")] == [
        ("sick once", 1, "OSError: no such disk")
    ]


def test_a_busy_driver_takes_no_worker_for_late_and_counts_the_workers_own_seconds(tmp_path):
    executor, told, evaluator = ray_cluster(workers=1, timeout=1.0), [], Scripted(tmp_path / "log")
    list(evaluations(executor, evaluator, [work(0)], lambda kind, **facts: told.append((kind, facts))))
    executor.submit([work("tells", chunks=3)])
    time.sleep(1.5)
    assert [executor.next().error_code for _ in range(3)] == [None] * 3
    executor.close()
    assert {kind for kind, _ in told} <= {"attempt", "done", "failed", "note"}
    assert max(facts["seconds"] for kind, facts in told if kind == "done") < 1.0


def test_a_hung_evaluation_is_ended_in_time(tmp_path):
    executor, evaluator = ray_cluster(workers=1, strikes=1, timeout=1.0), Scripted(tmp_path / "log")
    back = list(evaluations(executor, evaluator, [work("hangs"), work(1)]))
    executor.close()
    assert {r.id: r.error_code for r in back} == {"hangs": "timeout", 1: None}
    (first, *_) = [int(line.split()[1]) for line in lines(evaluator.log) if line.startswith("open")]
    wait_until(lambda: not psutil.pid_exists(first))


@pytest.mark.slow
def test_a_search_over_copies_of_the_parents_with_a_worker_killed_has_locals_journal(command, pico, alike, tmp_path):
    for folder in pico.values():
        shutil.copytree(folder, tmp_path / "disk" / folder.name)
    killed, over = list[int](), threading.Event()

    def kill_one():
        while not over.wait(0.01) and not killed:
            if len(lines(tmp_path / "run" / "journal.jsonl")) > 5:
                killed.append(actors_of(os.getpid())[0])
                os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    try:
        assert main(search(command, tmp_path / "run", f"executor.parents_dir={tmp_path / 'disk'}")) == 0
    finally:
        over.set()
        killer.join()
    assert killed and alike(tmp_path / "run")
    paid = Counter((e["phase"], e["id"], e["rung"]) for e in events(tmp_path / "run") if e["event"] == "done")
    assert set(paid.values()) == {1}


@pytest.mark.slow
def test_workers_die_with_a_killed_driver_and_the_run_goes_on_to_locals_journal(command, alike, tmp_path):
    """With a Ray of its own, which has to end too."""
    call = [sys.executable, "-c", "import sys; from evomerge.cli import main; sys.exit(main(sys.argv[1:]))"]
    driver = subprocess.Popen([*call, *search(command, tmp_path / "run")], stdout=-3, stderr=-3)
    try:
        wait_until(lambda: len(lines(tmp_path / "run" / "journal.jsonl")) > 6, 120)
        workers = actors_of(driver.pid)
    finally:
        driver.kill()
        driver.wait()
    assert len(workers) >= 2
    wait_until(lambda: not any(map(psutil.pid_exists, workers)))
    assert not alike(tmp_path / "run")
    assert main([word for word in search(command, tmp_path / "run") if not word.startswith("executor")]) == 0
    assert alike(tmp_path / "run"), "and who goes on may do so without Ray"


def actors_of(driver: int) -> list[int]:
    children = psutil.Process(driver).children(recursive=True)
    return [p.pid for p in children if is_actor(p)]


def is_actor(process: psutil.Process) -> bool:
    try:
        return "ray::Actor" in " ".join(process.cmdline())
    except psutil.Error:  # gone meanwhile
        return False


# ---------------------------------------------------------------- what is refused


def test_a_node_with_another_copy_of_a_parent_is_refused_before_anything_is_paid(command, pico, tmp_path, capsys):
    for name, folder in {**pico, "b": pico["a"]}.items():
        shutil.copytree(folder, tmp_path / "disk" / pico[name].name)
    assert main(search(command, tmp_path / "run", f"executor.parents_dir={tmp_path / 'disk'}")) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert f"sees another {pico['b']} at" in told and "its digest is" in told
    assert not [r for r in rows(tmp_path / "run") if r["row"] == "evaluation"]


def test_more_gpus_than_there_are_is_told_with_both_numbers(tmp_path):
    with pytest.raises(
        ConfigError, match=r"executor.workers=2 want 2 CPUs and 2 GPUs, and the cluster has 3 CPUs and 0"
    ):
        ray_cluster(workers=2, num_gpus=1).check(Scripted(tmp_path / "log"))


def test_more_cpus_than_there_are_is_told_with_both_numbers(tmp_path):
    with pytest.raises(
        ConfigError, match=r"workers=4 want 4 CPUs and 0 GPUs, and the cluster has 3 CPUs .* room for 3"
    ):
        ray_cluster(workers=4).check(Scripted(tmp_path / "log"))


def test_as_many_workers_as_there_is_room_for(tmp_path):
    executor = ray_cluster(num_cpus=1.5)
    executor.check(Scripted(tmp_path / "log"))
    assert executor.workers == 2


def test_a_full_cluster_is_told_with_what_is_wanted_and_what_is_free(pair):
    pair.evaluate(work(1), work(2))
    executor = ray_cluster(workers=1, num_cpus=2, start_timeout=0.5)
    with pytest.raises(SearchFailed, match=r"not ready within 0.5 s .*: no place .* 2 CPUs and 0 GPUs, .* 3 CPUs"):
        list(evaluations(executor, pair.evaluator, [work(1)]))
    executor.close()


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nothing_answers_is_told_within_seconds(scheme, tmp_path):
    began = time.monotonic()
    with pytest.raises(ConfigError, match=rf"nothing answers at executor.address={scheme}127.0.0.1:9 "):
        ray_cluster(address=f"{scheme}127.0.0.1:9").check(Scripted(tmp_path / "log"))
    assert time.monotonic() - began < 10


def test_an_address_that_is_none_is_told_with_what_would_be(tmp_path):
    with pytest.raises(ConfigError, match=r"executor.address is 'head'; wanted null, auto, HOST:PORT"):
        ray_cluster(address="head").check(Scripted(tmp_path / "log"))


@pytest.mark.parametrize("found", ["2.9.3", None])
def test_a_missing_or_old_ray_is_told_with_what_to_install(found, tmp_path, monkeypatch):
    def version(name):
        if found is None:
            raise ray_session.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(ray_session, "version", version)
    with pytest.raises(ConfigError, match=r"2\.40 or later: pip install 'evomerge\[ray\]'"):
        ray_cluster().check(Scripted(tmp_path / "log"))


@pytest.mark.parametrize(
    ("setting", "value"),
    [("workers", 0), ("num_cpus", 0.0), ("num_gpus", -1.0), ("num_gpus", 1.5), ("start_timeout", 0.0), ("strikes", 0)],
)
def test_settings_out_of_range_are_refused_by_name(setting, value):
    with pytest.raises(ConfigError, match=rf"executor.{setting} is {value}; wanted"):
        ray_cluster(**{setting: value})


# ---------------------------------------------------------------- without a cluster


def test_it_listens_on_loopback_alone(here):
    assert here.ray.get_runtime_context().gcs_address.startswith("127.0.0.1:")
    ours = [psutil.Process(), *psutil.Process().children(recursive=True)]
    open_to = {c.laddr.ip for p in ours for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    assert open_to and all(ip.removeprefix("::ffff:") in ("127.0.0.1", "::1") for ip in open_to)


@pytest.mark.parametrize(
    ("each", "room"),
    [
        (Claim(1.0, 0.0, 1), 12),
        (Claim(3.0, 0.0, 1), 3),
        (Claim(0.1, 0.0, 1), 120),
        (Claim(1.0, 1.0, 1), 5),
        (Claim(1.0, 2.0, 1), 2),
        (Claim(0.5, 0.4, 1), 10),
        (Claim(1.0, 0.1, 1), 12),
    ],
)
def test_room_is_counted_node_by_node_and_no_share_of_a_gpu_is_cut_from_two(each, room):
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}},
        {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 3.0}},
        {"Alive": False, "Resources": {"CPU": 99.0, "GPU": 99.0}},
    ]
    assert places(nodes, each) == room


def test_a_worker_claims_its_threads_or_a_gpu(tmp_path):
    evaluator = Scripted(tmp_path / "log", threads=4)
    assert claim(evaluator, None, None) == Claim(4.0, 0.0, 4)
    object.__setattr__(evaluator, "device", torch.device("cuda:3"))
    assert claim(evaluator, None, None) == Claim(1.0, 1.0, 4)
    assert claim(evaluator, 2.0, 0.25) == Claim(2.0, 0.25, 4)
    with pytest.raises(ConfigError, match=r"executor.num_gpus is 0, and device=cuda"):
        claim(evaluator, None, 0.0)


class Unopened(Scripted):
    def open(self):
        raise {"full": MemoryError, "sick": MachineFailed, "misset": TaskError, "odd": KeyError}[self.log.name]("why")


@pytest.mark.parametrize(
    ("name", "kind", "what"),
    [
        ("full", "died", "MemoryError: why"),
        ("sick", "died", "MachineFailed: why"),
        ("misset", "error", "TaskError"),
        ("odd", "error", "KeyError"),
    ],
)
def test_what_keeps_a_bench_from_opening_is_said(name, kind, what):
    ((said, payload),) = Actor().open(pickle.dumps(Unopened(Path(name))), 1, None)
    assert (said, payload if kind == "died" else payload.name) == (kind, what)


def test_what_cannot_be_loaded_there_is_said_with_what_to_do():
    ((said, fault),) = Actor().open(b"cno_such_module\nThing\n.", 1, None)
    assert (said, fault.name) == ("error", "ConfigError") and "no_such_module" in fault.text


def test_a_rung_is_said_as_soon_as_it_is_answered_and_the_end_with_the_last(tmp_path):
    actor = Actor()
    actor.open(pickle.dumps(Scripted(tmp_path / "log")), 1, None)
    actor.begin(Job((work(1, chunks=3),)))
    assert [[kind for kind, _ in actor.proceed()] for _ in range(4)] == [["row"], ["row"], ["row", "done"], []]


class AtOnce:
    def stops(self, answered):
        return True


class Judging(Scripted):
    def open(self):
        return SphereBench(lambda work: None)


def test_a_judge_may_end_a_race_and_the_next_job_is_answered_whole(tmp_path):
    actor = Actor()
    actor.open(pickle.dumps(Judging(tmp_path / "log")), 1, None)
    actor.begin(Job((replace(work(1, chunks=3), judge=AtOnce()),)))
    assert [[kind for kind, _ in actor.proceed()] for _ in range(3)] == [["row", "done"], [], []]
    actor.begin(Job((work(2, chunks=2),)))
    assert [[kind for kind, _ in actor.proceed()] for _ in range(2)] == [["row"], ["row", "done"]]


def test_last_words_are_one_line():
    told = "The actor died.\n\tclass_name: Actor\nWorker exit type: SYSTEM_ERROR Worker exit detail: gone."
    assert last_words(f"{told} Some common causes include: (1)", None) == "SYSTEM_ERROR: gone."
    assert last_words("one\ntwo", None) == "one"


def test_the_yaml_has_every_setting_with_its_default():
    written = OmegaConf.to_container(OmegaConf.load(CONF / "executor" / "ray_cluster.yaml"))
    defaults = {n: p.default for n, p in inspect.signature(ray_cluster).parameters.items()}
    assert {k: v for k, v in written.items() if k != "_target_"} == json.loads(json.dumps(defaults))
