"""Evaluations kept as answers come back equal in every bit, or not at all."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from evomerge.calibration.evaluations import answers_of, evaluation_of, kind_of
from evomerge.calibration.responses import load, save
from evomerge.rows import evaluation_row
from tests.calibration.made import BANK, RECIPES, evaluated, recipe, works


def test_a_kept_evaluation_gives_the_journal_row_that_evaluating_gives(tmp_path: Path):
    found = evaluated()
    save(answers_of(RECIPES, found, "{}"), tmp_path / "a.npz")
    again = load(tmp_path / "a.npz")
    for work in works():
        assert evaluation_row(evaluation_of(work, again)) == evaluation_row(found[work.id])


def test_kinds_follow_the_names_of_the_plan():
    names = ("base", "parent:a", "parent:average", "average", "design:3")
    assert [kind_of(name) for name in names] == ["base", "parent", "parent", "average", "design"]


def test_failed_models_are_left_out():
    found = evaluated()
    found["average"] = replace(found["average"], scores=(), error_code="merge")
    assert answers_of(RECIPES, found, "").models == ("base", "parent:a", "parent:b")
    nothing = answers_of(RECIPES, {"average": found["average"]}, "")
    assert nothing.models == () and nothing.values.shape == (0, 0)


def test_another_recipe_or_other_items_are_no_match():
    answers = answers_of(RECIPES, evaluated(), "")
    (work,) = works({"base": RECIPES["base"]})
    fewer = {**work.items, "one": work.items["one"][:3]}
    more = {**work.items, "one": (*work.items["one"], "new")}
    assert evaluation_of(work, answers) is not None
    assert evaluation_of(replace(work, recipe=recipe(0.5)), answers) is None
    assert evaluation_of(replace(work, items=fewer), answers) is None
    assert evaluation_of(replace(work, items=more), answers) is None


def test_an_answer_that_is_missing_makes_no_evaluation():
    answers = answers_of(RECIPES, evaluated(), "")
    answers.values[0, BANK.index(("two", "search2"))] = np.nan
    base, parent, *_ = works()
    assert evaluation_of(base, answers) is None and evaluation_of(parent, answers) is not None


def test_runs_of_another_seed_share_what_draws_nothing():
    answers = answers_of(RECIPES, evaluated(), "")
    (work,) = works({"base": replace(RECIPES["base"], seed=5)})
    found = evaluation_of(work, answers)
    assert found is not None and found.recipe_digest == work.recipe.digest != RECIPES["base"].digest
