"""Sweeps: folders named by what was swept, resumed by the same line, extended by a larger one, whole if one fails."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from evomerge import api, config
from evomerge.errors import ConfigError
from evomerge.journal import rows
from evomerge.reports import sweep as overview
from evomerge.sweep import launchers
from evomerge.sweep import run as sweep
from evomerge.sweep.child import attempt
from evomerge.sweep.finished import digest, is_finished, stamp
from evomerge.sweep.jobs import Job, hydra_session

NAMES = {f"optimizer={o},seed={s}" for o in ("cma_es", "uniform") for s in (1, 2)}
#: Tests that are run in the background inherit an ignored SIGINT: the sweep must hear it all the same.
DRIVER = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from evomerge.sweep import run as sweep
sys.exit(sweep.run(sys.argv[1:]))
"""
DEADLY = """
import os, signal
from evomerge.optimizers.uniform import Uniform

class Deadly(Uniform):
    def __init__(self, problem, seed, way: str = "none"):
        super().__init__(problem, seed)
        self._way = way

    def ask(self, n):
        if self._way != "none":
            os.kill(os.getpid(), getattr(signal, self._way))
        return super().ask(n)
"""


@pytest.fixture(scope="module")
def fixed(command) -> list[str]:
    """Settings of quick runs on the tiny models."""
    kept = [word for word in command[1:] if not word.startswith(("control.", "finalists"))]
    return [*kept, "control=none", "finalists=1", "budget.evaluations=4", "subset=random", "subset.n=24"]


@pytest.fixture(scope="module")
def two_by_two(fixed) -> list[str]:
    return [*fixed, "optimizer=cma_es,uniform", "seed=1,2"]


@pytest.fixture(scope="module")
def two(fixed) -> list[str]:
    """Half of the sweep, named alike: a choice of one value is swept, too."""
    return [*fixed, "optimizer=choice(uniform)", "seed=1,2"]


@pytest.fixture
def in_this_process(monkeypatch):
    """Runs of the default launcher without a process of their own, which takes seconds to start."""

    def make_all(orders, cwd):
        for order in orders:
            attempt(order.words, order.folder, order.config_dirs)

    monkeypatch.setattr(sweep, "make_all", make_all)


@pytest.fixture(scope="module")
def swept(two_by_two, tmp_path_factory):
    """A finished sweep."""
    folder = tmp_path_factory.mktemp("sweeps") / "first"
    assert sweep.run([*two_by_two, f"run={folder}"]) == 0
    return folder


def journals(folder):
    return {p.parent.name: p.read_bytes() for p in folder.glob("*/journal.jsonl")}


def canonical(folder):
    """The canonical rows of every run, without their order."""
    return {path.parent.name: sorted(map(repr, rows(path.parent))) for path in folder.glob("*/journal.jsonl")}


def of_uniform(found):
    return {name: one for name, one in found.items() if "uniform" in name}


def searched(folder):
    return sorted(repr(r) for r in rows(folder) if r["row"] == "evaluation" and r["phase"] == "search")


def wait_for(path, n, seconds=300):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if has_rows(path, n):
            return
        time.sleep(0.02)
    pytest.fail(f"{path} did not get {n} rows in {seconds} s")


def has_rows(path, n):
    return path.is_file() and path.read_bytes().count(b"\n") >= n


def wait_until(holds, seconds=120):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def writer(folder):
    """The process that has written a run last."""
    return json.loads((folder / "writer.json").read_text())["pid"]


def halted(*folders):
    """The processes of these runs, each stopped once it has written 3 rows: no run is done before the test goes on."""
    found = {}

    def all_are():
        for folder in folders:
            if folder not in found and has_rows(folder / "journal.jsonl", 3):
                found[folder] = writer(folder)
                os.kill(found[folder], signal.SIGSTOP)
        return len(found) == len(folders)

    wait_until(all_are, seconds=300)
    return [found[folder] for folder in folders]


def alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def files(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def start(words, driver=DRIVER, **how):
    return subprocess.Popen([sys.executable, "-c", driver, *words], stderr=subprocess.PIPE, text=True, **how)


# ---------------------------------------------------------------- folders


def test_each_combination_is_a_run_named_by_what_was_swept(swept):
    assert set(journals(swept)) == NAMES
    assert all((swept / name / "report.md").is_file() for name in NAMES)
    assert {m.state for m in overview.read(swept).runs} == {"finished"}


def test_a_run_is_what_a_plain_search_of_its_settings_is(swept, fixed, tmp_path):
    api.search(*fixed, "optimizer=uniform", "seed=2", run=tmp_path)
    assert sorted(map(repr, rows(tmp_path))) == canonical(swept)["optimizer=uniform,seed=2"]


def test_the_same_line_again_in_any_order_of_its_keys_touches_nothing_and_loads_no_torch(swept, two_by_two):
    before = {name: files(swept / name) for name in NAMES}
    words = [f"run={swept}", *two_by_two[::-1]]
    code = f"import sys; from evomerge.sweep.run import run; print(run({words!r}))"
    done = subprocess.run([sys.executable, "-c", code + "; print('torch' in sys.modules)"], capture_output=True)
    assert done.stdout.endswith(b"\n0\nFalse\n") and b"4 of 4 runs finished" in done.stdout
    assert b"4 of 4 runs are finished already" in done.stderr
    assert {name: files(swept / name) for name in NAMES} == before


def test_a_run_counts_as_finished_for_what_it_was_asked_only(swept, two_by_two, task_folder, tmp_path):
    folder = shutil.copytree(swept / "optimizer=uniform,seed=1", tmp_path / "run")
    tasks = shutil.copytree(task_folder, tmp_path / "tasks")
    words = [*two_by_two[:-2], "optimizer=uniform", "seed=1"]
    own = [*[w for w in words if not w.startswith("task.include_path")], f"task.include_path={tasks}"]

    def asked(*more):
        return digest(config.settings([*own, *more]))

    assert is_finished(folder, digest(config.settings([*words, "run=anywhere"])))
    stamp(folder, asked())
    assert is_finished(folder, asked()) and is_finished(folder, asked("executor.retries=5"))
    for change in ("budget.evaluations=5", "seed=2", "space.parts=[mlp]"):
        assert not is_finished(folder, asked(change))
    (tasks / "sums_test.jsonl").write_text("{}")
    assert not is_finished(folder, asked())
    stamp(folder, asked())
    with (folder / "journal.jsonl").open("a") as journal:
        journal.write("{}\n")
    assert not is_finished(folder, asked())
    assert not is_finished(tmp_path / "nowhere", asked())


def test_a_larger_sweep_extends_its_runs_and_adds_new_ones(swept, fixed, tmp_path, in_this_process):
    folder = shutil.copytree(swept, tmp_path / "grown")
    larger = [*fixed, "budget.evaluations=6", "optimizer=uniform"]
    assert sweep.run([*larger, "optimizer=choice(uniform)", "seed=2,3", f"run={folder}"]) == 0
    assert set(journals(folder)) == NAMES | {"optimizer=uniform,seed=3"}
    api.search(*larger, "seed=2", run=tmp_path / "long")
    assert searched(folder / "optimizer=uniform,seed=2") == searched(tmp_path / "long")
    assert journals(folder)["optimizer=uniform,seed=1"] == journals(swept)["optimizer=uniform,seed=1"]


def test_a_run_resumes_alone_with_its_own_settings(swept, tmp_path, monkeypatch):
    command = json.loads((swept / "optimizer=uniform,seed=2" / "command.json").read_text())
    keys = [word.split("=")[0] for word in command["overrides"]]
    assert not [key for key in keys if key.startswith("hydra")] and len(keys) == len(set(keys))
    monkeypatch.chdir(tmp_path)
    before = journals(swept)
    assert api.resume(swept / "optimizer=uniform,seed=2").winner
    assert journals(swept) == before


def test_values_with_slashes_and_commas_have_legal_folders_and_run(fixed, tmp_path, in_this_process):
    parts = "space.parts=[self_attn,mlp],[mlp]"
    weights = "space.ranges.weight=[0,1]"  # added to an open mapping, which Hydra must be told
    few = [*[w for w in fixed if not w.startswith("budget")], "budget.evaluations=2", "optimizer=uniform"]
    assert sweep.run([*few, parts, weights, f"run={tmp_path}"]) == 0
    assert len(journals(tmp_path)) == 2
    assert all(name.startswith("space.parts=") and name.isascii() for name in journals(tmp_path))
    spaces = [rows(tmp_path / name)[0]["identity"]["space"] for name in journals(tmp_path)]
    assert sorted(space["parts"] for space in spaces) == [["mlp"], ["self_attn", "mlp"]]
    assert all(space["ranges"] == {"weight": [0, 1]} for space in spaces)


def test_config_files_and_paths_of_the_user_are_found_from_where_the_sweep_started(
    fixed, task_folder, tmp_path, monkeypatch, in_this_process
):
    (tmp_path / "mine" / "optimizer").mkdir(parents=True)
    wide = {"_target_": "evomerge.optimizers.uniform.Uniform", "batch": 3}
    (tmp_path / "mine" / "optimizer" / "wide.yaml").write_text(yaml.safe_dump(wide))
    (tmp_path / "tasks").symlink_to(task_folder)
    monkeypatch.chdir(tmp_path)
    relative = [w for w in fixed if not w.startswith("task.include_path")] + ["task.include_path=tasks"]
    line = [*relative, "budget.evaluations=2", "optimizer=wide,uniform", "run=here"]
    assert sweep.run(line, ["mine"]) == 0
    assert rows(tmp_path / "here" / "optimizer=wide")[0]["identity"]["optimizer"]["batch"] == 3
    monkeypatch.chdir("/")
    assert api.resume(tmp_path / "here" / "optimizer=wide", "budget.evaluations=3").report().finished


# ---------------------------------------------------------------- kills and failures


@pytest.mark.slow
def test_a_killed_sweep_takes_its_run_with_it_and_the_same_line_goes_on_to_the_same_journals(
    swept, two, tmp_path, in_this_process
):
    line = [*two, f"run={tmp_path}"]
    first, second = (tmp_path / f"optimizer=uniform,seed={n}" for n in (1, 2))
    sweeping = start(line)
    wait_for(second / "journal.jsonl", 7)
    sweeping.kill()
    sweeping.communicate()
    assert [m.state for m in overview.read(tmp_path).runs] != ["finished", "finished"]
    wait_until(lambda: not alive(writer(second)))
    before = files(first)
    assert sweep.run(line) == 0
    assert canonical(tmp_path) == of_uniform(canonical(swept))
    assert files(first) == before


@pytest.mark.slow
def test_no_death_of_a_run_ends_the_sweep(swept, fixed, tmp_path, monkeypatch, capfd):
    """An optimizer takes its process down; the run after it is a sound one."""
    (tmp_path / "deadly.py").write_text(DEADLY)
    (tmp_path / "mine" / "optimizer").mkdir(parents=True)
    member = {"_target_": "deadly.Deadly", "way": "none"}
    (tmp_path / "mine" / "optimizer" / "deadly.yaml").write_text(yaml.safe_dump(member))
    monkeypatch.syspath_prepend(tmp_path)
    line = [*fixed, "optimizer=deadly", "optimizer.way=SIGSEGV,none", f"run={tmp_path / 'runs'}"]
    assert sweep.run(line, [str(tmp_path / "mine")]) == 4
    runs = {m.settings["optimizer.way"]: m for m in overview.read(tmp_path / "runs").runs}
    assert runs["none"].state == "finished" and runs["SIGSEGV"].state == "failed"
    assert "killed by SIGSEGV: it crashed in native code" in runs["SIGSEGV"].error
    assert "1 of 2 runs finished" in capfd.readouterr().out


@pytest.mark.slow
def test_ctrl_c_stops_the_sweep_and_prints_the_line_that_resumes_it(swept, two, tmp_path, in_this_process):
    folder = tmp_path / "a sweep"
    child = start([*two, f"run={folder}"])
    wait_for(folder / "optimizer=uniform,seed=1" / "journal.jsonl", 7)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=300)
    assert child.returncode == 130
    again = shlex.split(next(line for line in err.splitlines() if "Resume with: " in line).partition("with: ")[2])
    assert again[:3] == ["evomerge", "search", "-m"]
    assert sweep.run(again[3:]) == 0
    assert canonical(folder) == of_uniform(canonical(swept))


