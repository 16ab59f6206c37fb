"""The checks on real tiny models: all is told that can be told, and one failure does not hide the next."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from evomerge import config
from evomerge.backends.api import Api
from evomerge.doctor import checks, parents
from evomerge.doctor.checks import examine
from evomerge.doctor.findings import Findings
from evomerge.engine import loops
from evomerge.memory.plan import Machine
from evomerge.models.family import open_family


def told(found, level=None):
    return [f"{f.topic}: {f.text}" for f in found.findings.all if level in (None, f.level)]


def examined(command, tmp_path, *more, **options):
    return examine(config.settings([*command[1:], f"run={tmp_path / 'run'}", *more]), **{"quick": True, **options})


def test_a_healthy_search_has_no_problem_and_nothing_is_written(command, tmp_path):
    found = examined(command, tmp_path, quick=False)
    assert found.findings.works and not (tmp_path / "run").exists()
    topics = [f.topic for f in found.findings.all]
    wanted = [
        "settings",
        "device",
        "compiler",
        "executor",
        "base",
        "parent",
        "shapes",
        "tokenizer",
        "space",
        "items",
        "memory",
        "disk",
        "time",
    ]
    assert list(dict.fromkeys(topics)) == wanted
    assert found.estimate.total.high > found.estimate.total.low > 0


def test_the_executor_and_its_workers_are_told_and_planned_for(command, tmp_path):
    alone = examined(command, tmp_path, "executor=local")
    assert "executor: local, 1 worker" in told(alone) and alone.memory.machine.workers == 1
    two = examined(command, tmp_path, "executor=processes", "executor.workers=2", "threads=1")
    assert "executor: processes, 2 workers" in told(two) and two.memory.machine.workers == 2
    assert [line for line in told(two) if "peak of all 2 workers" in line]


def test_more_gpus_than_there_are_is_a_problem_with_the_executor(command, tmp_path):
    found = examined(command, tmp_path, "executor=processes", "executor.devices=[0]")
    assert [p for p in told(found, "problem") if "executor.devices is [0]" in p]


def test_of_a_model_that_lies_on_a_server_no_memory_is_planned(command, tmp_path):
    found = examined(command, tmp_path)
    evaluator = replace(found.prepared.plan.evaluator, backend=Api(base_url="http://127.0.0.1:1/v1"))
    there = replace(found.prepared, plan=replace(found.prepared.plan, evaluator=evaluator))
    afar = checks.Examination(Findings(), there, found.family, found.tasks)
    checks._memory(None, None, afar)
    assert told(afar) == ["memory: the model lies on a server: nothing of it is held here"]
    assert afar.memory is None and afar.asked == found.asked


def test_quick_leaves_the_model_where_it_is(command, tmp_path):
    found = examined(command, tmp_path)
    assert found.estimate is None and found.memory.placement == "device"
    assert found.prepared.plan.evaluator.backend._lm is None


def test_each_parent_is_told_with_its_digest_dtype_and_size(command, tmp_path, pico):
    found = examined(command, tmp_path)
    family = found.family
    lines = [f for f in told(found) if f.startswith(("base", "parent"))]
    assert len(lines) == 3
    for line, one in zip(lines, family.all, strict=True):
        assert one.digest in line and str(one.folder) in line and "float32" in line and "kB" in line


def test_two_things_that_are_wrong_are_both_told(command, tmp_path, pico):
    broken = shutil.copytree(pico["a"], tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"nothing")
    found = examined(command, tmp_path, f"parents.models=[{broken}]", "task.names=[sumz]")
    problems = told(found, "problem")
    assert len(problems) == 2 and not found.findings.works
    assert "corrupt" in problems[0] and "sumz" in problems[1]


def test_parents_are_told_even_where_the_settings_are_wrong(command, tmp_path):
    found = examined(command, tmp_path, "space.method=tiez")
    assert [p for p in told(found, "problem") if "tiez" in p]
    assert [line for line in told(found) if line.startswith("base: ")]
    assert found.memory is not None, "the plain average stands in for a candidate"


def test_a_missing_compiler_is_told_with_what_to_install_unless_none_is_wanted(command, tmp_path, monkeypatch):
    monkeypatch.setattr(loops, "possible", lambda device: False)
    assert [n for n in told(examined(command, tmp_path), "note") if n.startswith("compiler: none for cpu")]
    assert not [n for n in told(examined(command, tmp_path, "merge.compile=false"), "note") if "compiler" in n]


def test_parents_wanted_where_they_do_not_fit_are_a_problem(command, tmp_path):
    peak = examined(command, tmp_path, machine=Machine(10**12, 10**12)).memory
    machine = Machine(int(min(peak.resident_peak, peak.streamed_peak + 1000) / 0.95), 10**6)
    [problem] = told(examined(command, tmp_path, "merge.residency=host", machine=Machine(10**12, 10**6)), "problem")
    assert "host memory while it is loaded" in problem
    small = replace(machine, host=10**12)
    [problem] = told(examined(command, tmp_path, "merge.residency=device", machine=small), "problem")
    assert problem.startswith("memory: merge.residency=device cannot be")


def test_the_same_problem_is_told_once(command, tmp_path):
    found = examined(command, tmp_path, "device=cuda:99")
    assert len([p for p in told(found, "problem") if "cuda:99" in p]) == 1


def test_a_search_that_does_not_fit_is_a_problem(command, tmp_path):
    found = examined(command, tmp_path, machine=Machine(10**5, 10**12))
    [problem] = told(found, "problem")
    assert problem.startswith("memory: 100 kB are free on the device")


def test_parents_that_must_be_copied_are_a_note(command, tmp_path):
    peak = examined(command, tmp_path).memory
    between = (peak.streamed_peak + peak.resident_peak) // 2
    found = examined(command, tmp_path, machine=Machine(int(between / 0.95), 10**12))
    assert found.findings.works
    assert [n for n in told(found, "note") if n.startswith("memory: parents stay in the host's memory")]


def test_few_items_and_a_single_split_are_notes(command, tmp_path, task_folder):
    folder = shutil.copytree(task_folder, tmp_path / "tasks")
    path = folder / "sums.yaml"
    path.write_text(path.read_text().replace("test_split: test\n", ""))
    found = examined(command, tmp_path, f"task.include_path={folder}")
    notes = told(found, "note")
    assert [n for n in notes if "one split only" in n and "sums" in n]
    assert [n for n in notes if "on 12 search items of letters" in n and "more than 30 would be better" in n]


def test_more_variables_than_the_budget_serves_are_a_note(command, tmp_path):
    found = examined(command, tmp_path, "budget.evaluations=10", "optimizer=cma_es")
    assert [n for n in told(found, "note") if n.startswith("space: ") and "many for 10 evaluations" in n]


def test_tokenizers_that_differ_are_a_note(pico, tmp_path):
    other = shutil.copytree(pico["b"], tmp_path / "other")
    path = other / "tokenizer.json"
    words = json.loads(path.read_text())
    vocabulary = words["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(words))
    family = open_family([str(pico["a"]), str(pico["b"])], str(pico["base"]))
    assert parents.vocabularies(family).level == "ok"
    object.__setattr__(family.parents[1], "folder", other)
    found = parents.vocabularies(family)
    assert found.level == "note" and str(pico["b"]) in found.text


def test_a_hub_id_that_is_not_here_is_told_and_not_fetched(command, tmp_path):
    found = examined(command, tmp_path, "parents.models=[somebody/some-model-of-7b]")
    [problem] = told(found, "problem")
    assert problem.startswith("download: somebody/some-model-of-7b is not on this machine")
    assert "hf download somebody/some-model-of-7b" in problem


def test_an_export_that_does_not_fit_the_disk_is_a_note(tmp_path):
    assert parents.disk(tmp_path / "not" / "there", 10**18).level == "note"
    assert parents.disk(tmp_path / "not" / "there", 10).level == "ok"


def test_findings_are_heard_as_they_are_made(command, tmp_path):
    heard = []
    found = examined(command, tmp_path, findings=Findings(heard.append))
    assert heard == found.findings.all and len(heard) > 8


@pytest.mark.parametrize("setting", ["backend.batch_size=1", "backend.max_length=4"])
def test_a_smaller_load_is_planned_smaller(command, tmp_path, setting):
    assert examined(command, tmp_path, setting).memory.evaluator < examined(command, tmp_path).memory.evaluator


def test_what_the_report_would_remark_is_told_before(command, tmp_path, pico):
    other = shutil.copytree(pico["b"], tmp_path / "other")
    (other / "chat_template.jinja").write_text("{{ messages[0].content }}")
    found = examined(command, tmp_path, f"parents.models=[{pico['a']},{other}]")
    remarks = [r for r in found.prepared.notes if r not in {n for t in found.tasks for n in t.notes}]
    assert remarks and [f"run: {r}" for r in remarks] == [n for n in told(found, "note") if n.startswith("run: ")]
