"""CMA-ES: that it climbs, by how much for how little, and that starts and steps are those asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evomerge.errors import ConfigError
from evomerge.optimizers.cma_es import CmaEs
from evomerge.problem import Problem
from tests.optimizers.driving import go, plain


def best_after(optimizer, evaluations, score):
    asked, told = go(optimizer, evaluations // optimizer.lag, score)
    values = [r.fitness[0] for batch in told for r in batch]
    candidates = [c for batch in asked for c in batch]
    return candidates[int(np.argmax(values))].genome, max(values)


def sphere(centre):
    return lambda candidate: -float(((candidate.genome - centre) ** 2).sum())


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_the_centre_of_a_shifted_sphere(seed):
    centre = np.array([0.3, 0.62, 0.45, 0.2, 0.7, 0.55])
    genome, value = best_after(CmaEs(plain(6), seed), 1200, sphere(centre))
    assert value > -1e-12
    assert np.abs(genome - centre).max() < 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_the_centre_of_an_ill_conditioned_rotated_ellipsoid(seed):
    centre = np.array([0.3, 0.62, 0.45, 0.4])
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))
    axes = 10.0 ** np.array([0, 1, 2, 3])  # condition number 1e6

    def ellipsoid(candidate):
        return -float(((axes * (turn @ (candidate.genome - centre))) ** 2).sum())

    genome, _ = best_after(CmaEs(plain(4), seed), 3200, ellipsoid)
    assert np.abs(genome - centre).max() < 1e-6


def test_it_climbs_and_does_not_descend():
    asked, _ = go(CmaEs(plain(3), 1), 60, lambda c: float(c.genome.sum()))
    last = np.array([c.genome for c in asked[-1]])
    assert last.min() > 0.99


@pytest.mark.parametrize("corner", [0.0, 1.0])
def test_it_reaches_an_optimum_on_a_bound(corner):
    genome, _ = best_after(CmaEs(plain(4), 1), 1000, sphere(np.full(4, corner)))
    assert np.abs(genome - corner).max() < 1e-6


def test_the_mean_is_the_centre_after_convergence_and_inside_the_cube():
    centre = np.array([0.3, 0.62, 0.45])
    optimizer = CmaEs(plain(3), 1)
    go(optimizer, 120, sphere(centre))
    assert np.abs(optimizer.mean() - centre).max() < 1e-6


@pytest.mark.parametrize(("size", "population"), [(2, 6), (6, 9), (12, 11), (64, 16)])
def test_the_population_is_four_plus_three_ln_d(size, population):
    assert CmaEs(plain(size), 1).lag == population


def test_the_population_can_be_set():
    optimizer = CmaEs(plain(3), 1, population=13)
    assert (optimizer.lag, len(optimizer.ask(99))) == (13, 13)


@pytest.mark.parametrize("start", [None, [0.31, 0.62, 0.07]])
def test_the_start_or_else_the_defaults_are_its_first_mean(start):
    variables = [replace(v, default=d) for v, d in zip(plain(3).variables, (0.2, 0.55, 0.9), strict=True)]
    given = () if start is None else (np.array(start),)
    optimizer = CmaEs(Problem(tuple(variables), starts=given), 1, sigma=1e-7)
    wanted = np.array([0.2, 0.55, 0.9] if start is None else start)
    assert np.abs(optimizer.mean() - wanted).max() < 1e-6
    for candidate in optimizer.ask(99):
        assert np.abs(candidate.genome - wanted).max() < 1e-5


def test_a_start_on_a_bound_is_drawn_in_so_that_samples_are_not_reflected():
    optimizer = CmaEs(plain(2, [0.0, 1.0]), 1, sigma=1e-7)
    assert np.abs(optimizer.mean() - [0.02, 0.98]).max() < 1e-6


def test_each_variable_has_its_own_first_step():
    steps = np.array([0.01, 0.02, 0.04, 0.08])
    variables = [replace(v, step=s) for v, s in zip(plain(4).variables, steps, strict=True)]
    found = np.array(
        [c.genome for seed in range(150) for c in CmaEs(Problem(tuple(variables)), seed).ask(99)]
    )  # (1200, 4)
    assert found.std(axis=0) / steps == pytest.approx(1.0, abs=0.08)
    assert found.mean(axis=0) == pytest.approx(0.5, abs=0.01)


def test_sigma_scales_every_step():
    variables = [replace(v, step=s) for v, s in zip(plain(2).variables, (0.02, 0.1), strict=True)]
    found = np.array(
        [c.genome for seed in range(150) for c in CmaEs(Problem(tuple(variables)), seed, sigma=0.5).ask(99)]
    )
    assert found.std(axis=0) == pytest.approx([0.01, 0.05], rel=0.08)


def test_one_variable_is_refused_with_what_to_use_instead():
    with pytest.raises(
        ConfigError, match=r"at least 2 variables, this space has 1\. Use optimizer=coarse_to_fine, ga or uniform"
    ):
        CmaEs(plain(1), 1)


@pytest.mark.parametrize("population", [0, 1, 2, -4])
def test_a_population_under_three_is_refused(population):
    with pytest.raises(ConfigError, match=rf"optimizer.population is {population}; CMA-ES needs at least 3"):
        CmaEs(plain(4), 1, population=population)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf")])
def test_a_step_that_is_no_positive_number_is_refused(sigma):
    with pytest.raises(ConfigError, match=r"optimizer.sigma is .* wanted a positive number"):
        CmaEs(plain(4), 1, sigma=sigma)
