"""gp-IRT: the share of the mean by hand, the validation error behind it, and both its ends."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.estimators.gp_irt import GpIrt, item_variance, mean_share
from evomerge.estimators.irt_fit import calibrated
from evomerge.estimators.irt_validation import validation_error
from evomerge.estimators.mean import weighted_mean
from evomerge.estimators.p_irt import PIrt
from tests.estimators.irt_world import bank_of, saw, world


@pytest.fixture(scope="module")
def truth():
    return world(0, models=60, items=200)


@pytest.fixture(scope="module")
def bank(truth):
    return bank_of(truth.answers[:3], leaderboard=truth.answers[3:25], task=np.repeat([0, 1], 100))


@pytest.fixture(scope="module")
def fitted(bank):
    return GpIrt().fit(bank)


def test_share_of_the_mean_by_hand():
    # .04^2 / (.2 / (4 * 50) + .04^2) = .0016 / .0026
    assert mean_share(error=0.04, variance=0.2, n=50) == pytest.approx(8 / 13)
    assert mean_share(error=0.0, variance=0.2, n=50) == 0.0
    assert mean_share(error=0.04, variance=0.0, n=50) == 1.0


def test_item_variance_by_hand():
    # task 0: variances of (1, 0, 0, nan) and of (1, 1, 1, 1): 2/9 and 0; task 1: halves, and never asked
    y = [[1, 0, 0, np.nan, 0, 1], [1, 1, 1, 1, np.nan, np.nan]]
    found = item_variance(calibrated(bank_of(y, task=[0, 0, 0, 0, 1, 1])))
    np.testing.assert_allclose(found, [1 / 9, 1 / 4])


def test_an_estimate_is_the_blend_of_mean_and_p_irt_task_by_task(truth, bank, fitted):
    seen = np.r_[0:40, 100:110]
    observed = saw(seen, truth.answers[50, seen], weights=np.linspace(1, 2, 50))
    (found,), (p_irt,) = fitted.estimate([observed]), PIrt().fit(bank).estimate([observed])
    errors, variances = validation_error(fitted.irt.fit), item_variance(fitted.irt.fit)
    for task, n in enumerate((40, 10)):
        share, mean = mean_share(error=errors[task], variance=variances[task], n=n), weighted_mean(observed, bank, task)
        assert 0.01 < share < 0.99
        assert found[task].value == pytest.approx(share * mean.value + (1 - share) * p_irt[task].value, abs=1e-12)
        assert found[task].stderr == pytest.approx(share * mean.stderr + (1 - share) * p_irt[task].stderr, abs=1e-12)
        assert found[task].n_items == n


def test_validation_error_is_small_where_the_model_holds_and_large_where_it_does_not():
    rng, truth = np.random.default_rng(0), world(1, models=60, items=400)
    task = np.repeat([0, 1], 200)
    y = truth.answers.copy()
    # task 1: odd items are right or wrong all together, by a coin of each model: nothing foretells them
    y[:, 201::2] = rng.integers(2, size=(60, 1))
    found = validation_error(calibrated(bank_of(y[:3], leaderboard=y[3:], task=task)))
    assert found[0] < 0.06
    assert found[1] > 0.3


def test_validation_error_holds_models_out(truth):
    # 10 models of pure chance: a model that was calibrated on would be foretold better than by chance alone
    y = np.random.default_rng(3).integers(2, size=(10, 60)).astype(float)
    (found,) = validation_error(calibrated(bank_of(y)))
    assert 0.03 < found < 0.12  # sd of a mean of 30 fair bits is .09, its mean absolute deviation .073


def test_a_task_without_odd_items_leaves_all_to_the_mean():
    y = world(0, models=12, items=31).answers
    fit = calibrated(bank_of(y, task=np.r_[np.zeros(30, dtype=int), 1]))
    assert validation_error(fit)[1] == 1.0


@pytest.mark.parametrize("rows", [0, 1, 2, 3])
@pytest.mark.parametrize("bit", [0.0, 1.0])
def test_few_models_and_unanimous_answers_are_finite(truth, rows, bit):
    gp = GpIrt().fit(bank_of(truth.answers[:rows]))
    ((found,),) = gp.estimate([saw(range(30), np.full(30, bit))])
    assert 0 < found.value < 1
    assert 0 < found.stderr < 0.5
    assert found.fallback == "few-models"


def test_no_answers_and_all_answers(truth, fitted):
    ((nothing, _),) = fitted.estimate([saw([], [])])
    ((whole, other),) = fitted.estimate([saw(range(100), truth.answers[50, :100])])
    assert (nothing.n_items, nothing.fallback) == (0, "no-items")
    assert whole.value == pytest.approx(truth.answers[50, :100].mean(), abs=1e-12)
    assert whole.stderr == 0.0
    assert other.fallback == "no-items"


def test_failed_items_are_not_counted(truth, fitted):
    y = truth.answers[50, :20].copy()
    y[5] = np.nan
    kept = [i for i in range(20) if i != 5]
    assert fitted.estimate([saw(range(20), y)]) == fitted.estimate([saw(kept, y[kept])])


def test_fractions_made_bits_are_blended_too(truth):
    soft = GpIrt(binarize="tiny").fit(bank_of(truth.probabilities[:12]))
    ((found,),) = soft.estimate([saw(range(60), truth.probabilities[50, :60])])
    assert found.value == pytest.approx(truth.probabilities[50].mean(), abs=4 * found.stderr)


def test_intervals_hold_in_a_world_where_the_model_is_true():
    off, covered, plain = [], [], []
    for seed in range(3):
        truth = world(seed, models=69, items=400)
        gp, rng = GpIrt().fit(bank_of(truth.answers[:3], leaderboard=truth.answers[3:29])), np.random.default_rng(seed)
        for y in truth.answers[29:]:
            seen = rng.choice(400, 40, replace=False)
            ((found,),) = gp.estimate([saw(seen, y[seen])])
            off.append(found.value - y.mean())
            covered.append(abs(off[-1]) < 1.96 * found.stderr)
            plain.append(y[seen].mean() - y.mean())
    assert np.abs(off).mean() < np.abs(plain).mean()
    assert np.mean(covered) > 0.92
