"""The front of a run of two goals as it is read, told and drawn."""

from __future__ import annotations

import json
import struct
import sys
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from evomerge import fronts
from evomerge.errors import ConfigError
from evomerge.reports import front, front_plot, markdown, read, record, table
from evomerge.reports.sections import sections
from tests.reports.made_runs import cut_after
from tests.two_goals import KNEE, search_two


@pytest.fixture(scope="session")
def two(tmp_path_factory):
    """A finished run of two goals with a control."""
    folder = tmp_path_factory.mktemp("two")
    search_two(folder, control=(0.4, 0.7))
    return folder


def printed(report):
    out = StringIO()
    table.show(report, Console(file=out, width=100))
    return out.getvalue()


def lines_of(folder):
    return (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)


def test_members_goals_and_knee_are_those_of_the_selection(two):
    found = read.read(two).front
    assert found.goals == ("alpha", "beta") and found.knee == KNEE == read.read(two).winner
    assert found.ids == ("parent:a", "average", "control:1", "search:4", "search:3", "search:2")
    assert [e.value for e in found.scores["test"]["search:2"]] == pytest.approx([0.6, 0.96])
    assert found.gains["average"][0].value == pytest.approx(0.25)


def test_a_run_of_one_goal_has_no_front_and_no_word_of_it(whole):
    report = read.read(whole)
    assert report.front is None
    assert not {"Front", "Hypervolume"} & {grid.title.split(":")[0] for grid in sections(report)}
    assert "search objective" in printed(report)


def test_hypervolumes_are_those_of_the_members_above_the_base(two):
    found = read.read(two).front
    by_hand = 0.9 * 0.36 + 0.75 * (0.75 - 0.36) + 0.7 * (0.84 - 0.75) + 0.6 * (0.96 - 0.84) + 0.5 * (1 - 0.96)
    assert front.hypervolumes(found)["test"]["front"] == pytest.approx(by_hand)
    assert front.hypervolumes(found)["test"]["rivals"] == pytest.approx(0.7 * 0.84 + 0.5 * (1 - 0.84))
    assert set(front.rivals(found)) == {"parent:a", "average", "control:1"}
    assert front.hypervolumes(found)["search"]["front"] == pytest.approx(by_hand, abs=1e-6)


def test_preferences_choose_along_the_front(two):
    found = read.read(two).front
    assert front.preferred(found, {"alpha": 9.0}) == "parent:a"
    assert front.preferred(found, {"alpha": 2.0, "beta": 1.0}) == KNEE  # 2 x + 4 x (1 - x) is largest at x = 0.75
    assert front.preferred(found, {"beta": 100.0}) == "average"
    assert front.preferred(found, {}) == "search:2"  # x + 4 x (1 - x): at 0.625, and 0.6 is nearest
    with pytest.raises(ConfigError, match="Did you mean 'alpha'"):
        front.preferred(found, {"alfa": 1.0})


def test_the_verdict_tells_each_goal_against_the_best_compromise_that_went_in(two):
    verdict = read.read(two).verdict
    assert verdict.startswith("Candidate 3 is the knee of a front of 6 over 2 goals. Against control 1 (best of 2)")
    assert "better in alpha (+0.050 [" in verdict and "worse in beta (-0.090 [" in verdict


def test_where_the_knee_went_in_the_verdict_says_so_and_names_the_finds(tmp_path):
    search_two(tmp_path, found=(0.1, 0.9), control=(0.75,))
    verdict = read.read(tmp_path).verdict
    assert verdict.startswith("The search found no better compromise: control 0 (best of 1) is the knee")
    assert verdict.endswith("Its own finds on the front: candidate 1.")


def test_terminal_markdown_and_json_hold_the_front(two):
    report = read.read(two)
    text = printed(report)
    assert max(map(len, text.splitlines())) <= 100
    assert text.index(report.verdict[:40]) < text.index("Front: 6 of") < text.index("Hypervolume")
    assert next(line for line in text.splitlines() if line.startswith("candidate 3 *")).split()[3] == "posterior"
    assert "search objective" not in text
    assert "## Hypervolume" in markdown.markdown(report)
    assert json.loads(json.dumps(read.as_json(report), allow_nan=False))["front"]["knee"] == KNEE


def test_a_run_can_be_read_after_any_row(two, tmp_path):
    for n in range(1, len(lines_of(two)) + 1):
        report = read.read(cut_after(two, n, tmp_path / str(n)))
        printed(report)
        assert (report.front is None) == (report.winner is None)
        if report.front:
            assert ("test" in report.front.scores) == report.finished


def test_the_test_of_an_earlier_selection_is_not_taken_for_that_of_an_extension(two, tmp_path):
    longer = cut_after(two, len(lines_of(two)), tmp_path / "longer")
    newer = record.load(longer).newest_stop("selection") | {"searched": 99}
    with (longer / "journal.jsonl").open("a") as journal:
        journal.write(json.dumps(newer) + "\n")
    found = read.read(longer).front
    assert "test" not in found.scores and not found.gains and "test" not in front.hypervolumes(found)


# ---------------------------------------------------------------- the picture


def drawn(found, path):
    from matplotlib import image  # the test environment has it: a missing plot is a failure

    front_plot.plot(found, path)
    assert struct.unpack(">II", path.read_bytes()[16:24]) == (960, 660)
    return image.imread(path)[:, :, :3]


def test_the_picture_shows_the_knee_of_this_front(two, tmp_path):
    found = read.read(two).front
    moved = type(found)(**{**vars(found), "knee": "search:4"})
    assert (drawn(found, tmp_path / "a.png") != drawn(moved, tmp_path / "b.png")).any()
    assert (drawn(found, tmp_path / "a.png") == drawn(found, tmp_path / "c.png")).all()


def test_three_goals_are_drawn_side_by_side(two, tmp_path):
    found = read.read(two).front
    third = {split: {i: (*g, g[0]) for i, g in by_id.items()} for split, by_id in found.scores.items()}
    three = type(found)(**{**vars(found), "goals": ("a", "b", "c"), "scores": third})
    assert len(np.unique(drawn(three, tmp_path / "three.png") @ [1, 1e3, 1e6])) > 20


def test_without_matplotlib_or_folder_the_remedy_is_named(two, tmp_path, monkeypatch):
    found = read.read(two).front
    with pytest.raises(ConfigError, match=r"none/front\.png"):
        front_plot.plot(found, tmp_path / "none" / "front.png")
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(ConfigError, match=r"evomerge\[plots\]"):
        front_plot.plot(found, tmp_path / "front.png")


def test_what_went_in_is_thinned_to_its_own_front(two):
    found = read.read(two).front
    values = front.values(found, front.rivals(found), "selection")
    assert len(fronts.non_dominated(values)) == len(values)
