"""p-IRT: its formula by hand, its edge cases, and its errors in worlds where the model is true."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evomerge.config import make
from evomerge.errors import ConfigError
from evomerge.estimators.irt import ItemParameters
from evomerge.estimators.irt_ability import Ability
from evomerge.estimators.irt_fit import CalibratedBank, FittedIrt, calibrated
from evomerge.estimators.p_irt import PIrt
from evomerge.estimators.units import units_of
from evomerge.types import Metric
from tests.estimators.irt_world import bank_of, saw, world

BITS = np.array([[1.0, 0, 1, 0], [0, 0, 1, 1]])


def by_hand(bank, *, mean=0.0, variance=0.0, dispersion=1.0) -> FittedIrt:
    """Four items of slopes 1, 1, 2, 1 and intercepts 0, ln 3, 0, -ln 3: at ability 0, p = 1/2, 1/4, 1/2, 3/4."""
    items = ItemParameters(np.array([[1.0], [1.0], [2.0], [1.0]]), np.log([1, 3, 1, 1 / 3]))
    spread = np.full(len(bank.tasks), dispersion)
    fit = CalibratedBank(bank, units_of(bank), bank.endpoints, items, np.zeros((2, 1)), spread, None)
    return FittedIrt(fit, lambda answers: Ability(np.array([mean]), np.array([[variance]])), None)


def only(fitted, observed):
    ((estimate,),) = fitted.estimate([observed])
    return estimate


# ---------------------------------------------------------------- formulas


def test_seen_items_count_as_they_are_and_unseen_ones_by_the_model():
    found = only(by_hand(bank_of(BITS, weights=[1, 2, 3, 4])), saw([0, 2], [1.0, 0.0]))
    # weights .1 .2 .3 .4: seen .1 * 1 + .3 * 0, unseen .2 * 1/4 + .4 * 3/4 = .35
    assert found.value == pytest.approx(0.45)
    # unseen bits: .04 * 3/16 + .16 * 3/16 = .0375
    assert found.stderr == pytest.approx(np.sqrt(0.0375))
    assert (found.n_items, found.fallback) == (2, None)


def test_an_unsure_ability_adds_its_delta_variance():
    found = only(by_hand(bank_of(BITS), variance=0.5), saw([0, 1], [1.0, 1.0]))
    # G = (1/4)(1/4 * 2 + 3/16 * 1) = .171875; .5 G^2 + (1/16)(1/4 + 3/16) = .0147705 + .0273438
    assert found.stderr == pytest.approx(np.sqrt(0.5 * 0.171875**2 + 0.02734375))


def test_dispersion_scales_the_variance_of_unseen_scores():
    found = only(by_hand(bank_of(BITS), dispersion=0.2), saw([0, 1], [1.0, 0.5]))
    assert found.value == pytest.approx((1.5 + 0.5 + 0.75) / 4)
    assert found.stderr == pytest.approx(np.sqrt(0.2 * 0.02734375))


def test_equal_weights_give_the_blend_of_the_paper():
    found = only(by_hand(bank_of(BITS)), saw([3], [1.0]))
    assert found.value == pytest.approx(1 / 4 * 1 + 3 / 4 * np.mean([1 / 2, 1 / 4, 1 / 2]))


def test_the_standard_error_is_at_most_that_of_any_share_of_that_mean():
    found = only(by_hand(bank_of(BITS), variance=1e9), saw([0, 1], [1.0, 1.0]))
    assert found.stderr == pytest.approx(np.sqrt(found.value * (1 - found.value)))


# ---------------------------------------------------------------- edges


@pytest.fixture(scope="module")
def truth():
    return world(0, models=60, items=120)


@pytest.fixture(scope="module")
def fitted(truth):
    return PIrt().fit(bank_of(truth.answers[:3], leaderboard=truth.answers[3:20]))


def test_the_whole_bank_gives_the_exact_weighted_mean(truth):
    weights = np.arange(1.0, 121.0)
    whole = PIrt().fit(bank_of(truth.answers[:3], weights=weights))
    order = np.random.default_rng(0).permutation(120)
    found = only(whole, saw(order, truth.answers[50, order], weights=np.full(120, 7.0)))
    assert found.value == pytest.approx(truth.answers[50] @ weights / weights.sum(), abs=1e-12)
    assert (found.stderr, found.n_items, found.fallback) == (0.0, 120, None)


@pytest.mark.parametrize("bit", [0.0, 1.0])
@pytest.mark.parametrize("prior", [None, "normal"])
def test_all_right_or_all_wrong_is_finite_and_unsure(truth, bit, prior):
    whole = PIrt(prior=prior).fit(bank_of(truth.answers[:3], leaderboard=truth.answers[3:20]))
    found = only(whole, saw(range(40), np.full(40, bit)))
    assert 0 < found.value < 1
    assert 0 < found.stderr < 0.5


def test_without_answers_the_level_is_the_endpoints_ability_and_hardly_known(fitted, truth):
    found = only(fitted, saw([], []))
    centre = fitted.fit.items.probability(fitted.fit.parents.mean(0)).mean()
    assert found.value == pytest.approx(centre)
    assert (found.n_items, found.fallback) == (0, "no-items")
    assert found.stderr > 0.1  # a standard deviation of ability, theta ~ N(., 1)


def test_a_failed_item_is_one_that_was_not_asked(fitted, truth):
    y = truth.answers[40, :20].copy()
    y[[3, 7]] = np.nan
    kept = [i for i in range(20) if i not in (3, 7)]
    assert only(fitted, saw(range(20), y)) == only(fitted, saw(kept, y[kept]))


def test_the_order_of_answers_and_of_other_candidates_changes_nothing(fitted, truth):
    one, other = saw(range(30), truth.answers[40, :30]), saw(range(5), truth.answers[41, :5])
    back = saw(range(29, -1, -1), truth.answers[40, 29::-1])
    forwards, backwards = only(fitted, one), only(fitted, back)
    assert backwards.value == pytest.approx(forwards.value, abs=1e-12)
    assert fitted.estimate([other, one], earlier=[other])[1] == (forwards,)
    assert fitted.frozen([other]).estimate([one])[0] == (forwards,)


def test_permuting_the_bank_changes_nothing(truth):
    order = np.random.default_rng(1).permutation(120)
    place = np.argsort(order)
    seen = np.arange(25)
    one = PIrt().fit(bank_of(truth.answers[:12]))
    other = PIrt().fit(bank_of(truth.answers[:12, order]))
    a, b = (only(f, saw(at, truth.answers[40, seen])) for f, at in ((one, seen), (other, place[seen])))
    assert b.value == pytest.approx(a.value, abs=1e-4)
    assert b.stderr == pytest.approx(a.stderr, abs=1e-4)


def test_fractions_are_shares_of_a_right_answer_with_less_spread(truth):
    rng = np.random.default_rng(0)
    soft = np.clip(truth.probabilities + 0.1 * rng.normal(size=truth.probabilities.shape), 0, 1)
    hard = PIrt().fit(bank_of(truth.answers[:12]))
    fitted = PIrt().fit(bank_of(soft[:12]))
    assert fitted.fit.dispersion[0] < 0.3
    assert hard.fit.dispersion[0] == 1.0
    found = only(fitted, saw(range(30), soft[40, :30]))
    assert found.value == pytest.approx(soft[40].mean(), abs=4 * found.stderr)
    assert found.stderr < only(hard, saw(range(30), truth.answers[40, :30])).stderr
    assert np.isfinite(only(fitted, saw([0, 1], [0.5, 0.5])).value)


def test_one_ability_serves_all_tasks(truth):
    task = np.repeat([0, 1], 60)
    two = PIrt().fit(bank_of(truth.answers[:12], task=task))
    (low,), (high,) = (two.estimate([saw(range(60), np.full(60, bit))]) for bit in (0.0, 1.0))
    assert high[1].value > low[1].value + 0.2  # answers to task 0 alone move task 1
    assert (high[0].stderr, high[1].n_items, high[1].fallback) == (0.0, 0, "no-items")


# ---------------------------------------------------------------- models to calibrate on


def test_few_models_are_told_and_still_no_worse_than_the_mean():
    errors = {"p": [], "mean": []}
    for seed in range(6):
        truth = world(seed, models=33, items=300)
        fitted, rng = PIrt().fit(bank_of(truth.answers[:3])), np.random.default_rng(seed)
        for y in truth.answers[3:]:
            seen = rng.choice(300, 30, replace=False)
            found = only(fitted, saw(seen, y[seen]))
            assert found.fallback == "few-models"
            errors["p"].append(found.value - y.mean())
            errors["mean"].append(y[seen].mean() - y.mean())
    assert np.abs(errors["p"]).mean() < np.abs(errors["mean"]).mean()


def test_few_models_keep_abilities_near_their_prior():
    # were abilities free to move together, three models would share one of about 6, with slopes in place of intercepts
    found = calibrated(bank_of(world(0, models=3, items=600).answers))
    assert np.abs(found.parents).max() < 2


@pytest.mark.parametrize(
    "endpoints",
    [np.tile(BITS[0], (3, 1)), np.ones((2, 4)), np.full((2, 4), np.nan), np.zeros((0, 4)), np.full((2, 4), 0.5)],
    ids=["identical", "all right", "never asked", "none", "halves"],
)
def test_degenerate_endpoints_give_finite_estimates(endpoints):
    found = only(PIrt().fit(bank_of(endpoints)), saw([0, 2], [1.0, 0.0]))
    assert 0 < found.value < 1
    assert 0 < found.stderr < 0.5
    assert found.fallback == "few-models"


def test_copies_of_a_model_and_models_without_answers_count_for_nothing(truth):
    y = truth.answers
    copies = bank_of(y[:4], designs=y[[1, 1, 5]], leaderboard=np.vstack([y[5:15], np.full(120, np.nan), y[2]]))
    once = bank_of(y[[2, 5, 1, 0, 3]], leaderboard=y[6:15])
    one, other = PIrt().fit(copies), PIrt().fit(once)
    assert one.fit.answers.shape == (14, 120)
    assert one.fit.parents.shape == (4, 1)
    assert len(np.unique(one.fit.answers, axis=0)) == 14
    # the same models in another order
    np.testing.assert_allclose(one.fit.items.intercepts, other.fit.items.intercepts, atol=1e-3)


def test_parents_are_the_abilities_of_the_endpoints_wherever_their_rows_stand(truth):
    y = truth.answers
    fit = calibrated(bank_of(y[[7, 3]], leaderboard=y[:20]))  # both are in the leaderboard too
    plain = calibrated(bank_of(y[:20]))
    np.testing.assert_allclose(fit.parents, plain.parents[[3, 7]], atol=1e-3)


# ---------------------------------------------------------------- metrics and options


def test_a_negated_metric_is_estimated_in_its_own_units(truth):
    up = PIrt().fit(bank_of(truth.answers[:12]))
    down = PIrt().fit(bank_of(truth.answers[:12] - 1, metrics=(Metric("error", False),)))
    y = truth.answers[40, :30]
    a, b = only(up, saw(range(30), y)), only(down, saw(range(30), y - 1))
    assert b.value == pytest.approx(a.value - 1, abs=1e-9)
    assert b.stderr == pytest.approx(a.stderr, abs=1e-9)


def test_tasks_that_no_logistic_model_fits_fall_back_to_the_mean_and_teach_nothing(truth):
    task, rng = np.repeat([0, 1, 2], 40), np.random.default_rng(0)
    y = truth.answers.copy()
    y[:, 40:80] = rng.normal(size=(60, 40)) ** 3 * 50  # heavy tails: many would be clipped
    y[:, 80:] = -rng.exponential(size=(60, 40))
    metrics = (Metric("acc", True), Metric("score", True), Metric("word_perplexity", True, "pairs"))
    bank = bank_of(y[:3], leaderboard=y[3:20], task=task, metrics=metrics)
    bank = replace(bank, endpoints=np.where(task == 1, y[:3] * np.where(np.arange(120) % 5, 1, 40), y[:3]))
    seen = np.r_[0:20, 40:60, 80:100]
    (found,) = PIrt().fit(bank).estimate([saw(seen, y[40, seen])])
    (alone,) = PIrt().fit(bank_of(y[:3, :40], leaderboard=y[3:20, :40])).estimate([saw(range(20), y[40, :20])])
    assert [e.fallback for e in found] == [None, "unbounded", "pairs"]
    assert found[1].value == pytest.approx(y[40, 40:60].mean())
    assert found[2].value == pytest.approx(y[40, 80:100].mean())
    assert found[0].value == pytest.approx(alone[0].value, abs=1e-4)


def test_tiny_cutoffs_keep_the_mean_of_the_models():
    # means .5, .5, .55. Above c in [.4, .8) lie 2 of 4 of each: off by 0, 0, .05; in [.2, .4) the last has 3: .2
    y = np.array([[0.2, 0.2, 0.8, 0.8], [0.8, 0.2, 0.2, 0.8], [0.4, 0.8, 0.2, 0.8]])
    fit = calibrated(bank_of(y), binarize="tiny")
    assert 0.4 <= fit.cutoffs[0] < 0.8
    np.testing.assert_array_equal(np.unique(fit.answers), [0.0, 1.0])
    assert fit.dispersion[0] == 1.0


def test_tiny_cutoffs_leave_bits_and_what_was_seen_as_they_are(truth):
    bank = bank_of(truth.answers[:12])
    one, other = PIrt().fit(bank), PIrt(binarize="tiny").fit(bank)
    assert only(one, saw(range(30), truth.answers[40, :30])) == only(other, saw(range(30), truth.answers[40, :30]))
    soft = PIrt(binarize="tiny").fit(bank_of(truth.probabilities[:12]))
    nearly = saw(range(119), truth.probabilities[40, :119])
    assert only(soft, nearly).value == pytest.approx(truth.probabilities[40].mean(), abs=1 / 120)


@pytest.mark.parametrize("wrong", [{"prior": "uniform"}, {"binarize": "huge"}, {"binarize": True}])
def test_unknown_options_are_named(wrong):
    (key,) = wrong
    with pytest.raises(ConfigError, match=f"estimator.{key}"):
        make("estimator", {"_target_": "evomerge.estimators.p_irt.PIrt", **wrong})


# ---------------------------------------------------------------- in a world where the model is true


def test_with_a_leaderboard_intervals_hold_and_errors_are_below_the_means():
    off, covered, plain = [], [], []
    for seed in range(4):
        truth = world(seed, models=69, items=400)
        bank = bank_of(truth.answers[:3], leaderboard=truth.answers[3:29])
        fitted, rng = PIrt().fit(bank), np.random.default_rng(seed)
        for y in truth.answers[29:]:
            seen = rng.choice(400, 40, replace=False)
            found = only(fitted, saw(seen, y[seen]))
            off.append(found.value - y.mean())
            covered.append(abs(off[-1]) < 1.96 * found.stderr)
            plain.append(y[seen].mean() - y.mean())
    assert np.abs(off).mean() < 0.9 * np.abs(plain).mean()
    assert 0.9 < np.mean(covered) < 0.99