def test_a_run_that_fails_leaves_the_others_done_and_is_told(fixed, pico, tmp_path, capfd, in_this_process):
    three = f"parents.models=[{pico['a']},{pico['b']},{pico['base']}]"
    line = [*fixed, three, "optimizer=uniform", "space.method=slerp,ties", "budget.evaluations=2", f"run={tmp_path}"]
    assert sweep.run(line) == 4
    runs = {m.name: m for m in overview.read(tmp_path).runs}
    assert runs["space.method=ties"].state == "finished"
    assert runs["space.method=slerp"].state == "failed"
    assert "exactly 2 parents" in runs["space.method=slerp"].error
    printed = capfd.readouterr()
    assert "1 of 2 runs finished" in printed.out and "exactly 2 parents" in printed.out
    assert "1 of 2 runs did not finish" in printed.err
    assert "exactly 2 parents" in (tmp_path / "sweep.md").read_text()


BAD = {
    "seed=1": "nothing is swept",
    "seed=1,2 seed=3": "nothing is swept",
    "seed=1,1": "equal values",
    "seed=1,'1',1": "equal values",
    "optimizer=uniform,cma": "unknown optimizer",
    "seed=1,2 budget.evaluation=5": "unknown setting 'budget.evaluation'",
    "hydra.job.num=1,2": "no setting of a run",
    "run=a,b seed=1,2": "wanted one path",
    "seed=interval(0,1)": "listed",
    "seed=1,2 hydra/launcher=submitit_loca": "hydra",
    "seed=1,2 hydra.launcher.nothing=3": "hydra",
    "seed=1,2 hydra/launcher=nowhere": "nowhere",
}


