"""Every k-th item of the sorted bank."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.subsets.answers import prior
from evomerge.subsets.stratified import Stratified
from tests.subsets.banks import bank_of, one_task, per_task


def test_easy_and_hard_items_come_in_proportion():
    levels = np.repeat([0, 1, 2, 3], 25)  # of 3 endpoints right
    bank = one_task(np.array([levels > k for k in range(3)]))
    sampler = Stratified(n=20).fit(bank, 1)
    for number in range(20):
        assert np.bincount(levels[sampler.draw(number).index]).tolist() == [5, 5, 5, 5]


def test_all_items_of_a_task_are_equally_likely_and_tasks_share_equally():
    bank = bank_of({"a": 100, "b": 3, "c": 50})
    draw = Stratified(n=24).fit(bank, 1).draw(0)
    chance = np.array([10.5 / 100, 1, 10.5 / 50])[bank.task[draw.index]]
    assert draw.weights == pytest.approx(bank.weights[draw.index] / chance)
    assert per_task(bank, draw.index) in ([10, 3, 11], [11, 3, 10])


def test_the_mean_prior_of_a_draw_is_that_of_the_bank():
    bank = bank_of({"a": 300})
    p, sampler = prior(bank), Stratified(n=30).fit(bank, 1)
    assert [p[sampler.draw(k).index].mean() for k in range(30)] == pytest.approx([p.mean()] * 30, abs=0.5 / 30)
