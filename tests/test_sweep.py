"""Sweeps: folders named by what was swept, resumed by the same line, extended by a larger one, whole if one fails."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

from evomerge import api, sweep
from evomerge.errors import ConfigError
from evomerge.journal import rows
from evomerge.reports import sweep as overview

NAMES = {f"optimizer={o},seed={s}" for o in ("cma_es", "uniform") for s in (1, 2)}
#: Tests that are run in the background inherit an ignored SIGINT: the sweep must hear it all the same.
DRIVER = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from evomerge import sweep
sys.exit(sweep.run(sys.argv[1:]))
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


def wait_for(path, n, seconds=90):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.is_file() and path.read_bytes().count(b"\n") >= n:
            return
        time.sleep(0.02)
    pytest.fail(f"{path} did not get {n} rows in {seconds} s")


def start(words, **how):
    return subprocess.Popen([sys.executable, "-c", DRIVER, *words], stderr=subprocess.PIPE, text=True, **how)


# ---------------------------------------------------------------- folders


def test_each_combination_is_a_run_named_by_what_was_swept(swept):
    assert set(journals(swept)) == NAMES
    assert all((swept / name / "report.md").is_file() for name in NAMES)
    assert {m.state for m in overview.read(swept).runs} == {"finished"}


def test_a_run_is_what_a_plain_search_of_its_settings_is(swept, fixed, tmp_path):
    api.search(*fixed, "optimizer=uniform", "seed=2", run=tmp_path)
    assert sorted(map(repr, rows(tmp_path))) == canonical(swept)["optimizer=uniform,seed=2"]


def test_the_same_line_again_in_any_order_of_its_keys_adds_nothing(swept, two_by_two, capfd):
    before = journals(swept)
    assert sweep.run([f"run={swept}", *reversed(two_by_two)]) == 0
    assert journals(swept) == before
    assert "4 of 4 runs finished" in capfd.readouterr().out


def test_a_larger_sweep_extends_its_runs_and_adds_new_ones(swept, fixed, tmp_path):
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


def test_values_with_slashes_and_commas_have_legal_folders_and_run(fixed, tmp_path):
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
    fixed, task_folder, tmp_path, monkeypatch
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
def test_a_killed_sweep_goes_on_by_the_same_line_to_the_same_journals(swept, two, tmp_path):
    line = [*two, f"run={tmp_path}"]
    child = start(line)
    wait_for(tmp_path / "optimizer=uniform,seed=2" / "journal.jsonl", 7)
    child.kill()
    child.communicate()
    assert [m.state for m in overview.read(tmp_path).runs] != ["finished", "finished"]
    assert sweep.run(line) == 0
    assert canonical(tmp_path) == of_uniform(canonical(swept))


@pytest.mark.slow
def test_ctrl_c_stops_the_sweep_and_prints_the_line_that_resumes_it(swept, two, tmp_path):
    folder = tmp_path / "a sweep"
    child = start([*two, f"run={folder}"])
    wait_for(folder / "optimizer=uniform,seed=1" / "journal.jsonl", 7)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    again = shlex.split(next(line for line in err.splitlines() if "Resume with: " in line).partition("with: ")[2])
    assert again[:3] == ["evomerge", "search", "-m"]
    assert sweep.run(again[3:]) == 0
    assert canonical(folder) == of_uniform(canonical(swept))


def test_a_run_that_fails_leaves_the_others_done_and_is_told(fixed, pico, tmp_path, capfd):
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


def test_a_launcher_that_is_not_installed_names_its_extra(two_by_two, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "hydra_plugins.hydra_submitit_launcher", None)  # as where it is absent
    with pytest.raises(ConfigError, match=r"evomerge\[sweep\]"):
        sweep.run([*two_by_two, f"run={tmp_path}", "hydra/launcher=submitit_local"])


# ---------------------------------------------------------------- launchers


@pytest.mark.slow
def test_submitit_runs_the_same_runs_in_processes_of_their_own(swept, two, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sweep.run([*two, "hydra/launcher=submitit_local", "run=s"]) == 0
    expected = of_uniform(canonical(swept))
    assert canonical(tmp_path / "s") == expected
    pids = {json.loads((tmp_path / "s" / name / "writer.json").read_text())["pid"] for name in expected}
    assert len(pids) == 2 and os.getpid() not in pids
    command = json.loads((tmp_path / "s" / "optimizer=uniform,seed=1" / "command.json").read_text())
    assert command["cwd"] == str(tmp_path) and not [w for w in command["overrides"] if w.startswith("hydra")]


@pytest.mark.slow
def test_a_job_of_submitit_that_is_killed_leaves_the_others_done(swept, two, tmp_path):
    line = [*two, "hydra/launcher=submitit_local", f"run={tmp_path}"]
    child = start(line, stdout=subprocess.PIPE)
    victim = tmp_path / "optimizer=uniform,seed=1"
    wait_for(victim / "journal.jsonl", 3)
    os.kill(json.loads((victim / "writer.json").read_text())["pid"], signal.SIGKILL)
    child.communicate(timeout=120)
    assert child.returncode == 4
    states = {m.name: m.state for m in overview.read(tmp_path).runs}
    assert states["optimizer=uniform,seed=2"] == "finished" != states["optimizer=uniform,seed=1"]
    assert sweep.run([word for word in line if "launcher" not in word]) == 0
    assert canonical(tmp_path) == of_uniform(canonical(swept))
