"""Normalised weights as shares of what is left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.spaces.shares import equal, normed, shares_of, weights_of

SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=7)


@given(shares=SHARES)
def test_weights_are_a_point_of_the_simplex(shares):
    weights = weights_of(shares)
    assert len(weights) == len(shares) + 1
    assert min(weights) >= 0
    assert sum(weights) == pytest.approx(1)


@given(shares=st.lists(st.floats(0, 0.999), min_size=1, max_size=7))
def test_shares_are_found_again_from_their_weights(shares):
    assert shares_of(weights_of(shares)) == pytest.approx(shares, abs=1e-12)


@given(weights=st.lists(st.floats(0, 10), min_size=2, max_size=7).filter(lambda w: sum(w) > 1e-6))
def test_weights_are_found_again_from_their_shares_up_to_their_sum(weights):
    assert weights_of(shares_of(weights)) == pytest.approx(normed(weights), abs=1e-12)


@given(weights=st.lists(st.floats(0.01, 10), min_size=2, max_size=7), factor=st.floats(0.1, 10))
def test_a_common_factor_of_the_weights_means_nothing(weights, factor):
    assert shares_of([factor * w for w in weights]) == pytest.approx(shares_of(weights))


@pytest.mark.parametrize("parents", [2, 3, 8])
def test_equal_weights_are_equal_shares_of_the_rest(parents):
    shares = [equal(k, parents) for k in range(parents - 1)]
    assert weights_of(shares) == pytest.approx([1 / parents] * parents)
    assert shares_of([1.0] * parents) == pytest.approx(shares)


def test_the_share_of_two_parents_is_the_weight_of_the_first():
    assert weights_of([0.25]) == (0.25, 0.75)


def test_parents_alone_are_corners_and_those_left_with_nothing_would_share_equally():
    assert shares_of((1.0, 0.0, 0.0)) == (1.0, 0.5)
    assert shares_of((0.0, 1.0, 0.0)) == (0.0, 1.0)
    assert shares_of((0.0, 0.0, 1.0)) == (0.0, 0.0)


@pytest.mark.parametrize("weights", [(0.0, 0.0), (1.0, -0.5)])
def test_weights_that_are_no_shares_are_not_normed(weights):
    assert normed(weights) is None
