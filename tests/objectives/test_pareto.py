"""Tasks and sets of tasks as goals."""

from __future__ import annotations

import math

import pytest

from evomerge.config import make, settings
from evomerge.errors import ConfigError
from evomerge.objectives.pareto import Pareto
from evomerge.types import Estimate

TASKS = ("sums", "letters", "words")


def estimates(*values, stderr=0.0):
    return tuple(Estimate(v, stderr, 10) for v in values)


FLOOR, PARENTS = estimates(0.2, 0.4, 0.1), [estimates(0.6, 0.3, 0.1), estimates(0.1, 0.8, 0.6)]  # gaps: 0.4, 0.4, 0.5
SCORES = estimates(0.4, 0.8, 0.1, stderr=0.02)


def values(objective):
    return [e.value for e in objective.combine(SCORES, FLOOR, PARENTS)]


def test_each_task_is_a_goal_in_shares_of_its_gap():
    assert Pareto().goals(TASKS) == TASKS
    assert values(Pareto()) == pytest.approx([0.5, 1.0, 0.0])


def test_a_set_is_the_mean_of_its_tasks_and_the_others_stay_goals_after_it():
    objective = Pareto({"text": ["words", "letters"]})
    assert objective.goals(TASKS) == ("text", "sums")
    assert values(objective) == pytest.approx([0.5, 0.5])
    text = objective.combine(SCORES, FLOOR, PARENTS)[0]
    assert text.stderr == pytest.approx(math.hypot(0.02 / 0.5, 0.02 / 0.4) / 2) and text.n_items == 20


def test_all_tasks_in_one_set_are_one_goal():
    objective = Pareto({"all": list(TASKS)})
    assert objective.goals(TASKS) == ("all",) and values(objective) == pytest.approx([0.5])


def test_sets_come_from_the_command_line():
    cfg = settings(["objective=pareto", "objective.sets={text:[words,letters]}"])
    assert make("objective", cfg.objective).goals(TASKS) == ("text", "sums")


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"text": ["word"]}, r"unknown task in objective.sets 'word'. Did you mean 'words'"),
        ({"sums": ["words"]}, r"objective.sets.sums has the name of a task outside it"),
    ],
)
def test_names_that_do_not_fit_the_tasks_are_refused(sets, message):
    with pytest.raises(ConfigError, match=message):
        Pareto(sets).goals(TASKS)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"a": ["words"], "b": ["words"]}, r"objective.sets names 'words' 2 times"),
        ({"a": ["words", "words"]}, r"objective.sets names 'words' 2 times"),
        ({"a": []}, r"objective.sets.a is empty"),
    ],
)
def test_sets_that_fit_no_tasks_are_refused_at_once(sets, message):
    with pytest.raises(ConfigError, match=message):
        Pareto(sets)


def test_sets_of_tasks_whose_names_it_was_not_told_are_refused():
    with pytest.raises(ConfigError, match=r"Ask for goals\(names\) first"):
        values(Pareto({"text": ["words"]}))


def test_one_objective_with_sets_serves_one_order_of_tasks():
    objective = Pareto({"text": ["words", "letters"]})
    assert objective.goals(TASKS) == objective.goals(TASKS) == ("text", "sums")
    with pytest.raises(ConfigError, match=r"asked for other tasks before.*Make an objective for each"):
        objective.goals(TASKS[::-1])
    assert values(objective) == pytest.approx([0.5, 0.5]), "and what it was told first still holds"


def test_without_sets_any_tasks_may_be_asked_for():
    objective = Pareto()
    assert (objective.goals(TASKS), objective.goals(TASKS[:1])) == (TASKS, TASKS[:1])
