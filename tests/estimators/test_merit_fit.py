"""The hierarchical fit: optima, covariances, a population recovered, padding that does not show."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from evomerge.estimators.merit_fit import Answers, Population, blocks_of, learn, posterior, weak_population


def answers_of(index, right):
    right = np.asarray(right, dtype=float)
    return Answers(np.asarray(index), right, right)


def simulated(m, n, seed, *, effects=0.0, items=400):
    """Candidates of mu = (0.5, 1.5), standard deviations (0.6, 0.3), each on n items of its own."""
    rng = np.random.default_rng(seed)
    x = np.stack([np.ones(items), rng.choice([-0.5, 0.5], items)], axis=1)
    u = effects * rng.normal(size=items)
    rows = []
    for _ in range(m):
        beta = np.array([0.5, 1.5]) + np.array([0.6, 0.3]) * rng.normal(size=2)
        index = np.sort(rng.permutation(items)[:n])
        rows.append(answers_of(index, rng.random(n) < expit(x[index] @ beta + u[index])))
    return rows, x, u


def test_a_posterior_is_where_the_gradient_vanishes_with_the_inverse_curvature():
    rows, x, _ = simulated(3, 30, 0)
    population = Population(
        np.array([0.2, 1.0]), np.array([[0.5, 0.1], [0.1, 0.4]]), np.zeros(400), np.zeros(400), 0, 9
    )
    (block,) = blocks_of(rows, x)
    found, covariance = posterior(block, population)
    for row, beta, v in zip(rows, found, covariance, strict=True):
        p = expit(x[row.index] @ beta)
        gradient = x[row.index].T @ (row.right - p) - np.linalg.solve(population.sigma, beta - population.mu)
        curvature = (x[row.index].T * (p * (1 - p))) @ x[row.index] + np.linalg.inv(population.sigma)
        np.testing.assert_allclose(gradient, 0, atol=1e-9)
        np.testing.assert_allclose(v, np.linalg.inv(curvature), atol=1e-9)


@pytest.mark.parametrize("right", [np.ones(200), np.zeros(200)])
def test_a_posterior_of_equal_answers_is_finite(right):
    (block,) = blocks_of([answers_of(np.arange(200), right)], np.ones((200, 1)))
    beta, covariance = posterior(block, weak_population(1, 200))
    assert 2 < abs(beta[0, 0]) < 6 and 0 < covariance[0, 0, 0] < 1


def test_rows_of_other_lengths_do_not_show_in_a_posterior():
    rows, x, _ = simulated(4, 30, 0)
    rows[1] = answers_of(rows[1].index[:17], rows[1].right[:17])
    (padded,) = blocks_of(rows, x)
    together = posterior(padded, weak_population(2, 400))[0]
    for row, beta in zip(rows, together, strict=True):
        np.testing.assert_allclose(posterior(blocks_of([row], x)[0], weak_population(2, 400))[0][0], beta, atol=1e-10)


def test_a_population_is_recovered():
    rows, x, _ = simulated(300, 100, 1)
    found = learn(rows, x, item_effects=False)
    np.testing.assert_allclose(found.mu, [0.5, 1.5], atol=0.1)
    np.testing.assert_allclose(np.sqrt(np.diag(found.sigma)), [0.6, 0.3], atol=0.1)
    assert not found.u.any() and found.n == 300


def test_effects_of_items_are_recovered_and_centred():
    rows, x, u = simulated(100, 100, 2, effects=0.8)
    found = learn(rows, x, item_effects=True)
    assert np.corrcoef(found.u, u)[0, 1] > 0.8
    assert found.item_variance == pytest.approx(0.64, rel=0.3)
    assert found.u.mean() == pytest.approx(0, abs=1e-9)
    assert np.all(found.u_variance < found.item_variance)


def test_an_item_that_nobody_was_asked_has_the_spread_of_all_and_no_effect():
    rows, x, _ = simulated(40, 50, 3, effects=0.8)
    rows = [answers_of(r.index[r.index > 0], r.right[r.index > 0]) for r in rows]
    found = learn(rows, x, item_effects=True)
    assert found.u[0] == 0 and found.u_variance[0] == found.item_variance


def test_two_candidates_do_not_make_a_population():
    rows, x, _ = simulated(2, 50, 0)
    found = learn(rows, x, item_effects=False)
    assert found.n == 2 and not found.mu.any()
    np.testing.assert_array_equal(found.sigma, np.eye(2))


def test_chances_are_those_of_a_logistic_function_averaged_over_the_uncertain_coefficients():
    population = Population(np.array([0.8]), np.array([[1.3]]), np.zeros(1), np.full(1, 0.4), 0.4, 9)
    drawn = expit(0.8 + np.sqrt(1.3 + 0.4) * np.random.default_rng(0).normal(size=200_000)).mean()
    assert population.chances(np.ones((1, 1)))[0] == pytest.approx(drawn, abs=0.005)
