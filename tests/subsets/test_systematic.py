"""Systematic sampling with unequal probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.subsets.systematic import systematic


def test_items_are_taken_where_the_cumulated_probability_passes_a_mark():
    pi = np.array([0.5, 0.2, 0.8, 0.5])  # cumulated in order 2, 0, 1, 3: .8, 1.3, 1.5, 2
    order = np.array([2, 0, 1, 3])
    assert systematic(pi, order, 0.7).tolist() == [2, 3]
    assert systematic(pi, order, 0.9).tolist() == [0, 3]
    assert systematic(pi, order, 0.4).tolist() == [2, 1]
    assert systematic(pi, order, 1.0).tolist() == [0, 3]


@settings(max_examples=30)
@given(raw=st.lists(st.floats(0.01, 1), min_size=2, max_size=12))
def test_over_all_starts_each_place_is_taken_as_often_as_its_probability_says(raw):
    pi = np.array([*raw, 1.0])
    pi = np.append(pi, np.ceil(pi.sum()) - pi.sum() + 1e-9)  # to an integer
    order = np.roll(np.arange(len(pi)), 3)
    taken = [systematic(pi, order, (k + 0.5) / 1000) for k in range(1000)]
    hits = np.bincount(np.concatenate(taken), minlength=len(pi))
    assert hits / 1000 == pytest.approx(pi, abs=2 / 1000)


@given(start=st.floats(1e-12, 1), certain=st.integers(0, 6))
def test_the_number_is_exact_and_sure_items_are_always_in(start, certain):
    pi = np.concatenate([np.full(21, 1 / 3), np.ones(certain), np.full(30, 0.1)])
    order = np.random.default_rng(certain).permutation(len(pi))
    taken = systematic(pi, order, start)
    assert len(taken) == 10 + certain
    assert set(range(21, 21 + certain)) <= set(taken.tolist())


@given(start=st.floats(1e-12, 1), cut=st.integers(1, 29))
def test_a_run_of_places_gives_its_sum_rounded_up_or_down(start, cut):
    pi = np.tile([0.3, 0.15, 0.45, 0.6, 0.5], 6)  # adds up to 12
    taken = systematic(pi, np.arange(30), start)
    assert abs((taken < cut).sum() - pi[:cut].sum()) < 1
