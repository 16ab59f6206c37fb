"""gmp-IRT: fixed shares of mean and mp-IRT."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.errors import ConfigError
from evomerge.estimators.gmp_irt import GmpIrt
from evomerge.estimators.mean import Mean
from evomerge.estimators.mp_irt import MpIrt
from tests.estimators.irt_world import bank_of, saw, world


@pytest.fixture(scope="module")
def truth():
    return world(0, models=30, items=120)


@pytest.fixture(scope="module")
def bank(truth):
    return bank_of(truth.answers[:3], leaderboard=truth.answers[3:20])


def test_half_and_half_by_default(truth, bank):
    observed = saw(range(30), truth.answers[25, :30], weights=np.linspace(1, 3, 30))
    ((mean,),), ((mp,),), ((found,),) = (e.fit(bank).estimate([observed]) for e in (Mean(), MpIrt(), GmpIrt()))
    assert found.value == pytest.approx((mean.value + mp.value) / 2, abs=1e-12)
    assert found.stderr == pytest.approx((mean.stderr + mp.stderr) / 2, abs=1e-12)
    assert found.n_items == 30


@pytest.mark.parametrize(("c", "end"), [(0.0, MpIrt(lambda_prior="simplex")), (1.0, Mean())])
def test_the_ends_are_mp_irt_and_the_mean(truth, bank, c, end):
    observed = saw(range(30), truth.answers[25, :30])
    ((found,),), ((alone,),) = (e.fit(bank).estimate([observed]) for e in (GmpIrt(c=c, lambda_prior="simplex"), end))
    assert (found.value, found.stderr) == pytest.approx((alone.value, alone.stderr), abs=1e-12)


def test_one_endpoint_is_blended_with_p_irt_and_told(truth):
    gmp = GmpIrt().fit(bank_of(truth.answers[:1], leaderboard=truth.answers[1:20]))
    ((found,),) = gmp.estimate([saw(range(30), truth.answers[25, :30])])
    assert found.fallback == "one-endpoint"
    assert 0 < found.value < 1


def test_all_items_give_the_exact_mean_and_none_the_parents_level(truth, bank):
    gmp = GmpIrt().fit(bank)
    ((whole,),), ((nothing,),) = gmp.estimate([saw(range(120), truth.answers[25])]), gmp.estimate([saw([], [])])
    assert whole.value == pytest.approx(truth.answers[25].mean(), abs=1e-12)
    assert whole.stderr == 0.0
    assert nothing.fallback == "no-items"


@pytest.mark.parametrize("bit", [0.0, 1.0])
def test_unanimous_answers_are_finite_and_unsure(bank, bit):
    ((found,),) = GmpIrt().fit(bank).estimate([saw(range(30), np.full(30, bit))])
    assert 0 < found.value < 1
    assert 0 < found.stderr < 0.5


@pytest.mark.parametrize("c", [-0.1, 1.1, float("nan")])
def test_a_share_beyond_all_or_nothing_is_refused(c):
    with pytest.raises(ConfigError, match=r"estimator\.c is"):
        GmpIrt(c=c)
