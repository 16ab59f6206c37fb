"""The weighted mean of anchors."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.estimators.anchor_weighted import AnchorWeighted
from tests.estimators.irt_world import bank_of, saw

BITS = np.array([[1.0, 0, 1, 0, 1, 1, 0, 0]])


def estimates(bank, observed):
    (found,) = AnchorWeighted().fit(bank).estimate([observed])
    return found


def test_anchors_count_as_much_as_their_clusters():
    # 3 anchors stand for 5, 2 and 1 items: (5 * 1 + 2 * 0 + 1 * .5) / 8
    (found,) = estimates(bank_of(BITS), saw([0, 3, 6], [1.0, 0.0, 0.5], weights=[5, 2, 1]))
    assert found.value == pytest.approx(5.5 / 8)
    assert found.stderr > 0
    assert found.n_items == 3


def test_a_common_factor_of_the_weights_changes_nothing():
    bank = bank_of(BITS, task=[0, 0, 0, 0, 1, 1, 1, 1])
    one = saw([0, 1, 4, 5], [1.0, 0.0, 1.0, 0.0], weights=[3, 1, 1, 3])
    other = saw([0, 1, 4, 5], [1.0, 0.0, 1.0, 0.0], weights=[30, 10, 0.1, 0.3])
    for a, b in zip(estimates(bank, one), estimates(bank, other), strict=True):
        assert b.value == pytest.approx(a.value)
        assert b.stderr == pytest.approx(a.stderr)
    assert [e.value for e in estimates(bank, one)] == [0.75, 0.25]


def test_clusters_of_answers_that_agree_are_met_exactly():
    rng = np.random.default_rng(0)
    cluster = rng.integers(6, size=60)
    levels = rng.random(6)
    anchors = np.array([np.flatnonzero(cluster == c)[0] for c in range(6)])
    (found,) = estimates(bank_of(np.zeros((1, 60))), saw(anchors, levels, weights=np.bincount(cluster)))
    assert found.value == pytest.approx(levels[cluster].mean())


def test_all_items_give_the_exact_weighted_mean():
    weights = np.arange(1.0, 9.0)
    (found,) = estimates(bank_of(BITS, weights=weights), saw(range(8), BITS[0], weights=np.ones(8)))
    assert found.value == pytest.approx(BITS[0] @ weights / weights.sum())
    assert found.stderr == 0.0


def test_a_seen_share_of_the_bank_is_no_longer_uncertain():
    few, most = saw([0, 1], [1.0, 0.0]), saw(range(7), BITS[0, :7])
    big = bank_of(np.tile(BITS, 100))
    (small_bank,), (big_bank,) = estimates(bank_of(BITS), most), estimates(big, most)
    assert small_bank.stderr < 0.5 * big_bank.stderr
    assert estimates(bank_of(BITS), few)[0].stderr > small_bank.stderr
