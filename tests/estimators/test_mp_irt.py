"""mp-IRT: mixtures of endpoints, their edge cases, and merges that are mixtures."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from evomerge.errors import ConfigError
from evomerge.estimators.irt_ability import Ability, mixed
from evomerge.estimators.irt_fit import FittedIrt
from evomerge.estimators.mp_irt import MpIrt
from evomerge.estimators.p_irt import PIrt
from tests.estimators.irt_world import bank_of, saw, world

PRIORS = [None, "normal", "simplex"]


@pytest.fixture(scope="module")
def truth():
    return world(0, models=60, items=120)


def bank_with_leaderboard(truth, k=3):
    return bank_of(truth.answers[:k], leaderboard=truth.answers[k:40])


def only(fitted, observed):
    ((estimate,),) = fitted.estimate([observed])
    return estimate


@pytest.mark.parametrize("k", [0, 1, 2])
def test_the_whole_share_of_one_endpoint_is_that_endpoints_model(truth, k):
    fit = MpIrt().fit(bank_with_leaderboard(truth)).fit
    unit = Ability(np.eye(3)[k], np.zeros((3, 3)))
    found = only(FittedIrt(fit, lambda answers: mixed(unit, fit.parents), None), saw(range(30), truth.answers[50, :30]))
    p = expit(fit.items.slopes @ fit.parents[k] - fit.items.intercepts)
    assert found.value == pytest.approx((truth.answers[50, :30].sum() + p[30:].sum()) / 120, abs=1e-9)


@pytest.mark.parametrize("prior", PRIORS)
def test_one_endpoint_falls_back_to_p_irt(truth, prior):
    bank, seen = bank_with_leaderboard(truth, k=1), saw(range(30), truth.answers[50, :30])
    found, p_irt = only(MpIrt(lambda_prior=prior).fit(bank), seen), only(PIrt().fit(bank), seen)
    assert (found.value, found.stderr) == (p_irt.value, p_irt.stderr)
    assert (found.fallback, p_irt.fallback) == ("one-endpoint", None)


def test_identical_endpoints_are_one(truth):
    bank = bank_of(truth.answers[[0, 0, 0]], leaderboard=truth.answers[3:40])
    assert only(MpIrt().fit(bank), saw(range(30), truth.answers[50, :30])).fallback == "one-endpoint"


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("bit", [0.0, 1.0])
def test_all_right_or_all_wrong_is_finite_and_unsure(truth, prior, bit):
    found = only(MpIrt(lambda_prior=prior).fit(bank_with_leaderboard(truth)), saw(range(40), np.full(40, bit)))
    assert 0 < found.value < 1
    assert 0 < found.stderr < 0.5


@pytest.mark.parametrize("prior", PRIORS)
def test_no_answers_and_all_answers(truth, prior):
    fitted = MpIrt(lambda_prior=prior).fit(bank_with_leaderboard(truth))
    nothing, everything = only(fitted, saw([], [])), only(fitted, saw(range(120), truth.answers[50]))
    even = fitted.fit.items.probability(fitted.fit.parents.mean(0)).mean()
    assert nothing.value == pytest.approx(even)
    assert nothing.stderr > 0
    assert nothing.fallback == "no-items"
    assert everything.value == pytest.approx(truth.answers[50].mean(), abs=1e-12)
    assert everything.stderr == 0.0


def test_three_endpoints_without_a_leaderboard_are_few_models(truth):
    assert only(MpIrt().fit(bank_of(truth.answers[:3])), saw([0, 1], [1.0, 0.0])).fallback == "few-models"


def test_an_endpoint_that_was_asked_half_the_items_still_counts(truth):
    y = truth.answers[:3].copy()
    y[1, ::2] = np.nan
    fitted = MpIrt().fit(bank_of(y, leaderboard=truth.answers[3:40]))
    assert fitted.fit.parents.shape == (3, 4)  # 40 models: 4 dimensions
    assert np.isfinite(only(fitted, saw(range(30), truth.answers[50, :30])).value)


def test_an_unknown_prior_is_named():
    with pytest.raises(ConfigError, match="lambda_prior is 'dirichlet'"):
        MpIrt(lambda_prior="dirichlet")


@pytest.mark.parametrize("prior", PRIORS)
def test_merges_that_are_mixtures_are_covered_and_closer_than_the_mean(prior):
    off, covered, plain = [], [], []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        theta = np.vstack([[[1.5, 0.0], [0.0, 1.5], [-1.0, -1.0]], rng.normal(size=(70, 2))])
        shares = rng.dirichlet(np.full(3, 2.0), size=30)
        theta = np.vstack([theta, shares @ theta[:3]])
        slopes = np.exp(0.5 * rng.normal(size=(400, 2)) - 0.5)
        p = expit(theta @ slopes.T - 1.5 * rng.normal(size=400))
        y = (rng.random(p.shape) < p).astype(float)
        fitted = MpIrt(lambda_prior=prior).fit(bank_of(y[:3], leaderboard=y[3:73]))
        for row in y[73:]:
            seen = rng.choice(400, 40, replace=False)
            found = only(fitted, saw(seen, row[seen]))
            off.append(found.value - row.mean())
            covered.append(abs(off[-1]) < 1.96 * found.stderr)
            plain.append(row[seen].mean() - row.mean())
    assert np.abs(off).mean() < np.abs(plain).mean()
    assert np.mean(covered) > 0.85  # errors of the item parameters are not in the standard error
