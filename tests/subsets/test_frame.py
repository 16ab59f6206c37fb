"""The order in which alike items are neighbours."""

from __future__ import annotations

import numpy as np

from evomerge.subsets.frame import Frame, either_way, generator


def test_priors_rise_in_one_task_and_fall_in_the_next():
    frame = Frame(np.array([0, 1, 0, 1, 0]), np.ones(5), np.array([0.9, 0.2, 0.1, 0.7, 0.5]))
    assert frame.order(np.arange(5)).tolist() == [2, 4, 0, 3, 1]


def test_alike_items_are_in_the_order_of_their_ties():
    frame = Frame(np.zeros(3, dtype=np.int64), np.ones(3), np.array([0.501, 0.499, 0.502]))  # .50 all
    assert frame.order(np.array([2, 0, 1])).tolist() == [1, 2, 0]


def test_chosen_places_keep_the_order():
    frame = Frame(np.array([0, 1, 0, 1, 0]), np.ones(5), np.array([0.9, 0.2, 0.1, 0.7, 0.5]))
    assert frame.spread(np.array([0, 1, 3, 2])).tolist() == [2, 0, 3, 1]


def test_half_of_the_draws_are_turned():
    ways = [either_way(np.arange(3), generator(1, k, "a")).tolist() for k in range(400)]
    assert 160 < ways.count([0, 1, 2]) < 240
    assert ways.count([0, 1, 2]) + ways.count([2, 1, 0]) == 400


def test_each_seed_number_and_purpose_has_numbers_of_its_own():
    keys = [(1, 0, "a"), (1, 1, "a"), (2, 0, "a"), (0, 1, "a"), (1, 0, "b"), (1, 0, "ab")]
    assert len({generator(*key).random() for key in keys}) == len(keys)
    assert generator(1, 0, "a").random() == generator(1, 0, "a").random()
