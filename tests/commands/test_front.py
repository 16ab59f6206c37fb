"""evomerge front, and exports of what it shows, on tiny real models."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

import evomerge
from evomerge.cli import main
from evomerge.journal import rows
from evomerge.reports.read import read

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def tasks(command):
    return [word for word in command if word.startswith(("task.", "device", "threads"))]


@pytest.fixture(scope="module")
def run(command, tmp_path_factory):
    """A finished search of two goals, each of two tasks its own."""
    folder = tmp_path_factory.mktemp("runs") / "two goals"
    found = [*command, "objective=pareto", "optimizer=uniform", "budget.evaluations=16", f"run={folder}"]
    assert main(found) == 0
    return folder


def test_the_front_is_shown_with_choice_file_and_picture(run, tmp_path, capsys):
    line = ["front", str(run), "--prefer", "sums=3", "--prefer", "letters=0", "--json", str(tmp_path / "front.json")]
    assert main([*line, "--plot", str(tmp_path / "front.png")]) == 0
    told = " ".join(capsys.readouterr().out.split())
    found = json.loads((tmp_path / "front.json").read_text())
    best = max(found["front"], key=lambda i: found["scores"]["selection"][i][0][0])
    assert found["goals"] == ["sums", "letters"] and found["knee"] == read(run).winner
    assert found["scores"]["selection"][found["preferred"]][0] == found["scores"]["selection"][best][0]
    for words in (
        "Front: ",
        "posterior",
        "Hypervolume",
        "without the search",
        "Preferred with sums=3, letters=0",
        "--pick",
    ):
        assert words in told
    assert (tmp_path / "front.png").read_bytes().startswith(PNG)


def test_without_preferences_the_knee_is_offered(run, capsys):
    assert main(["front", str(run)]) == 0
    told = capsys.readouterr().out
    assert "--pick knee" in told and "Preferred" not in told


def test_a_run_of_one_goal_has_no_front_to_show(finished, capsys):
    assert main(["front", str(finished)]) == 2
    assert f"has one goal, so there is no front: its winner is {read(finished).winner}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("sums", "--prefer sums is not understood"),
        ("sums=x", "--prefer sums=x is not understood"),
        ("sums=-1", "--prefer sums=-1 is not understood"),
        ("sum=1", "unknown goal in --prefer 'sum'. Did you mean 'sums'"),
    ],
)
def test_a_preference_that_says_nothing_is_refused(run, word, message, capsys):
    assert main(["front", str(run), "--prefer", word]) == 2
    assert message in capsys.readouterr().err


# ---------------------------------------------------------------- exports


@pytest.mark.parametrize("wanted", ["knee", "best:letters", "average"])
def test_what_is_picked_scores_what_the_test_says(run, tasks, tmp_path, wanted, capsys):
    assert main(["export", str(run), "--pick", wanted, "--to", str(tmp_path)]) == 0
    ident = capsys.readouterr().out.split(" of ")[0]
    expected = read(run).standing(ident).scores["test"]
    found = evomerge.score(tmp_path, *tasks)
    assert {t: f["score"] for t, f in found.items()} == {t: pytest.approx(e.value) for t, e in expected.items()}


def unselected(run):
    """The row of a candidate of the search that is no finalist: its recipe is nowhere on file."""
    finalists = {s.id for s in read(run).standings}
    searched = [r for r in rows(run) if r["row"] == "evaluation" and r["phase"] == "search" and r["alias_of"] is None]
    return next(r for r in searched if f"search:{r['id']}" not in finalists)


def test_a_candidate_that_is_no_finalist_is_exported_as_it_was_scored(run, tasks, tmp_path):
    row = unselected(run)
    model = evomerge.open_run(run).export(tmp_path / "model", pick=f"search:{row['id']}")
    assert evomerge.open_run(run).recipe(f"search:{row['id']}").digest == row["recipe"]
    found = {task: f["score"] for task, f in evomerge.score(model, *tasks, split="search").items()}
    assert found == {task: pytest.approx(sum(v) / len(v)) for task, v in row["scores"].items()}
    assert f"candidate: search:{row['id']}" in (model / "README.md").read_text()


def test_a_candidate_of_the_control_and_a_finalist_by_id_are_what_the_recipe_merges_to(run, tmp_path):
    assert evomerge.open_run(run).front == read(run).front is not None
    for ident in ("control:1", "parent:" + read(run).standings[1].id.partition(":")[2]):
        out = evomerge.open_run(run).export(tmp_path / ident.replace(":", "_"), pick=ident)
        again = evomerge.merge(out / "recipe.yaml", tmp_path / f"{out.name} again")
        one, two = (load_file(folder / "model.safetensors") for folder in (out, again))
        assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("changed", ["seed=7", "space.groups=2"])
def test_a_genome_that_means_another_recipe_now_is_refused(run, tmp_path, changed, capsys):
    other = shutil.copytree(run, tmp_path / "other")
    started = json.loads((other / "command.json").read_text())
    started["overrides"].append(changed)  # as if this were the default now
    (other / "command.json").write_text(json.dumps(started))
    ident = f"search:{unselected(run)['id']}"
    assert main(["export", str(other), "--pick", ident, "--to", str(tmp_path / "out")]) == 3
    assert f"{ident} of" in (told := capsys.readouterr().err) and "that it was searched with" in told
    assert not (tmp_path / "out").exists()
