"""A random draw of items: how many from where, and that only the seed and the items decide."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.errors import ConfigError
from evomerge.subsets.random import Random, shares


def bank(**sizes):
    return {task: tuple(f"{task}{i:04d}" for i in range(n)) for task, n in sizes.items()}


def counts(drawn):
    return {task: len(ids) for task, ids in drawn.items()}


def test_items_are_shared_out_equally_and_earlier_tasks_take_the_remainder():
    assert counts(Random(8).draw(bank(a=50, b=50, c=50), 1)) == {"a": 3, "b": 3, "c": 2}


def test_a_short_task_gives_all_it_has_and_the_others_more():
    assert counts(Random(20).draw(bank(a=50, b=3, c=50), 1)) == {"a": 9, "b": 3, "c": 8}


def test_more_than_there_is_gives_everything_in_its_order():
    everything = bank(a=5, b=3)
    assert Random(100).draw(everything, 1) == everything


def test_the_draw_is_a_part_of_the_bank_in_the_banks_order_without_repeats():
    whole = bank(a=100, b=40)
    for task, ids in Random(30).draw(whole, 1).items():
        assert set(ids) <= set(whole[task])
        assert list(ids) == sorted(set(ids))


def test_the_order_of_the_bank_does_not_choose():
    whole = bank(a=100, b=40)
    turned = {task: ids[::-1] for task, ids in whole.items()}
    one, other = Random(30).draw(whole, 1), Random(30).draw(turned, 1)
    assert {t: set(ids) for t, ids in one.items()} == {t: set(ids) for t, ids in other.items()}


def test_another_seed_draws_others_and_the_same_seed_the_same():
    whole = bank(a=100, b=100)
    draws = [Random(40).draw(whole, seed) for seed in range(5)]
    assert len({d["a"] for d in draws}) == 5
    assert draws[3] == Random(40).draw(whole, 3)


def test_tasks_are_drawn_independently_of_each_other():
    whole = {"a": tuple(f"i{i}" for i in range(100)), "b": tuple(f"i{i}" for i in range(100))}
    drawn = Random(40).draw(whole, 1)
    assert drawn["a"] != drawn["b"]


def test_a_smaller_draw_lies_within_a_larger_one():
    whole = bank(a=100, b=10, c=60)
    before = Random(3).draw(whole, 1)
    for n in (4, 9, 31, 90, 170):
        larger = Random(n).draw(whole, 1)
        assert all(set(before[task]) <= set(larger[task]) for task in whole)
        before = larger


def test_an_item_taken_away_does_not_move_the_other_draws():
    whole = bank(a=100)
    drawn = Random(20).draw(whole, 1)["a"]
    unused = next(i for i in whole["a"] if i not in drawn)
    assert Random(20).draw({"a": tuple(i for i in whole["a"] if i != unused)}, 1)["a"] == drawn


def test_every_item_is_as_likely_as_another():
    whole = bank(a=20)
    hits = np.zeros(20)
    for seed in range(2000):
        hits[[int(i[1:]) for i in Random(5).draw(whole, seed)["a"]]] += 1
    chi2 = ((hits - 500) ** 2 / (500 * 0.75)).sum() * 19 / 20  # 5 of 20: variance 500 * 3/4
    assert chi2 < 43.8  # 99.9 % point of chi-square with 19 degrees of freedom


def test_tens_of_thousands_of_items_are_drawn_in_a_moment():
    import time

    began = time.perf_counter()
    Random(20_000).draw(bank(a=40_000), 1)
    assert time.perf_counter() - began < 2


@given(n=st.integers(1, 300), sizes=st.lists(st.integers(0, 60), min_size=1, max_size=8))
def test_shares_use_all_they_can_and_differ_by_one_at_most_where_items_are_left(n, sizes):
    named = {str(i): s for i, s in enumerate(sizes)}
    given_ = shares(n, named)
    assert sum(given_.values()) == min(n, sum(sizes))
    assert all(0 <= given_[t] <= named[t] for t in named)
    most = max(given_.values())
    assert all(given_[t] >= most - 1 for t in named if given_[t] < named[t])


@pytest.mark.parametrize("n", [0, -5])
def test_a_draw_of_nothing_is_refused(n):
    with pytest.raises(ConfigError, match=f"subset.n is {n}; wanted at least one"):
        Random(n)


def test_fewer_items_than_tasks_are_refused():
    with pytest.raises(ConfigError, match=r"subset.n is 2 for 3 tasks; wanted at least one item per task"):
        Random(2).draw(bank(a=5, b=5, c=5), 1)
