"""README's commands run as they stand (with a smaller budget), its links and names exist."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from evomerge import config
from evomerge.cli import main
from evomerge.config import ZOO, choices
from evomerge.methods import METHODS
from evomerge.tasks.measures import KINDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = [block.replace("\\\n", " ") for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)]
LINES = [shlex.split(line, comments=True) for block in BLOCKS for line in block.strip().splitlines()]


def test_the_two_set_up_commands_are_there_and_executable():
    scripts = [ROOT / line[1] for line in LINES if line[0] == "bash"]
    assert [s.name for s in scripts] == ["demo.sh", "test.sh"]
    assert all(s.stat().st_mode & 0o100 for s in scripts)


@pytest.mark.slow
def test_the_commands_run_in_order(tmp_path, monkeypatch, pico, task_folder):
    monkeypatch.chdir(tmp_path)
    write_mergekit_files(pico)
    few = few_items(tmp_path / "few")
    Path("notes.txt").write_text("\n\n".join(f"{word} one two three.\n" * 110 for word in "abcdefgh"))
    stand_ins = {
        "TEXT": "notes.txt",
        "BASE": str(pico["base"]),
        "EXPERT_A,EXPERT_B": f"{pico['a']},{pico['b']}",
        "=TASKS": f"={task_folder}",
        "my_task": "sums",
        "space.groups=3": "space.groups=2",  # the stand-ins have two blocks
        "budget.evaluations=120": "budget.evaluations=4",
        "budget.evaluations=200": "budget.evaluations=3",
    }
    tiny = [f"parents.base={pico['base']}", f"parents.models=[{pico['a']},{pico['b']}]"]
    tiny += ["task.names=[sums]", f"task.include_path={task_folder}"]
    ran = 0
    for line in (line for line in LINES if line[0] == "evomerge"):
        more = tiny if "-m" in line else []  # six searches of the embedded zoo would take too long
        more = more or (few if asks_the_zoo(line) else [])
        assert main([*map(lambda word: swap(word, stand_ins), line[1:]), *more, *small(line)]) == 0, line
        ran += 1
    assert ran >= 14


def asks_the_zoo(line: list[str]) -> bool:
    """Whether a line asks the tasks of the embedded zoo: it names no other."""
    asking = line[1] in ("search", "calibrate", "score") and "--help" not in line
    return asking and not any("task." in word or "evolve" in word for word in line)


def few_items(folder: Path) -> list[str]:
    """The zoo's tasks with few of their items."""
    shutil.copytree(ZOO / "pico" / "tasks", folder)
    for path in folder.glob("data/*.jsonl"):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:50]))
    names = ",".join(sorted(path.stem for path in folder.glob("*.yaml")))
    return [f"task.include_path={folder}", f"task.names=[{names}]"]


def write_mergekit_files(pico: dict[str, Path]) -> None:
    models = [str(pico["a"]), str(pico["b"])]
    genome = {"models": models, "base_model": str(pico["base"]), "merge_method": "ties", "layer_granularity": 1}
    Path("EVOLVE.yml").write_text(yaml.safe_dump({"genome": genome, "tasks": [{"name": "sums", "weight": 1.0}]}))
    merge = {"models": [{"model": m, "parameters": {"weight": 0.5}} for m in models], "merge_method": "linear"}
    Path("MERGEKIT.yml").write_text(yaml.safe_dump({**merge, "dtype": "float32"}))


@pytest.mark.slow
def test_the_ten_lines_of_python_run_as_they_stand(tmp_path):
    (lines,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", lines], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "outputs/api-again/model.safetensors").is_file()
    assert len(done.stdout.splitlines()) == 5  # the verdict, and four tasks


def swap(word: str, stand_ins: dict[str, str]) -> str:
    for old, new in stand_ins.items():
        word = word.replace(old, new)
    return word


def small(line: list[str]) -> list[str]:
    """Settings that make a snippet quick without touching what it shows."""
    if line[1] != "search":
        return []
    quick = ["control=none", "finalists=1", "threads=1"]
    budget = [] if any(word.startswith("budget.") for word in line) else ["budget.evaluations=2"]
    return [*quick, *budget]


def test_links_to_files_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if not link.startswith("http")]
    assert links and all((ROOT / link).exists() for link in links)


SCALING = (ROOT / "docs" / "scaling.md").read_text().replace("\\\n", " ")
SCALED = [
    shlex.split(line, comments=True) for line in re.findall(r"^    (\S*evomerge (?:search|doctor) .*)$", SCALING, re.M)
]


@pytest.mark.parametrize("line", SCALED, ids=" ".join)
def test_the_settings_on_the_page_about_scale_are_settings(line):
    swept = {"seed=1,2,3"} | {word for word in line if word.startswith("hydra")}
    assert config.settings([word for word in line[2:] if "=" in word and word not in swept])


def row(name: str) -> set[str]:
    line = next(line for line in README.splitlines() if line.startswith(f"| {name} |"))
    return {m.strip() for m in line.split("|")[3].split(",")}


def test_the_table_of_methods_is_the_table_of_methods():
    assert row("method") == set(METHODS)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("space", "space"),
        ("optimizer", "optimizer"),
        ("preset", "experiment"),
        ("objective", "objective"),
        ("items", "subset"),
        ("estimator", "estimator"),
        ("early stopping", "race"),
        ("where candidates run", "executor"),
        ("how they answer", "backend"),
    ],
)
def test_the_table_names_every_member_of_a_group(name, group):
    assert row(name) == set(choices(group))


def test_the_table_names_every_kind_of_measure():
    assert row("measures, bounds") == set(KINDS)
