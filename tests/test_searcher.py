"""Which optimizer may serve which search: told before anything is scored."""

from __future__ import annotations

import pytest

from evomerge.config import settings
from evomerge.errors import ConfigError
from evomerge.searcher import control_maker, make_space, maker
from evomerge.spaces.weights import WeightsSpace
from evomerge.types import Pool

POOL = Pool(("a", "b"), ("da", "db"), "base", {"layers": 4})
GOALS = ("quality",)


def space(**given):
    return WeightsSpace(POOL, **given)


def made(words, *, goals=GOALS, **given):
    return maker("optimizer", settings(words.split()), space(**given), goals)(())


@pytest.mark.parametrize("name", ["nsga2", "nsga3", "smsemoa", "uniform", "sobol"])
def test_several_goals_are_for_those_who_can_tell_them_apart(name):
    assert made(f"optimizer={name}", goals=("one", "two")).many_goals


@pytest.mark.parametrize("name", ["cma_es", "ga", "coarse_to_fine", "m2n2"])
def test_several_goals_are_refused_by_name_where_one_is_maximised(name):
    with pytest.raises(ConfigError, match=rf"2 goals \(one, two\), and optimizer={name} maximises one. Use optimizer="):
        made(f"optimizer={name}", goals=("one", "two"))


@pytest.mark.parametrize("name", ["cma_es", "sep_cma", "ipop", "bipop", "de", "coarse_to_fine", "m2n2"])
def test_choices_are_refused_by_the_purely_continuous(name):
    choices = {"search": ["weight", "normalize"], "method": "linear"}
    with pytest.raises(ConfigError, match=r"and normalize/rest/0/all has 2 values\. Use optimizer="):
        made(f"optimizer={name}", **choices)


@pytest.mark.parametrize("name", ["cma_int", "ga", "mixed_ga", "uniform", "sobol"])
def test_choices_are_taken_by_those_who_say_so(name):
    assert made(f"optimizer={name}", search=["weight", "normalize"], method="linear").takes_choices


@pytest.mark.parametrize(
    ("words", "groups"),
    [
        ("optimizer=cma_es", 1),
        ("optimizer=coarse_to_fine optimizer.stages=[1,2,3]", 3),
        ("optimizer=coarse_to_fine optimizer.stages=[1,3,6]", 4),  # no more than blocks
        ("optimizer=coarse_to_fine space.groups=2", 2),
    ],
)
def test_depth_groups_left_open_are_as_many_as_the_optimizer_has_a_use_for(words, groups):
    found = make_space(settings(words.split()), POOL, seed=1, dtype="float32")
    assert found.size == 2 * groups


def test_a_space_without_a_common_scale_goes_without_the_grid_and_says_so():
    found, (note,) = control_maker(settings([]), space(method="linear"), GOALS)
    assert found is None and "control=uniform is a rival" in note
    found, notes = control_maker(settings(["control=uniform"]), space(method="linear"), GOALS)
    assert found(()).lag == 20 and notes == []
    assert control_maker(settings([]), space(), GOALS)[0](()).lag == 10
    assert control_maker(settings(["control=none"]), space(), GOALS) == (None, [])
