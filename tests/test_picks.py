"""Which model of a run a word means, on runs that need no model."""

from __future__ import annotations

import pytest

from evomerge.errors import ConfigError, JournalError
from evomerge.picks import meant, pick
from evomerge.reports.record import load
from tests.reports.made_runs import IDENTITY, cut_after, listed, run_as
from tests.sphere import recipe
from tests.two_goals import KNEE, rule, search_two


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    search_two(folder)
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """One goal, the mean of alpha and beta: candidate 0 is best there, the parent in alpha, the average in beta."""
    folder = tmp_path_factory.mktemp("one")
    run_as(folder, IDENTITY, **listed([0.625, 0.1], rule=rule))
    return folder


@pytest.mark.parametrize(
    ("wanted", "ident"),
    [
        ("winner", KNEE),
        ("knee", KNEE),
        ("best:alpha", "parent:a"),
        ("best:beta", "average"),
        ("search:4", "search:4"),
        ("base", "base"),
        ("search:0", "search:0"),
    ],
)
def test_words_and_ids_of_two_goals(two, wanted, ident):
    assert meant(load(two), wanted) == ident


@pytest.mark.parametrize(
    ("wanted", "ident"),
    [("winner", "search:0"), ("knee", "search:0"), ("best:alpha", "parent:a"), ("best:beta", "average")],
)
def test_one_goal_has_a_best_for_each_task_too(one, wanted, ident):
    assert meant(load(one), wanted) == ident


def test_the_best_keeps_constraints_where_any_does(tmp_path):
    from evomerge.constraints import read
    from tests.sphere import plan
    from tests.two_goals import goals

    made = plan()
    limits = read({"beta": {"min": 0.5}}, made.metrics, made.references)
    search_two(tmp_path, goals=goals(constraints=limits))
    assert meant(load(tmp_path), "best:alpha") == "search:3"  # the parent and candidate 4 have less beta


def test_a_finalists_recipe_is_the_one_on_file(two):
    found, ident = pick(two, "best:alpha")
    assert (found, ident) == (recipe((1.0, 0.0, 0.0, 0.0)), "parent:a")


def test_what_is_not_there_is_told_with_what_is(two):
    with pytest.raises(
        JournalError, match=r"has no 'search:99'. Its finalists: base, parent:a, .*search:0 to search:4"
    ):
        pick(two, "search:99")
    with pytest.raises(ConfigError, match="unknown goal or task in --pick best: 'alfa'"):
        pick(two, "best:alfa")


def test_before_the_selection_only_candidates_can_be_meant(two, tmp_path):
    early = cut_after(two, 7, tmp_path / "early")
    assert meant(load(early), "search:1") == "search:1"
    for wanted in ("winner", "knee", "best:alpha", "base"):
        with pytest.raises(JournalError, match="has no winner yet"):
            meant(load(early), wanted)
