"""`evomerge calibrate` as a user types it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.backends.hf import HFBackend
from evomerge.calibration.responses import load
from evomerge.cli import main
from evomerge.journal import events, rows
from evomerge.tasks import harness


@pytest.fixture
def line(command: list[str], tmp_path: Path) -> list[str]:
    """`evomerge calibrate` on the tiny models and tasks, into answers.npz."""
    settings = [word for word in command[1:] if not word.startswith(("control", "finalists"))]
    return ["calibrate", *settings, "--to", str(tmp_path / "answers.npz")]


def test_references_and_designs_are_asked_once_and_shown(line, tmp_path, capsys):
    assert main([*line, "--designs", "1"]) == 0
    told = capsys.readouterr()
    table = [row.split() for row in told.out.splitlines()]
    assert ["model", "task", "metric", "score", "items", "seconds"] in table
    assert [row[0] for row in table if row[1:2] == ["sums"]] == ["base", "parent:a", "parent:b", "average", "design:0"]
    assert told.err.count("asked ") == 5 and "calibration.use=[" in told.out and "calibration.designs=1" in told.out
    before = (tmp_path / "answers.npz").read_bytes()
    answers = load(tmp_path / "answers.npz")
    assert answers.values.shape == (5, len(answers.items)) and np.isfinite(answers.values).all()

    assert main([*line, "--designs", "2"]) == 0
    told = capsys.readouterr()
    assert [row for row in told.err.splitlines() if row.startswith("asked")] == ["asked design:1"]
    assert told.out.count("on file") == 5
    after = load(tmp_path / "answers.npz")
    assert after.rows(range(5)).values.tobytes() == answers.values.tobytes() and len(after.models) == 6
    assert main([*line, "--designs", "1"]) == 0
    assert (tmp_path / "answers.npz").read_bytes() != before and "asked" not in capsys.readouterr().err


def test_scores_are_those_of_the_checkpoints_themselves(line, pico, task_folder, capsys):
    assert main(line) == 0
    cells, model = {}, ""
    for row in capsys.readouterr().out.splitlines():
        words = row.split()
        model = words.pop(0) if words and not row.startswith(" ") else model
        cells |= {(model, words[0]): words[2]} if len(words) > 2 else {}
    for name in ("base", "a"):
        live = AutoModelForCausalLM.from_pretrained(pico[name])
        backend = HFBackend(batch_size=32).wrap(live, AutoTokenizer.from_pretrained(pico[name]))
        for task in harness.load(["sums", "letters"], task_folder):
            expected = task.report(task.score(backend, task.items["search"]))
            assert cells[name if name == "base" else f"parent:{name}", task.name] == f"{expected:.4f}"


def test_a_leaderboard_joins_the_file(line, tmp_path, capsys):
    assert main(line) == 0
    items = ["/".join(item) for item in load(tmp_path / "answers.npz").items]
    board = tmp_path / "board.csv"
    board.write_text(f"model,{','.join(items[:-1])}\nm{',1' * (len(items) - 1)}\nn{',0' * (len(items) - 1)}\n")
    assert main([*line, "--import", str(board)]) == 0
    told = capsys.readouterr().out
    assert "imported 2 models: 12 items of sums, 11 items of letters" in told
    assert "11 of 12 search items of letters are in it" in told
    answers = load(tmp_path / "answers.npz")
    assert answers.models[-2:] == ("m", "n") and answers.kinds[-2:] == ("other", "other")
    assert np.isnan(answers.values[-2:, -1]).all() and (answers.values[-2, :-1] == 1).all()


def test_a_search_with_its_references_on_file_has_the_same_journal_and_asks_none_of_them(line, command, tmp_path):
    assert main([*line, "optimizer=uniform", "--designs", "1"]) == 0
    settings = [word for word in command[1:] if not word.startswith("control")]
    search = ["search", *settings, "optimizer=uniform", "control=none", "budget.evaluations=2", "calibration.designs=1"]
    assert main([*search, "calibration.cache=false", f"run={tmp_path / 'cold'}"]) == 0
    assert main([*search, f"calibration.use=[{tmp_path / 'answers.npz'}]", f"run={tmp_path / 'warm'}"]) == 0
    cold, warm = (sorted(map(repr, rows(tmp_path / name))) for name in ("cold", "warm"))
    assert cold == warm
    asked = {name: _asked_references(tmp_path / name) for name in ("cold", "warm")}
    assert asked == {"cold": 5, "warm": 0}


def _asked_references(run: Path) -> int:
    return sum(e["event"] == "attempt" and e["phase"] == "references" for e in events(run))


def test_a_killed_calibration_goes_on_where_it_was(line, tmp_path, capsys):
    path, whole = tmp_path / "answers.npz", tmp_path / "whole.npz"
    child = subprocess.Popen([sys.executable, "-m", "evomerge.cli", *line], env={**os.environ, "OMP_NUM_THREADS": "1"})
    while child.poll() is None and not (path.is_file() and load(path).models):
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    kept = load(path).models
    assert kept
    assert main(line) == 0
    assert capsys.readouterr().err.count("asked ") == 4 - len(kept)
    assert main([*line[:-1], str(whole)]) == 0
    assert whole.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--to is None; wanted the file for the answers: --to FILE.npz"),
        (["--to", "answers.csv"], "--to is answers.csv; wanted"),
        (["--to", "a.npz", "--designs", "-1"], "--designs is -1; wanted 0 or more"),
        (["--to", "a.npz", "--desing", "1"], "'--desing' is not understood"),
        (["--to", "a.npz", "nothing"], "'nothing' is not understood"),
    ],
)
def test_a_bad_line_is_refused(options, message, capsys):
    assert main(["calibrate", *options]) == 2
    assert message in capsys.readouterr().err


def test_other_settings_and_missing_imports_are_refused_before_anything_is_asked(line, tmp_path, capsys):
    assert main([*line, "--import", str(tmp_path / "none.csv")]) == 2
    assert "none.csv" in capsys.readouterr().err and not (tmp_path / "answers.npz").exists()
    assert main(line) == 0
    before = (tmp_path / "answers.npz").read_bytes()
    assert main([*line, "backend.batch_size=3"]) == 2
    told = capsys.readouterr().err
    assert "holds answers to other settings: backend.batch_size was 32, now 3" in told
    assert (tmp_path / "answers.npz").read_bytes() == before


def test_help_shows_options_and_examples(capsys):
    assert main(["calibrate", "--help"]) == 0
    told = capsys.readouterr().out
    for word in ("--to FILE.npz", "--designs N", "--import FILE", "TASK/ITEM", "examples", "calibration.use"):
        assert word in told
    assert main(["--help"]) == 0
    assert "calibrate" in capsys.readouterr().out
