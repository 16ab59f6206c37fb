"""The terminal report: everything is there, within 100 columns, without colour."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from evomerge.reports.read import read
from evomerge.reports.table import show
from evomerge.types import Metric
from tests.reports.made_runs import IDENTITY, cut_after, level, listed, run_as
from tests.sphere import items, plan, recipe


def printed(report, width=100):
    out = StringIO()
    show(report, Console(file=out, width=width))
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 100])
def test_no_line_is_wider_than_the_console(whole, width):
    assert max(map(len, printed(read(whole), width).splitlines())) <= width


def test_a_pipe_gets_no_escape_codes(whole):
    assert "\x1b" not in printed(read(whole))


def test_verdict_tables_warnings_and_next_step_are_shown(whole):
    report = read(whole)
    text = printed(report)
    flat = " ".join(text.split())
    for part in (report.verdict, "Scores on test items", "minus its rivals", "Costs by phase", report.follow_on):
        assert part in flat
    assert all(warning in flat for warning in report.warnings)
    assert text.index(report.verdict) < text.index("Scores on test items")


def test_the_winner_is_marked_and_no_other(whole):
    marked = [line for line in printed(read(whole)).splitlines() if " * " in line[:30]]
    assert len(marked) == 1 and marked[0].startswith("optimizer mean *")


def test_scores_stand_in_their_rows(tmp_path):
    run_as(tmp_path, IDENTITY, **listed([1.25]))
    line = next(line for line in printed(read(tmp_path)).splitlines() if line.startswith("candidate 0"))
    assert line.split() == ["candidate", "0", "*", "1.250", "1.250", "1.250", "±", "0.000", "1.250", "1.250"]


def test_lower_is_better_scores_are_shown_as_people_know_them(tmp_path):
    identity = IDENTITY | {
        "tasks": [{"name": "alpha", "metric": {"name": "ppl", "higher_is_better": False, "kind": "mean"}}]
    }
    one = {split: {"alpha": items(split)["alpha"]} for split in ("search", "selection", "test")}
    run_as(tmp_path, identity, metrics={"alpha": Metric("ppl", False)}, items=one, **listed([0.25]))
    text = printed(read(tmp_path))
    line = next(line for line in text.splitlines() if line.startswith("parent a"))
    assert line.split()[2:4] == ["1.000", "-1.000"]
    assert "lower is" in text and "count with a minus" in text


def test_a_parents_name_with_brackets_is_printed_as_it_is(tmp_path):
    named = plan().references | {"parent:[red]x": recipe((0.2, 0.0, 0.0, 0.0))}
    run_as(tmp_path, IDENTITY, references=named, **listed([1.25]))
    assert "parent [red]x" in printed(read(tmp_path))


def test_many_tasks_take_several_tables_of_100_columns(tmp_path):
    tasks = [f"a_task_with_a_long_name_{i}" for i in range(9)]
    many = {
        split: {t: (f"{split}{t}",) * 1 + (f"{split}{t}2",) for t in tasks} for split in ("search", "selection", "test")
    }
    run_as(tmp_path, {"seed": 1}, metrics={t: Metric("acc", True) for t in tasks}, items=many, **listed([1.25]))
    text = printed(read(tmp_path))
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("Scores on test items") == 3


def test_an_unfinished_run_is_shown_at_every_row(tmp_path, whole):
    for k in range(0, 57, 3):
        text = printed(read(cut_after(whole, k, tmp_path / str(k))))
        assert "No verdict yet" in text and "same command again" in text


def test_search_scores_are_called_optimistic(tmp_path, whole):
    assert "optimistic" in printed(read(cut_after(whole, 15, tmp_path / "early")))


def test_a_failed_finalist_shows_its_code(tmp_path):
    changes = listed([1.25], control=[0.75], rule=level)
    changes["evaluator"]._fails = lambda w: "nan" if w.phase == "test" and w.id == "control:0" else None
    run_as(tmp_path, IDENTITY, **changes)
    assert "failed: nan" in printed(read(tmp_path))
