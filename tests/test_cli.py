"""The commands as a user types them, on tiny real models."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from evomerge import build, config, ingredients
from evomerge.cli import main
from evomerge.journal import rows
from evomerge.models import blank
from evomerge.picks import pick


def evaluations(folder, phase="search"):
    return sorted(repr(r) for r in rows(folder) if r["row"] == "evaluation" and r["phase"] == phase)


def test_a_finished_run_has_its_files(finished):
    assert {"journal.jsonl", "events.jsonl", "report.md", "command.json"} <= {p.name for p in finished.iterdir()}
    assert len(evaluations(finished)) == 9
    assert [r["phase"] for r in rows(finished) if r["row"] == "stop"] == ["search", "control", "selection", "test"]


def test_the_same_command_again_adds_nothing(command, finished):
    before = (finished / "journal.jsonl").read_bytes()
    assert main([*command, "space.method=ties", "optimizer=cma_es", "budget.evaluations=9", f"run={finished}"]) == 0
    assert (finished / "journal.jsonl").read_bytes() == before


def test_resume_with_a_larger_budget_extends_to_what_the_larger_run_had(command, finished, tmp_path):
    short = shutil.copytree(finished, tmp_path / "short")
    assert main(["resume", str(short), "budget.evaluations=12"]) == 0
    long = [*command, "space.method=ties", "optimizer=cma_es", "budget.evaluations=12", f"run={tmp_path / 'long'}"]
    assert main(long) == 0
    assert evaluations(short) == evaluations(tmp_path / "long")


def test_a_run_started_with_relative_paths_resumes_and_exports_from_elsewhere(command, pico, tmp_path, monkeypatch):
    monkeypatch.chdir(pico["base"].parent)
    kept = [word for word in command if not word.startswith("parents.")]
    assert main([*kept, "parents.base=base", "parents.models=[a,b]", "budget.evaluations=3", "run=here"]) == 0
    run = pico["base"].parent / "here"
    monkeypatch.chdir(tmp_path)
    assert main(["resume", str(run), "budget.evaluations=4"]) == 0
    assert len(evaluations(run)) == 4
    assert main(["export", str(run), "--to", "out"]) == 0
    assert main(["merge", "out/recipe.yaml", "--to", "again"]) == 0


def test_report_prints_json_without_nan(finished, capsys):
    assert main(["report", str(finished), "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda c: pytest.fail(f"{c} in JSON"))
    assert found["winner"]


def test_the_export_is_the_winner_bit_for_bit(finished, tmp_path):
    assert main(["export", str(finished), "--to", str(tmp_path / "out")]) == 0
    saved = load_file(tmp_path / "out" / "model.safetensors")
    recipe, _ = pick(finished)
    family = ingredients.open_parents(config.settings(json.loads((finished / "command.json").read_text())["overrides"]))
    model, _ = blank.live_model(family.base_folder, torch.device("cpu"), recipe.out_dtype)
    live = blank.targets(model, family.model.files)
    build.write(recipe, family, live)
    assert set(live) <= set(saved)
    assert all(torch.equal(saved[name], live[name]) for name in live)


def test_an_export_is_built_on_the_device_of_the_search(finished, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(blank, "pick_device", lambda name: asked.append(name) or torch.device("cpu"))
    assert main(["export", str(finished), "--to", str(tmp_path / "out")]) == 0
    assert main(["export", str(finished), "--to", str(tmp_path / "other"), "--device", "mps"]) == 0
    assert asked == [rows(finished)[0]["identity"]["device"], "mps"]


def test_the_export_loads_in_transformers_and_everyone_can_read_it(finished, tmp_path):
    out = tmp_path / "out"
    main(["export", str(finished), "--to", str(out)])
    model = AutoModelForCausalLM.from_pretrained(out)
    assert torch.isfinite(model(torch.tensor([[1, 2, 3]])).logits).all()
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in out.iterdir())
    assert {"config.json", "tokenizer.json", "README.md", "recipe.yaml"} <= {p.name for p in out.iterdir()}


def test_merge_builds_the_exported_recipe_again(finished, tmp_path):
    main(["export", str(finished), "--to", str(tmp_path / "out")])
    assert main(["merge", str(tmp_path / "out" / "recipe.yaml"), "--to", str(tmp_path / "again")]) == 0
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "again"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_exported_model_and_its_recipe_score_what_the_journal_says(finished, command, tmp_path, capsys):
    main(["export", str(finished), "--to", str(tmp_path / "out")])
    tasks = [c for c in command if c.startswith("task.")]
    stop = [r for r in rows(finished) if r["row"] == "stop" and r["phase"] == "selection"][-1]
    row = next(r for r in rows(finished) if r.get("phase") == "test" and r.get("id") == stop["winner"])
    for model in (tmp_path / "out", tmp_path / "out" / "recipe.yaml"):
        capsys.readouterr()
        assert main(["score", str(model), *tasks, "--json", "device=cpu"]) == 0
        scores = json.loads(capsys.readouterr().out)
        assert {t: s["score"] for t, s in scores.items()} == {
            t: pytest.approx(sum(v) / len(v)) for t, v in row["scores"].items()
        }


def test_force_starts_a_new_lineage_from_the_old_winner(command, finished, tmp_path, capsys):
    folder = shutil.copytree(finished, tmp_path / "forced")
    changed = [*command, "space.method=ties", "budget.evaluations=8", f"run={folder}", "seed=9"]
    assert main(changed) == 3
    assert "seed was 1, now 9" in capsys.readouterr().err
    assert main([*changed, "--force"]) == 0
    assert (folder / "journal.1.jsonl").read_bytes() == (finished / "journal.jsonl").read_bytes()
    warm = rows(folder)[0]["identity"]["warm_start"]
    assert warm["recipes"] == [pick(finished)[0].digest]
    assert main(changed) == 0


@pytest.mark.parametrize("method", ["linear", "dare_ties", "slerp"])
def test_other_methods_and_optimizers_run_too(command, tmp_path, method):
    optimizer = "uniform" if method == "slerp" else "cma_es"
    kept = [c for c in command if not c.startswith("control.")]
    more = [f"space.method={method}", f"optimizer={optimizer}", "budget.evaluations=3", "control=none", "subset=random"]
    assert main([*kept, *more, "space.groups=2", "subset.n=10", f"run={tmp_path}"]) == 0
    assert len(evaluations(tmp_path)) == 3


def test_help_comes_without_torch_in_under_two_seconds():
    code = "import sys; from evomerge.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    began = time.monotonic()
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0 and "searching" in found.stdout
    assert time.monotonic() - began < 10  # under two seconds on a quiet machine; the import is what is tested


@pytest.mark.parametrize("name", ["search", "resume", "report", "export", "merge", "score", "list"])
def test_every_command_has_help_with_an_example(name, capsys):
    try:
        assert main([name, "--help"]) == 0
    except SystemExit as e:  # argparse ends the process itself
        assert e.code == 0
    assert f"evomerge {name} " in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["methods", "optimizers", "objectives", "subset", "settings"])
def test_list_names_what_can_be_chosen(kind, capsys):
    assert main(["list", kind]) == 0
    assert len(capsys.readouterr().out.splitlines()) >= 2


def wait_for_rows(path, n, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.is_file() and path.read_bytes().count(b"\n") >= n:
            return
        time.sleep(0.02)
    pytest.fail(f"{path} did not get {n} rows in {seconds} s")


@pytest.mark.slow
def test_killed_at_random_moments_it_resumes_to_the_same_journal(command, finished, tmp_path):
    words = ["space.method=ties", "optimizer=cma_es", "budget.evaluations=9"]
    line = [sys.executable, "-m", "evomerge.cli", *command, *words]
    for n in (2, 6, 9, 15, 22):
        folder = tmp_path / str(n)
        child = subprocess.Popen([*line, f"run={folder}"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_for_rows(folder / "journal.jsonl", n)
        child.kill()
        child.wait()
        assert main([*line[3:], f"run={folder}"]) == 0
        assert sorted(map(repr, rows(folder))) == sorted(map(repr, rows(finished)))
