"""A folder of runs in one table: states, scores against rivals, spread over seeds; whatever state its runs are in."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from rich.console import Console

from evomerge.journal import Journal
from evomerge.reports import sweep, sweep_grids
from evomerge.reports.read import read as read_run
from tests.reports.made_runs import IDENTITY, cut_after, listed, run_as

FOUND = {"seed=1,space=a": 1.25, "seed=2,space=a": 1.75, "seed=1,space=b": 1.5}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Three finished runs whose winners score what FOUND says; the parent scores 1, the average 0.5, control 1.125."""
    folder = tmp_path_factory.mktemp("sweep")
    for name, best in FOUND.items():
        run_as(folder / name, IDENTITY, **listed([0.3, best], control=[1.125]))
    return folder


@pytest.fixture
def mixed(finished, tmp_path):
    """Beside the finished runs: one cut short, one that failed before its journal, one damaged, one stray folder."""
    folder = shutil.copytree(finished, tmp_path / "mixed")
    cut_after(finished / "seed=1,space=a", 5, folder / "seed=3,space=a")
    (folder / "seed=4,space=a").mkdir()
    (folder / "seed=4,space=a" / sweep.FAILURE).write_text("no such parent\n\nTraceback ...\n")
    (folder / "seed=5,space=a").mkdir()
    (folder / "seed=5,space=a" / "journal.jsonl").write_text("nonsense\n")
    (folder / ".submitit").mkdir()
    return folder


def shown(overview, width=200):
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    sweep_grids.show(overview, console)
    return console.export_text()


def test_a_folder_of_runs_is_a_sweep_and_a_run_is_none(finished, tmp_path):
    assert sweep.is_sweep(finished)
    assert not sweep.is_sweep(finished / "seed=1,space=a")
    assert not sweep.is_sweep(tmp_path) and not sweep.is_sweep(tmp_path / "nowhere")


def test_runs_stand_in_the_order_of_their_names_with_their_winners_and_rivals(finished):
    runs = sweep.read(finished).runs
    assert [run.name for run in runs] == sorted(FOUND)
    for run in runs:
        assert run.state == "finished" and run.evaluations == 2 and run.winner == "candidate 1"
        assert {name: e.value for name, e in run.test.items()} == {
            "winner": FOUND[run.name],
            "control": 1.125,
            "average": 0.5,
            "best parent": 1.0,
            "best rival": 1.125,
        }
        assert run.gains["best rival"] == run.gains["control"]
        assert run.gains["average"].value == FOUND[run.name] - 0.5
        assert run.verdict == read_run(finished / run.name).verdict


def test_settings_are_read_back_from_the_names(finished):
    assert sweep.read(finished).runs[0].settings == {"seed": "1", "space": "a"}


def test_seeds_are_gathered_over_finished_runs_of_equal_settings(mixed):
    spreads = {s.settings["space"]: s for s in sweep.read(mixed).spreads}
    assert (spreads["a"].runs, spreads["a"].low, spreads["a"].high) == (2, 1.25, 1.75)
    assert spreads["a"].mean == 1.5 and spreads["a"].sd == pytest.approx(0.125**0.5)
    assert spreads["a"].gain == 1.5 - 1.125 and spreads["b"].sd is None
    assert (spreads["b"].runs, spreads["b"].mean) == (1, 1.5)


def test_a_run_that_is_being_extended_is_not_gathered(mixed):
    going = shutil.copytree(mixed / "seed=2,space=a", mixed / "seed=6,space=a")
    with (going / "journal.jsonl").open("a") as journal:
        journal.write(json.dumps({"row": "stop", "phase": "search", "reason": "evaluations"}) + "\n")
    overview = sweep.read(mixed)
    extended = next(run for run in overview.runs if run.name == going.name)
    assert (extended.state, extended.phase) == ("interrupted", "search")
    assert next(s.runs for s in overview.spreads if s.settings["space"] == "a") == 2


def test_without_swept_seeds_there_is_no_spread(finished, tmp_path):
    shutil.copytree(finished / "seed=1,space=a", tmp_path / "s" / "space=a")
    assert sweep.read(tmp_path / "s").spreads == ()


def test_each_state_is_named(mixed):
    runs = {run.name: run for run in sweep.read(mixed, ["seed=1,space=a", "seed=9,space=a"]).runs}
    assert {run.state for name, run in runs.items() if name in FOUND} == {"finished"}
    assert runs["seed=3,space=a"].state == "interrupted" and runs["seed=3,space=a"].winner is None
    assert runs["seed=4,space=a"].state == "failed" and runs["seed=4,space=a"].error.startswith("no such parent")
    assert runs["seed=5,space=a"].state == "failed" and "damaged at line 1" in runs["seed=5,space=a"].error
    assert runs["seed=9,space=a"].state == "not started"
    assert len(runs) == 7


def test_a_run_whose_journal_is_open_for_writing_is_running(mixed):
    going = mixed / "seed=3,space=a"
    journal = Journal(going)
    try:
        assert sweep.held(going) and not sweep.held(mixed / "seed=1,space=a")
        found = {run.name: (run.state, run.phase) for run in sweep.read(mixed).runs}
    finally:
        journal.close()
    assert found["seed=3,space=a"] == ("running", "search") and not sweep.held(going)


def test_wall_time_is_that_of_all_processes_without_the_pauses(mixed):
    events = [
        {"event": "attempt", "time": t, "pid": p} for t, p in ((100, 1), (160, 1), (5000, 2), (5005, 2), (7000, 3))
    ]
    folder = mixed / "seed=3,space=a"
    (folder / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    assert next(run.seconds for run in sweep.read(mixed).runs if run.name == folder.name) == 65
    assert sweep_grids.duration(65) == "0:01:05" and sweep_grids.duration(90061.4) == "25:01:01"


def test_a_failure_counts_until_the_run_goes_on(mixed):
    going = mixed / "seed=3,space=a"
    (going / sweep.FAILURE).write_text("disk full")
    os.utime(going / "journal.jsonl", (1, 1))
    assert {r.name: (r.state, r.error) for r in sweep.read(mixed).runs}["seed=3,space=a"] == ("failed", "disk full")
    os.utime(going / sweep.FAILURE, (0, 0))
    assert {r.name: (r.state, r.error) for r in sweep.read(mixed).runs}["seed=3,space=a"] == ("interrupted", "")


def test_json_is_plain_and_whole(mixed):
    data = json.loads(json.dumps(sweep.as_json(sweep.read(mixed)), allow_nan=False))
    assert [run["name"] for run in data["runs"]] == sorted(run["name"] for run in data["runs"])
    assert data["runs"][0]["gains"]["control"]["low"] == 0.125
    assert {"mean", "sd", "low", "high", "gain", "seconds", "runs", "settings"} == set(data["spreads"][0])


def test_terminal_and_markdown_say_the_same(mixed):
    overview = sweep.read(mixed)
    terminal, text = shown(overview), sweep_grids.markdown(overview)
    for words in ("3 of 6 runs finished", "seed=2,space=a", "1.750 ± 0.000", "+0.625 [0.625, 0.625]", "no such parent"):
        assert words in terminal and words in text
    assert "Traceback" not in terminal + text
    assert "space a" in text and "| 1.500 |" in text


def test_a_terminal_of_140_columns_folds_no_number(finished):
    shown_narrow = shown(sweep.read(finished), 140)
    assert "1.750 ± 0.000" in shown_narrow and "+0.625 [0.625, 0.625]" in shown_narrow
