"""How numbers of items are shared out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.subsets.shares import equal_shares, items_wanted, proportional
from tests.subsets.banks import bank_of

SIZES = st.lists(st.integers(0, 60), min_size=1, max_size=8)


@given(sizes=SIZES, portion=st.floats(0, 1))
def test_equal_shares_use_all_and_differ_by_one_at_most_where_items_are_left(sizes, portion):
    have = np.array(sizes)
    n = int(portion * have.sum())
    shares = equal_shares(n, have)
    assert shares.sum() == n
    assert (shares >= 0).all() and (shares <= have).all()
    assert (shares[shares < have] >= shares.max() - 1).all()


def test_earlier_tasks_take_the_remainder():
    assert equal_shares(11, np.array([9, 2, 9, 9])).tolist() == [3, 2, 3, 3]
    assert equal_shares(13, np.array([9, 2, 9, 9])).tolist() == [4, 2, 4, 3]


BOUNDED = st.lists(
    st.tuples(st.floats(1e-6, 1e3), st.floats(0, 5), st.floats(0, 20)).map(lambda t: (t[0], t[1], t[1] + t[2])),
    min_size=1,
    max_size=30,
)


@given(rows=BOUNDED, portion=st.floats(0, 1))
def test_proportional_parts_add_up_and_keep_their_bounds_and_ratios(rows, portion):
    sizes, low, high = (np.array(column) for column in zip(*rows, strict=True))
    total = low.sum() + portion * (high - low).sum()
    parts = proportional(total, sizes, low=low, high=high)
    assert parts.sum() == pytest.approx(total, rel=1e-9, abs=1e-9)
    assert (parts >= low - 1e-12).all() and (parts <= high + 1e-12).all()
    ratios = parts / sizes
    inside = (parts > low + 1e-9) & (parts < high - 1e-9)
    if inside.any():
        c = ratios[inside].mean()
        assert ratios[inside] == pytest.approx(c, rel=1e-6)
        open_ = low < high
        assert (ratios[open_ & (parts <= low)] >= c * (1 - 1e-6)).all()  # held up by its bound
        assert (ratios[open_ & (parts >= high)] <= c * (1 + 1e-6)).all()  # held down


def test_what_a_bound_holds_back_goes_to_the_others_in_proportion():
    parts = proportional(
        10, np.array([8.0, 1.0, 1.0, 2.0]), low=np.array([0, 2.0, 0, 0]), high=np.array([3.0, 9, 9, 9])
    )
    assert parts == pytest.approx([3, 2, 5 / 3, 10 / 3])


def test_the_automatic_number_grows_with_the_tasks():
    assert items_wanted(bank_of({"a": 500}), None) == 60
    assert items_wanted(bank_of({f"t{k}": 3 for k in range(20)}), None) == 80
