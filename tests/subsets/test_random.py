"""A random draw of items: how many from where, all of them equally likely."""

from __future__ import annotations

import time

import numpy as np
import pytest

from evomerge.subsets.random import Random
from tests.subsets.banks import bank_of, per_task


def test_items_are_shared_out_equally_and_earlier_tasks_take_the_remainder():
    bank = bank_of({"b": 50, "a": 50, "c": 50})
    assert per_task(bank, Random(n=8).fit(bank, 1).draw(0).index) == [3, 3, 2]  # by name: a, b, c


def test_a_short_task_gives_all_it_has_and_the_others_more():
    bank = bank_of({"a": 50, "b": 3, "c": 50})
    assert per_task(bank, Random(n=20).fit(bank, 1).draw(0).index) == [9, 3, 8]


def test_a_smaller_draw_lies_within_a_larger_one():
    bank = bank_of({"a": 100, "b": 10, "c": 60})
    before = set()
    for n in (6, 9, 31, 90, 169):
        now = set(Random(n=n).fit(bank, 1).draw(2).index.tolist())
        assert before < now
        before = now


def test_weights_are_shares_of_the_score_over_the_chance_of_being_drawn():
    bank = bank_of({"a": 100, "b": 10})
    draw = Random(n=30).fit(bank, 1).draw(0)
    chance = np.array([0.2, 1.0])[bank.task[draw.index]]
    assert draw.weights == pytest.approx(bank.weights[draw.index] / chance)


def test_every_item_is_as_likely_as_another():
    bank = bank_of({"a": 20})
    sampler, hits = Random(n=5).fit(bank, 1), np.zeros(20)
    for number in range(2000):
        hits[sampler.draw(number).index] += 1
    chi2 = ((hits - 500) ** 2 / (500 * 0.75)).sum() * 19 / 20  # 5 of 20: variance 500 * 3/4
    assert chi2 < 43.8  # 99.9 % point of chi-square with 19 degrees of freedom


def test_tens_of_thousands_of_items_are_drawn_in_a_moment():
    bank = bank_of({"a": 40_000}, leaderboard=0, designs=0)
    began = time.perf_counter()
    Random(n=20_000).fit(bank, 1).draw(0)
    assert time.perf_counter() - began < 2
