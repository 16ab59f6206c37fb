"""The embedded zoo keeps its promises: small, whole, and not trivial to merge."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge import config, ingredients, preparation
from evomerge.config import ZOO
from evomerge.types import Work

EXPERTS = {"rev": "pico_rev", "add": "pico_add", "nxt": "pico_nxt"}


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    """Mean score of every reference and of one good merge on 60 test items of each task."""
    plan = preparation.prepare(
        config.settings(["threads=1", "device=cpu", "space.groups=1"]), tmp_path_factory.mktemp("none")
    ).plan
    bench = plan.evaluator.open()
    items = {task: ids[:60] for task, ids in plan.items["test"].items()}
    recipes = {**plan.references, "merge": plan.space.decode([(w + 0.2) / 1.7 for w in (0.6, 0.6, 0.6)])}
    found = {name: next(bench.evaluate(Work(name, "test", r, items))).scores for name, r in recipes.items()}
    return {name: {s.task: float(np.mean(s.values)) for s in each} for name, each in found.items()}


def test_it_is_small_enough_to_ship():
    assert sum(p.stat().st_size for p in (ZOO / "pico").rglob("*") if p.is_file()) < 10 * 2**20


def test_each_expert_is_good_at_its_own_task_and_poor_at_the_others(scores):
    for expert, own in EXPERTS.items():
        assert scores[f"parent:{expert}"][own] >= 0.85
        assert max(s for task, s in scores[f"parent:{expert}"].items() if task != own) <= 0.3


def test_the_base_is_poor_at_everything(scores):
    assert max(scores["base"].values()) <= 0.3


def test_the_plain_average_is_clearly_worse_than_a_good_merge(scores):
    mean = {name: np.mean(list(each.values())) for name, each in scores.items()}
    assert mean["merge"] > mean["average"] + 0.15
    assert mean["average"] > mean["parent:nxt"]


def test_no_expert_solves_the_task_that_needs_two_skills_but_a_merge_does(scores):
    assert max(each["pico_both"] for name, each in scores.items() if name.startswith("parent:")) <= 0.15
    assert scores["merge"]["pico_both"] >= 0.35


def test_search_and_test_items_share_no_query(tmp_path):
    tasks = ingredients.load_tasks(config.settings([]))
    for task in tasks:
        split = {name: set(ids) for name, ids in task.items.items()}
        assert not split["search"] & split["test"] and not split["selection"] & split["test"]
        assert not split["search"] & split["selection"]
