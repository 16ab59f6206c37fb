"""The calibration of items and abilities, against known worlds, grids and arithmetic by hand."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from scipy.special import expit

from evomerge.estimators.irt import ItemParameters, calibrate, n_dimensions
from evomerge.estimators.irt_ability import LIMIT, Ability, Answers, ability, mixed, mixture
from tests.estimators.irt_world import world

LINE = ItemParameters(np.array([[1.0], [2.0], [0.5], [1.5]]), np.array([0.0, 1.0, -1.0, 0.5]))
PLANE = ItemParameters(
    np.array([[1.0, 0.3], [0.2, 1.4], [0.8, 0.8], [1.6, 0.1], [0.4, 0.9]]), np.array([0.0, 0.5, -1.0, 1.0, 0.2])
)


def answers(index, right, dispersion=1.0):
    right = np.asarray(right, dtype=float)
    return Answers(np.array(index, dtype=np.int64), right, np.full(len(right), dispersion))


# ---------------------------------------------------------------- calibration


def test_a_simulated_world_of_60_models_and_1000_items_is_found_again_within_5_seconds():
    truth = world(0, models=60, items=1000)
    started = time.process_time()
    found = calibrate(truth.answers, dimensions=1)
    assert time.process_time() - started < 5
    off = found.items.probability(found.abilities) - truth.probabilities
    assert np.sqrt(np.mean(off**2)) < 0.08
    assert np.corrcoef(found.abilities[:, 0], truth.abilities)[0, 1] > 0.98


def test_calibration_is_a_maximum_of_the_posterior_written_out():
    y = world(1, models=12, items=30).answers
    y[3, 4] = np.nan
    y[5, 6] = 0.5

    def height(theta, log_a, b):
        z = theta * np.exp(log_a).T - b
        likelihood = np.nansum(y * z - np.log1p(np.exp(z)) + 0 * y)
        priors = (theta**2).sum() / 2 + (log_a**2).sum() / (2 * 0.5**2) + ((b - b.mean()) ** 2).sum() / (2 * 2.0**2)
        return likelihood - priors

    found = calibrate(y)
    top = [found.abilities, np.log(found.items.slopes), found.items.intercepts]
    best = height(*top)
    rng = np.random.default_rng(0)
    for size in (1e-2, 1e-1, 1.0):
        for _ in range(20):
            assert height(*[x + size * rng.normal(size=x.shape) for x in top]) < best


def test_items_that_were_not_asked_tell_nothing():
    y = world(2, models=15, items=40).answers
    y[4], y[:, 7] = np.nan, np.nan
    found = calibrate(y)
    assert found.abilities[4] == pytest.approx(0.0, abs=0.1)  # its prior
    assert found.items.slopes[7] == pytest.approx(1.0, abs=1e-3)
    assert found.items.intercepts[7] == pytest.approx(np.delete(found.items.intercepts, 7).mean(), abs=1e-2)
    y = np.delete(y, 4, axis=0)
    np.testing.assert_allclose(calibrate(y).items.slopes, found.items.slopes, atol=0.02)


def test_abilities_have_mean_zero():
    for models in (2, 12, 40):
        np.testing.assert_allclose(
            calibrate(world(0, models=models, items=60).answers).abilities.mean(0), 0, atol=1e-12
        )


def test_permuted_items_get_the_same_parameters():
    y = world(3, models=20, items=80).answers
    order = np.random.default_rng(0).permutation(80)
    one, other = calibrate(y), calibrate(y[:, order])
    np.testing.assert_allclose(other.items.slopes, one.items.slopes[order], atol=1e-3)
    np.testing.assert_allclose(other.items.intercepts, one.items.intercepts[order], atol=1e-3)


def test_calibration_is_deterministic_and_leaves_the_global_generators_alone():
    import torch

    y, before, state = world(4, models=35, items=50).answers, torch.get_rng_state(), np.random.get_state()[1].copy()
    one, other = calibrate(y), calibrate(y)
    assert one.items.slopes.shape == (50, 3)
    np.testing.assert_array_equal(one.items.slopes, other.items.slopes)
    np.testing.assert_array_equal(one.abilities, other.abilities)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_the_abler_of_models_has_the_higher_ability_in_every_dimension_on_average():
    truth = world(5, models=60, items=300)
    found = calibrate(truth.answers, dimensions=3)
    assert np.corrcoef(found.abilities.sum(1), truth.abilities)[0, 1] > 0.95


@pytest.mark.parametrize(("models", "expected"), [(0, 1), (3, 1), (29, 1), (30, 3), (49, 4), (50, 5), (400, 5)])
def test_dimensions_follow_the_number_of_models(models, expected):
    assert n_dimensions(models) == expected


@pytest.mark.parametrize(
    "y",
    [
        np.ones((4, 6)),
        np.zeros((4, 6)),
        np.zeros((0, 6)),
        np.ones((1, 6)),
        np.full((3, 6), 0.5),
        np.tile([1.0, 0.0], (12, 3)),
        np.ones((40, 1)),
    ],
    ids=["right", "wrong", "no models", "one model", "halves", "equal models", "one item"],
)
def test_degenerate_answers_give_finite_parameters(y):
    found = calibrate(y)
    assert np.isfinite(found.abilities).all()
    assert np.isfinite(found.items.intercepts).all()
    assert (found.items.slopes > 0).all() and np.isfinite(found.items.slopes).all()


def test_importing_irt_does_not_import_torch():
    code = "import sys, evomerge.estimators.irt; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_probability_by_hand():
    # 2 * 1 - 1 = 1 -> 1 / (1 + e^-1) = .7310586; .5 * 1 + 1 = 1.5 -> .8175745
    p = LINE.probability(np.array([1.0]))
    assert p[1] == pytest.approx(0.7310586)
    assert p[2] == pytest.approx(0.8175745)


# ---------------------------------------------------------------- ability


@pytest.mark.parametrize("right", [[1, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0], [0.5, 0.2, 1, 0]])
def test_ability_on_a_line_is_the_top_of_a_fine_grid(right):
    grid = np.linspace(-8, 8, 160_001)
    z = grid[:, None] * LINE.slopes[:, 0] - LINE.intercepts
    height = (np.array(right) * z - np.logaddexp(0, z)).sum(1) - (grid - 0.3) ** 2 / 2
    found = ability(LINE, answers(range(4), right), centre=np.array([0.3]))
    assert found.mean[0] == pytest.approx(grid[height.argmax()], abs=2e-4)
    curvature = np.diff(height, 2)[height.argmax() - 1] / (grid[1] - grid[0]) ** 2
    assert found.covariance[0, 0] == pytest.approx(-1 / curvature, rel=0.02)


def test_ability_on_a_plane_is_the_top_of_a_grid():
    right, axis = np.array([1.0, 0.0, 1.0, 0.0, 1.0]), np.linspace(-4, 4, 801)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    z = grid @ PLANE.slopes.T - PLANE.intercepts
    height = (right * z - np.logaddexp(0, z)).sum(1) - (grid**2).sum(1) / 2
    found = ability(PLANE, answers(range(5), right), centre=np.zeros(2))
    np.testing.assert_allclose(found.mean, grid[height.argmax()], atol=0.0051)


def test_no_answers_leave_the_prior():
    found = ability(PLANE, answers([], []), centre=np.array([0.4, -1.0]))
    np.testing.assert_array_equal(found.mean, [0.4, -1.0])
    np.testing.assert_allclose(found.covariance, np.eye(2))


@pytest.mark.parametrize(("right", "bound"), [([1, 1, 1, 1], LIMIT), ([0, 0, 0, 0], -LIMIT)])
def test_without_a_prior_all_right_or_all_wrong_stops_at_the_limit(right, bound):
    found = ability(LINE, answers(range(4), right), centre=np.zeros(1), prior=False)
    assert found.mean[0] == bound
    assert np.isfinite(found.covariance).all()


def test_without_a_prior_the_ability_solves_the_score_equation():
    found = ability(LINE, answers(range(4), [1, 0, 1, 1]), centre=np.zeros(1), prior=False)
    p = LINE.probability(found.mean)
    assert (LINE.slopes[:, 0] * (np.array([1, 0, 1, 1]) - p)).sum() == pytest.approx(0, abs=1e-4)


def test_steep_items_do_not_make_newton_swing():
    items = ItemParameters(np.full((50, 1), 6.0), np.full(50, 0.7))
    right = np.repeat([1.0, 0.0], [40, 10])
    found = ability(items, answers(range(50), right), centre=np.array([1.0]))
    p = items.probability(found.mean)
    assert (6.0 * (right - p)).sum() - (found.mean[0] - 1.0) == pytest.approx(0, abs=1e-5)


def test_dispersion_shrinks_the_noise_but_not_the_prior():
    # one item of slope 1 at its middle: H = 1/4, P = 1, so the error is (phi / 4 + 1) / (5 / 4)^2
    items = ItemParameters(np.ones((1, 1)), np.zeros(1))
    found = ability(items, answers([0], [0.5], dispersion=0.2), centre=np.zeros(1))
    assert found.covariance[0, 0] == pytest.approx((0.05 + 1) / 1.5625)


# ---------------------------------------------------------------- mixtures


def likelihood(items, right, theta):
    z = theta @ items.slopes.T - items.intercepts
    return (right * z - np.logaddexp(0, z)).sum(-1)


def test_shares_of_one_parent_give_its_ability_and_spread_along_the_parents():
    parents = np.array([[1.0, -1.0], [0.5, 2.0]])
    found = mixed(Ability(np.array([0.0, 1.0]), np.diag([4.0, 0.0])), parents)
    np.testing.assert_array_equal(found.mean, [0.5, 2.0])
    np.testing.assert_array_equal(found.covariance, [[4.0, -4.0], [-4.0, 4.0]])  # 4 (1, -1)' (1, -1)


def test_a_free_mixture_is_the_likeliest_of_a_grid():
    parents, right = np.array([[1.0, -1.0], [0.5, 2.0]]), np.array([1.0, 0.0, 1.0, 0.0, 1.0])
    axis = np.linspace(-3, 3, 601)
    shares = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    best = shares[likelihood(PLANE, right, shares @ parents).argmax()]
    found = mixture(PLANE, answers(range(5), right), parents=parents, prior=None)
    np.testing.assert_allclose(found.mean, best @ parents, atol=0.02)


def test_a_normal_prior_draws_shares_to_even_ones():
    parents, right = np.array([[1.0, -1.0], [0.5, 2.0]]), np.array([1.0, 0.0, 1.0, 0.0, 1.0])
    axis = np.linspace(-2, 3, 1001)
    shares = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    height = likelihood(PLANE, right, shares @ parents) - ((shares - 0.5) ** 2).sum(1) / (2 * 0.4**2)
    found = mixture(PLANE, answers(range(5), right), parents=parents, prior="normal")
    np.testing.assert_allclose(found.mean, shares[height.argmax()] @ parents, atol=0.01)


@pytest.mark.parametrize("right", [[1, 0, 1, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
def test_a_simplex_mixture_is_the_likeliest_inside_the_simplex(right):
    parents, right = np.array([[1.0, -1.0], [0.5, 2.0], [-1.0, 0.3]]), np.array(right, dtype=float)
    axis = np.linspace(0, 1, 201)
    shares = np.array([[i, j, 1 - i - j] for i in axis for j in axis if i + j <= 1 + 1e-12])
    best = likelihood(PLANE, right, shares @ parents).max()
    found = mixture(PLANE, answers(range(5), right), parents=parents, prior="simplex")
    assert likelihood(PLANE, right, found.mean) >= best - 1e-9
    assert likelihood(PLANE, right, found.mean) <= best + 1e-3


@pytest.mark.parametrize("prior", [None, "normal", "simplex"])
@pytest.mark.parametrize("right", [[1, 1, 1, 1, 1], [0, 0, 0, 0, 0], []])
def test_mixtures_of_unanimous_answers_are_finite_and_within_the_limit(prior, right):
    found = mixture(PLANE, answers(range(len(right)), right), parents=np.array([[1.0, 1.0], [0.5, 2.0]]), prior=prior)
    assert (np.abs(found.mean) <= LIMIT + 1e-9).all()
    assert np.isfinite(found.covariance).all()


def test_linearly_dependent_parents_still_give_one_mixture():
    parents = np.array([[1.0], [0.5], [-0.2]])  # three shares, one ability
    found = mixture(LINE, answers(range(4), [1, 0, 1, 1]), parents=parents, prior=None)
    alone = ability(LINE, answers(range(4), [1, 0, 1, 1]), centre=np.zeros(1), prior=False)
    assert found.mean[0] == pytest.approx(alone.mean[0], abs=1e-4)
    assert found.covariance[0, 0] == pytest.approx(alone.covariance[0, 0], rel=1e-3)


def test_sigma_of_a_mixture_is_the_chance_of_the_paper():
    theta = mixed(Ability(np.array([0.25, 0.75]), np.zeros((2, 2))), np.array([[1.0], [-1.0]])).mean
    assert LINE.probability(theta)[3] == pytest.approx(expit(1.5 * (0.25 - 0.75) - 0.5))
