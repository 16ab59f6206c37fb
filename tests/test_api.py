"""The Python API: what the commands do, as functions that return nouns, print nothing and raise EvomergeError."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import evomerge
from evomerge.errors import ConfigError, JournalError, MergeError
from evomerge.journal import rows
from evomerge.reports import read
from evomerge.types import Blend

SCRIPT = """\
import evomerge
from pathlib import Path

def best(folder: Path) -> tuple[str | None, float]:
    run: evomerge.Run = evomerge.search("seed=3", {"space.method": "ties", "space.parts": ["mlp"]}, run=folder)
    standing = run.report().standing(run.winner)
    mean = standing.mean("test") if standing else None
    return run.winner, mean.value if mean else 0.0

family: evomerge.Family = evomerge.open_family(["a", "b"], "base")
recipe: evomerge.Recipe = evomerge.open_run("runs/x").recipe()
path: Path = evomerge.merge(recipe, to="merged", family=family)
wrong: int = evomerge.open_run("x").winner
evomerge.search(run=3)
evomerge.serach()
"""

MYPY = """\
[mypy]
strict = true
follow_imports = silent
ignore_missing_imports = true
[mypy-torch.*,transformers.*,numpy.*,datasets.*,scipy.*]
follow_imports = skip
"""  # what evomerge itself is made of is left out: it takes a minute to read


@pytest.fixture(scope="module")
def settings(command) -> list[str]:
    """Quick settings on the tiny models."""
    kept = [word for word in command[1:] if not word.startswith(("control.", "finalists"))]
    return [*kept, "control=none", "finalists=1", "optimizer=uniform"]


@pytest.fixture(scope="module")
def run(settings, tmp_path_factory) -> evomerge.Run:
    folder = tmp_path_factory.mktemp("runs") / "it's a, run"
    return evomerge.search(*settings, {"budget.evaluations": 3, "space.method": "ties"}, run=folder)


# ---------------------------------------------------------------- the package


def test_importing_evomerge_costs_nothing_and_the_names_are_all_there():
    code = """if True:
        import sys
        import evomerge
        heavy = {"torch", "numpy", "hydra", "transformers"} & set(sys.modules)
        assert not heavy, heavy
        assert set(evomerge.__all__) <= set(dir(evomerge))
        assert all(hasattr(evomerge, name) for name in evomerge.__all__)
        assert not hasattr(evomerge, "no_such_name")
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_lazy_names_are_those_that_type_checkers_see():
    tree = ast.parse(Path(evomerge.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen | {"__version__"} == set(evomerge.__all__)


@pytest.mark.slow
def test_a_users_script_is_type_checked_strictly(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    assert (Path(evomerge.__file__).parent / "py.typed").is_file()
    (tmp_path / "mypy.ini").write_text(MYPY)
    line = [sys.executable, "-m", "mypy", "--cache-dir=.mypy", "script.py"]
    found = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
    errors = re.findall(r"script\.py:(\d+): error", found.stdout)
    wrong = [
        n for n, text in enumerate(SCRIPT.splitlines(), 1) if re.match("wrong|evomerge.search.run=3|.*serach", text)
    ]
    assert sorted({int(n) for n in errors}) == wrong, found.stdout


# ---------------------------------------------------------------- runs


def test_a_search_prints_nothing_and_a_repeated_one_adds_nothing(run, settings, capfd):
    before = (run.folder / "journal.jsonl").read_bytes()
    again = evomerge.search(*settings, {"budget.evaluations": 3, "space.method": "ties"}, run=run.folder)
    assert again == run and (run.folder / "journal.jsonl").read_bytes() == before
    assert capfd.readouterr() == ("", "")


def test_progress_is_shown_where_asked_and_watchers_are_told(settings, tmp_path, capfd):
    told = []
    evomerge.search(
        *settings,
        "budget.evaluations=2",
        run=tmp_path,
        progress=True,
        watch=lambda step, /, **facts: told.append((step, facts.get("name"))),
    )
    assert [name for step, name in told if step == "phase"] == ["references", "search", "selection", "test"]
    printed = capfd.readouterr()
    assert "search: 2 to evaluate" in printed.err and not printed.out


def test_a_run_answers_what_its_report_says(run):
    report = run.report()
    assert report == read.read(run.folder) == evomerge.report(run.folder)
    assert run.winner == report.winner and report.finished
    assert run.recipe().digest == next(s.digest for s in report.standings if s.id == run.winner)
    assert evomerge.open_run(str(run.folder)) == run


def test_resume_goes_on_with_the_settings_of_the_run_and_those_given(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    longer = evomerge.resume(run.folder, {"budget.evaluations": 4})
    assert longer.folder == run.folder and Path.cwd() == tmp_path
    assert sum(r["row"] == "evaluation" and r["phase"] == "search" for r in rows(run.folder)) == 4
    assert rows(run.folder)[0]["identity"]["space"]["method"] == "ties"


def test_a_run_that_is_interrupted_passes_the_interrupt_on_and_resumes(settings, tmp_path):
    def stop(step, /, **facts):
        if step == "evaluated":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evomerge.search(*settings, "budget.evaluations=3", run=tmp_path, watch=stop)
    assert evomerge.open_run(tmp_path).winner is None
    assert not evomerge.report(tmp_path).finished
    assert evomerge.resume(tmp_path).winner


# ---------------------------------------------------------------- models


def test_what_is_exported_and_what_its_recipe_merges_to_are_equal(run, tmp_path):
    assert run.export(tmp_path / "one") == tmp_path / "one"
    assert evomerge.merge(str(tmp_path / "one" / "recipe.yaml"), tmp_path / "two") == tmp_path / "two"
    assert_equal(tmp_path / "one", tmp_path / "two")


def test_a_recipe_made_by_hand_is_built_from_an_open_family(pico, tmp_path):
    family = evomerge.open_family([str(pico["a"]), str(pico["b"])], str(pico["base"]))
    pool = family.pool()
    whole = Blend("linear", {"weight": (1.0, 0.0), "normalize": True})
    sources = [tuple((p, stack, b) for p in range(2)) for stack, n in family.stacks.items() for b in range(n)]
    recipe = evomerge.Recipe(
        pool.digests, pool.base, tuple(evomerge.Slot(s, {"*": whole}) for s in sources), outer={"*": whole}
    )
    evomerge.merge(recipe, tmp_path / "same", family=family)
    assert_equal(tmp_path / "same", pico["a"])
    with pytest.raises(ConfigError, match="family="):
        evomerge.merge(recipe, tmp_path / "other")


def test_the_winner_scores_what_the_report_says(run, settings, tmp_path, capfd):
    run.export(tmp_path / "model")
    tasks = [word for word in settings if word.startswith(("task.", "device", "threads"))]
    found = evomerge.score(tmp_path / "model", *tasks)
    expected = run.report().standing(run.winner).scores["test"]
    assert {t: f["score"] for t, f in found.items()} == {t: pytest.approx(e.value) for t, e in expected.items()}


def assert_equal(one: Path, two: Path) -> None:
    tensors, others = (load_file(folder / "model.safetensors") for folder in (one, two))
    assert set(tensors) == set(others) and all(torch.equal(tensors[name], others[name]) for name in tensors)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda tmp: evomerge.search("space.metod=ties", run=tmp), ConfigError, "space.method"),
        (lambda tmp: evomerge.search({"optimizer": "cma"}, run=tmp), ConfigError, "unknown optimizer 'cma'"),
        (lambda tmp: evomerge.search("seed", run=tmp), ConfigError, "KEY=VALUE"),
        (lambda tmp: evomerge.search(3, run=tmp), ConfigError, "wanted 'KEY=VALUE'"),
        (lambda tmp: evomerge.score(tmp, "seed"), ConfigError, "KEY=VALUE"),
        (lambda tmp: evomerge.resume(tmp), JournalError, "no command.json"),
        (lambda tmp: evomerge.open_run(tmp), JournalError, "is not a run"),
        (lambda tmp: evomerge.report(tmp), JournalError, "is not a run"),
        (lambda tmp: evomerge.merge(tmp / "no.yaml", tmp / "x"), MergeError, "no.yaml"),
    ],
)
def test_errors_are_evomerges_own_and_say_what_to_do(call, error, words, tmp_path):
    with pytest.raises(evomerge.EvomergeError, match=re.escape(words)) as raised:
        call(tmp_path)
    assert raised.type is error
