"""From a population to scores: equations 6 and 7 by hand, and what is held fixed."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy.special import expit

from evomerge.estimators.covariates import CovariateBank, covariates
from evomerge.estimators.merit import Merit
from evomerge.estimators.merit_estimate import LearnedMerit, dispersion
from evomerge.estimators.merit_fit import Answers, Population, blocks_of, posterior, weak_population
from evomerge.estimators.misfit import Levels
from evomerge.estimators.units import units_of
from evomerge.items import Observed
from tests.estimators.irt_world import bank_of
from tests.estimators.merge_world import errors_of, merges, values_of


def known_of(endpoints, **kinds):
    bank = bank_of(endpoints, **kinds)
    units = units_of(bank)
    return CovariateBank(bank, units, covariates(bank, units, "bits"))


def learned(known, population, phi=1.0):
    return LearnedMerit(known, population, Levels(0.0, 9.0), np.full(len(known.bank.tasks), phi), ())


POPULATION = Population(
    np.array([0.4, 1.0]), np.array([[0.2, 0.05], [0.05, 0.3]]), np.array([0, 0.3, 0, -0.2]), np.full(4, 0.1), 0.1, 9
)


@pytest.mark.parametrize("phi", [1.0, 0.25])
def test_a_score_and_its_error_by_hand(phi):
    known = known_of([[1.0, 0.0, 1.0, 0.0]], weights=[1, 2, 3, 4])
    seen = Observed(0, np.array([2, 1]), np.array([1.0, 0.0]), np.ones(2))
    ((found,),) = learned(known, POPULATION, phi).estimate([seen])
    beta, v = (x[0] for x in posterior(blocks_of([known.answers(seen)], known.x)[0], POPULATION))
    value, noise, gradient = 0.3 * 1 + 0.2 * 0, 0.0, np.zeros(2)
    for i, w, x in ((0, 0.1, np.array([1, 0.5])), (3, 0.4, np.array([1, -0.5]))):
        chance = expit((x @ beta + POPULATION.u[i]) / np.sqrt(1 + np.pi / 8 * (x @ v @ x + 0.1)))
        slope = chance * (1 - chance)
        value += w * chance
        noise += w**2 * (slope + slope**2 * 0.1)
        gradient += w * slope * x
    assert found.value == pytest.approx(value)
    assert found.stderr == pytest.approx(np.sqrt(phi * (noise + gradient @ v @ gradient)))


def test_errors_of_two_tasks_add_up_to_the_error_of_their_mean():
    known = known_of([[1.0, 0.0, 1.0, 0.0]], task=[0, 0, 1, 1])
    p = known.x.shape[1]
    population = Population(np.zeros(p), np.eye(p), np.zeros(4), np.zeros(4), 0.0, 9)
    nothing = Observed(0, np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))
    found = learned(known, population).estimate([nothing])
    slope = np.array([s * (1 - s) for s in population.chances(known.x)])
    gradient = (slope / 4) @ known.x  # of the mean over both tasks: each item weighs 1 / 4
    joint = gradient @ gradient + (slope / 16).sum()
    assert (errors_of(found) ** 2).sum() / 4 == pytest.approx(joint)


def test_a_frozen_estimate_depends_on_ones_own_answers_alone_and_survives_pickling():
    world = merges(0, tasks=2)
    seen, fitted = world.common(60, 0), Merit().fit(world.bank)
    frozen = fitted.frozen(seen[:30])
    together = frozen.estimate(seen[30:], seen[:3])
    assert [frozen.estimate([o])[0] for o in seen[30:]] == together
    assert frozen.frozen(seen).estimate(seen[30:]) == together
    assert pickle.loads(pickle.dumps(frozen)).estimate(seen[30:]) == together


def test_a_frozen_estimate_is_close_to_the_joint_one():
    world = merges(0)
    seen, fitted = world.common(60, 0), Merit().fit(world.bank)
    joint, frozen = fitted.estimate(seen[30:], seen[:30]), fitted.frozen(seen[:30]).estimate(seen[30:])
    assert np.abs(values_of(joint) - values_of(frozen)).max() < 0.03
    np.testing.assert_array_equal(values_of(fitted.frozen(seen).estimate(seen)), values_of(fitted.estimate(seen)))


def test_dispersion_is_one_for_bits_and_the_spread_of_fractions_else():
    known = known_of([[1.0, 0.0] * 50, [1.0, 1.0] * 50], task=[0] * 50 + [1] * 50)
    rng = np.random.default_rng(0)
    right = np.concatenate([(rng.random(50) < 0.5).astype(float), 0.5 + 0.1 * rng.choice([-1.0, 1.0], 50)])
    answers = [Answers(np.arange(100), right, right)]
    bits, fractions = dispersion(answers, known, weak_population(known.x.shape[1], 100))
    assert bits == 1.0
    assert fractions == pytest.approx(0.1**2 / 0.25, rel=0.4)  # the fit is drawn by the bits of the other task