@pytest.mark.parametrize("given", BAD)
def test_a_bad_line_is_told_before_anything_runs(given, fixed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=BAD[given]):
        sweep.run([*fixed, "run=here", *given.split(" ")])
    assert not list(tmp_path.glob("**/journal.jsonl"))


def test_a_sweep_into_the_folder_of_a_run_is_refused(swept, two_by_two):
    with pytest.raises(ConfigError, match="is the folder of a run"):
        sweep.run([*two_by_two, f"run='{swept / 'optimizer=uniform,seed=1'}'"])


@pytest.mark.parametrize(
    ("launcher", "extra"), [("submitit_local", "sweep"), ("submitit_slurm", "sweep"), ("ray", "ray")]
)
def test_a_launcher_that_is_not_installed_names_its_extra(launcher, extra, two_by_two, tmp_path, monkeypatch):
    plugin = f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher"
    monkeypatch.setitem(sys.modules, plugin, None)  # as where it is absent
    with pytest.raises(ConfigError, match=rf"evomerge\[{extra}\]"):
        sweep.run([*two_by_two, f"run={tmp_path}", f"hydra/launcher={launcher}"])


# ---------------------------------------------------------------- launchers


@pytest.mark.slow
def test_a_preempted_job_of_submitit_is_requeued_and_goes_on_and_a_killed_run_leaves_the_others_done(
    swept, two, tmp_path, monkeypatch, in_this_process
):
    """USR2 is what Slurm sends before it takes the machine; submitit's local jobs requeue themselves just so."""
    monkeypatch.chdir(tmp_path)
    line = [*two, "hydra/launcher=submitit_local", "run=."]
    preempted, killed = (tmp_path / f"optimizer=uniform,seed={n}" for n in (1, 2))
    sweeping = start(line, stdout=subprocess.PIPE)
    first, doomed = halted(preempted, killed)
    os.kill(doomed, signal.SIGKILL)
    os.kill(psutil.Process(first).ppid(), signal.SIGUSR2)
    time.sleep(2)  # its job has told it to stop by then
    os.kill(first, signal.SIGCONT)
    sweeping.communicate(timeout=600)
    assert sweeping.returncode == 4
    runs = {m.name: m for m in overview.read(tmp_path).runs}
    assert runs[preempted.name].state == "finished" and writer(preempted) != first
    assert runs[killed.name].state == "failed" and "killed by SIGKILL" in runs[killed.name].error
    before = files(preempted)
    assert sweep.run([word for word in line if "launcher" not in word]) == 0
    assert canonical(tmp_path) == of_uniform(canonical(swept))
    assert files(preempted) == before
    command = json.loads((preempted / "command.json").read_text())
    assert command["cwd"] == str(tmp_path) and not [w for w in command["overrides"] if w.startswith("hydra")]


@pytest.mark.slow
def test_a_killed_sweep_of_submitit_takes_its_jobs_with_it_and_the_same_line_completes_it(swept, fixed, tmp_path):
    folder = tmp_path / "sweep"
    (folder / "optimizer=uniform,seed=1").parent.mkdir()
    done = shutil.copytree(swept / "optimizer=uniform,seed=1", folder / "optimizer=uniform,seed=1")
    before, other = files(done), folder / "optimizer=uniform,seed=2"
    line = [*fixed, "optimizer=choice(uniform)", "seed=1,2", "hydra/launcher=submitit_local", f"run={folder}"]
    in_background = DRIVER.replace("signal.default_int_handler", "signal.SIG_IGN")  # as `COMMAND &` in a script
    sweeping = start(line, in_background, stdout=subprocess.PIPE)
    (run,) = halted(other)
    sweeping.kill()
    sweeping.wait()
    time.sleep(2)
    os.kill(run, signal.SIGCONT)
    assert sweep.run(line) == 0  # at once: it waits until the job has noticed
    assert not alive(run) and writer(other) != run
    assert canonical(folder) == of_uniform(canonical(swept))
    assert files(done) == before


