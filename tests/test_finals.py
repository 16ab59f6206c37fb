"""The last phases: who becomes a finalist, which front is chosen, and what the rows say; with one goal and with two."""

from __future__ import annotations

import pytest

from evomerge.constraints import read
from evomerge.journal import rows
from tests.sphere import plan, recipe, run
from tests.two_goals import FOUND, KNEE, goals, search_two


def stop(folder, phase):
    return [r for r in rows(folder) if r["row"] == "stop" and r["phase"] == phase][-1]


def finalists(folder):
    return [f["id"] for f in stop(folder, "selection")["finalists"]]


def test_with_two_goals_the_knee_of_the_front_wins(tmp_path):
    assert search_two(tmp_path) == KNEE
    row = stop(tmp_path, "selection")
    assert row["goals"] == ["alpha", "beta"] and row["floor"] == [0.0, 0.0]
    assert row["front"] == ["parent:a", "average", "search:4", "search:3", "search:2"] and row["knee"] == KNEE
    assert set(row["posterior"]) == set(finalists(tmp_path))
    assert [mean for mean, _ in row["posterior"][KNEE]] == pytest.approx([0.75, 0.75], abs=0.01)


def test_dominated_candidates_are_no_finalists(tmp_path):
    search_two(tmp_path)
    assert finalists(tmp_path) == ["base", "parent:a", "average", "search:4", "search:3", "search:2"]


def test_a_large_front_is_thinned_to_finalists_times_goals_with_its_ends(tmp_path):
    found = [0.51, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.99]
    search_two(tmp_path, found, finalists=2)
    kept = {i for i in finalists(tmp_path) if i.startswith("search")}
    assert len(kept) == 4 and {"search:0", "search:9"} <= kept


def test_of_control_a_front_is_kept_too(tmp_path):
    search_two(tmp_path, control=(0.2, 0.7, 0.8), finalists=2)
    assert [i for i in finalists(tmp_path) if i.startswith("control")] == ["control:2", "control:1"]


def test_warm_starts_are_finalists_under_their_own_names(tmp_path):
    warm = (recipe((0.75, 0.0, 0.0, 0.0)), recipe((0.2, 0.0, 0.0, 0.0)))
    assert search_two(tmp_path, warm=warm) == "warm:0"  # the candidate of the same recipe came after it
    assert [i for i in finalists(tmp_path) if i.startswith("warm")] == ["warm:0"]


def test_finalists_that_break_a_constraint_are_not_on_the_front(tmp_path):
    made = plan()
    limits = read({"beta": {"min": 0.5}}, made.metrics, made.references)
    assert (
        search_two(tmp_path, goals=goals(constraints=limits)) == "search:2"
    )  # the knee of (0.5, 1), (.6, .96), (.75, .75)
    assert stop(tmp_path, "selection")["front"] == ["average", "search:3", "search:2"]


def test_where_none_keeps_the_constraints_those_that_break_them_least_are_the_front(tmp_path):
    made = plan()
    limits = read({"alpha": {"min": 3.0}}, made.metrics, made.references)
    assert search_two(tmp_path, goals=goals(constraints=limits)) == "parent:a"
    assert stop(tmp_path, "selection")["front"] == ["parent:a"]


def test_a_tests_row_tells_each_goal_and_what_the_winner_gains(tmp_path):
    search_two(tmp_path)
    row = stop(tmp_path, "test")
    assert [value for value, _ in row["scores"]["search:2"]] == pytest.approx([0.6, 0.96])
    assert [value for value, _ in row["gains"]["average"]] == pytest.approx([0.25, -0.25])
    assert row["gains"][KNEE] == [[0.0, 0.0], [0.0, 0.0]] and row["floor"] == [0.0, 0.0]


def test_the_rows_of_one_goal_say_nothing_of_fronts(tmp_path):
    run(tmp_path)
    common = {"row", "phase", "searched", "winner"}
    assert set(stop(tmp_path, "selection")) == common | {"finalists", "posterior", "violations"}
    assert set(stop(tmp_path, "test")) == common
    assert all(isinstance(value, float) for pair in stop(tmp_path, "selection")["posterior"].values() for value in pair)


def test_a_front_run_twice_has_the_same_journal(tmp_path):
    for name in ("one", "two"):
        search_two(tmp_path / name, FOUND, control=(0.7, 0.8))
    one, two = (sorted(map(repr, rows(tmp_path / name))) for name in ("one", "two"))
    assert one == two
