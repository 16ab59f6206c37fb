"""sep-CMA-ES: quick in many dimensions, at the price of correlations."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.errors import ConfigError
from evomerge.optimizers.cma_es import CmaEs
from evomerge.optimizers.sep_cma import SepCma
from tests.optimizers.driving import go, plain


def left(optimizer, evaluations, centre, axes, turn=None):
    """Ellipsoid value of the mean, to be minimised."""
    turn = np.eye(len(centre)) if turn is None else turn

    def value(genome):
        return float(((axes * (turn @ (genome - centre))) ** 2).sum())

    go(optimizer, evaluations // optimizer.lag, lambda c: -value(c.genome))
    return value(optimizer.mean())


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_the_centre_of_a_shifted_sphere(seed):
    centre = np.linspace(0.2, 0.8, 6)
    assert left(SepCma(plain(6), seed), 1200, centre, np.ones(6)) < 1e-10


def test_of_many_unequal_variables_it_learns_the_scales_sooner_than_cma_es():
    centre, axes = np.linspace(0.2, 0.8, 40), 10.0 ** np.linspace(0, 2, 40)
    diagonal, full = (
        np.mean([np.log(left(member(plain(40), seed), 3000, centre, axes)) for seed in range(3)])
        for member in (SepCma, CmaEs)
    )
    assert diagonal < full - np.log(5)


def test_where_variables_depend_on_each_other_cma_es_is_sooner():
    centre, axes = np.array([0.3, 0.62, 0.45, 0.4]), 10.0 ** np.arange(4)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))
    assert left(SepCma(plain(4), 1), 2000, centre, axes, turn) > 1e3 * left(
        CmaEs(plain(4), 1), 2000, centre, axes, turn
    )


def test_the_population_is_four_plus_three_ln_d_or_as_set():
    assert (SepCma(plain(64), 1).lag, SepCma(plain(64), 1, population=20).lag) == (16, 20)


def test_one_variable_is_refused():
    with pytest.raises(ConfigError, match=r"at least 2 variables, this space has 1"):
        SepCma(plain(1), 1)