@pytest.mark.slow
def test_ray_runs_the_same_runs_on_loopback_only(swept, two, tmp_path):
    line = [*two, "hydra/launcher=ray", "hydra.launcher.ray.init.num_cpus=2", f"run={tmp_path}"]
    sweeping = start(line, stdout=subprocess.DEVNULL)
    heard = set()
    while sweeping.poll() is None:
        heard |= listening(sweeping.pid)
        time.sleep(0.5)
    sweeping.communicate()
    assert sweeping.returncode == 0
    assert canonical(tmp_path) == of_uniform(canonical(swept))
    assert heard and heard <= {"127.0.0.1", "::1"}


def listening(pid):
    """Addresses that a process and its descendants listen on."""
    found = set()
    with contextlib.suppress(psutil.Error):
        for process in (parent := psutil.Process(pid), *parent.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                found |= {
                    c.laddr.ip.removeprefix("::ffff:")
                    for c in process.net_connections("tcp")
                    if c.status == psutil.CONN_LISTEN
                }
    return found


def composed(*words):
    with hydra_session() as hydra:
        return launchers.compose(hydra, words, "/sweep", [])


@pytest.fixture
def login_node(tmp_path, monkeypatch):
    """A machine with Slurm's commands, of which sbatch keeps what it is given and refuses it."""
    for name, does in {"srun": "exit 1", "sbatch": f"cp $1 {tmp_path}/script; exit 1"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_the_slurm_example_submits_one_array_that_is_warned_in_time_and_requeued(two, login_node, capfd):
    more = ["hydra.launcher.partition=gpu", "hydra.launcher.additional_parameters.nice=100"]
    line = [*two, "hydra/launcher=slurm", *more, "hydra.launcher.setup=[module load cuda]", f"run={login_node / 's'}"]
    assert sweep.run(line) == 4
    assert "the launcher failed" in capfd.readouterr().err
    script = (login_node / "script").read_text().splitlines()
    options = {line.removeprefix("#SBATCH --") for line in script if line.startswith("#SBATCH")}
    assert {"array=0-1%2", "partition=gpu", "nice=100", "gpus-per-node=1", "time=240", "signal=USR2@120"} <= options
    assert {"nodes=1", "ntasks-per-node=1", "open-mode=append", "cpus-per-task=8", "mem=64GB"} <= options
    assert script.index("module load cuda") < next(n for n, line in enumerate(script) if line.startswith("srun"))
    assert composed("hydra/launcher=slurm").hydra.launcher.max_num_timeout == 100


UNFIT = {
    "hydra/launcher=slurm": "no Slurm here",
    "hydra/launcher=submitit_local hydra.launcher.tasks_per_node=2": "a run is one task",
    "hydra/launcher=ray hydra.launcher.ray.remote.num_gpus=4000": "num_gpus is 4000, and this machine has",
}


@pytest.mark.parametrize("given", UNFIT)
def test_what_this_machine_cannot_do_is_told_before_anything_starts(given, two, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=UNFIT[given]):
        sweep.run([*two, *given.split(" "), f"run={tmp_path / 's'}"])
    assert not (tmp_path / "s").exists()


def test_local_jobs_take_the_gpus_of_the_machine_in_turn(monkeypatch):
    job = Job("/sweep", ("seed",), (), "/", 5, gpus=("4", "5", "7"), gpus_each=2)
    assert [job._devices(n)["CUDA_VISIBLE_DEVICES"] for n in range(3)] == ["4,5", "7,4", "5,7"]
    assert Job("/sweep", ("seed",), (), "/", 5)._devices(1) == {}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    with hydra_session():
        cfg = composed("hydra/launcher=submitit_local", "hydra.launcher.gpus_per_node=1", "device=auto")
    made = sweep._job(cfg, Path("/sweep"), {"seed": ["seed=1"]}, (), 1)
    assert (made.gpus, made.gpus_each) == (("4", "5"), 1) and made.driver[0] == os.getpid()
    assert launchers.notes(cfg, 2) == [] and "queues them" in launchers.notes(cfg, 3)[0]


def test_local_searches_have_a_week_and_slurms_limits_are_told(login_node):
    assert composed("hydra/launcher=submitit_local").hydra.launcher.timeout_min == launchers.WEEK
    assert composed("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=60").hydra.launcher.timeout_min == 60
    plain, ours = composed("hydra/launcher=submitit_slurm"), composed("hydra/launcher=slurm")
    assert "stopped after 60 minutes" in launchers.notes(plain, 2)[0] and launchers.notes(ours, 2) == []
