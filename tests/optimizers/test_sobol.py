"""Sobol points: balanced on every axis, and one sequence whatever the batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import qmc

from evomerge.errors import ConfigError
from evomerge.optimizers.sobol import Sobol
from evomerge.optimizers.uniform import Uniform
from evomerge.problem import Problem, level_of
from evomerge.types import Variable
from tests.optimizers.driving import go, plain


def sample(n, *, seed=1, batch=8, problem=None, kind=Sobol):
    asked, _ = go(kind(problem or plain(3), seed, batch=batch), -(-n // batch), lambda c: 0.0)
    return np.array([c.genome for b in asked for c in b])[:n]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.integers(1, 9))
def test_of_the_first_points_each_part_of_each_axis_has_one(seed, power, size):
    n = 2**power
    found = sample(n, seed=seed, problem=plain(size))
    assert (np.sort((found * n).astype(int), axis=0) == np.arange(n)[:, None]).all()


def test_a_point_depends_on_seed_and_id_alone_and_not_on_the_batch():
    assert sample(24, batch=8).tobytes() == sample(24, batch=5).tobytes() == sample(24, batch=24).tobytes()


def test_it_leaves_smaller_gaps_than_uniform_sampling():
    for seed in range(10):
        rival = qmc.discrepancy(sample(64, seed=seed, kind=Uniform))
        assert qmc.discrepancy(sample(64, seed=seed)) < 0.4 * rival


def test_a_point_is_uniform_over_seeds():
    found = np.array([sample(3, seed=seed)[2] for seed in range(400)])  # (400, 3)
    counts = np.array([np.histogram(found[:, i], bins=5, range=(0, 1))[0] for i in range(3)])  # (3, 5)
    assert (((counts - 80) ** 2 / 80).sum(axis=1) < 18.5).all()  # 99.9 % point of chi-square, 4 d.o.f.


def test_levels_of_a_choice_come_equally_often():
    variables = (Variable("m", "method", 0.0, 4.0, "choice", 0.125, 0.3, levels=4), *plain(2).variables)
    found = sample(32, problem=Problem(variables))
    assert np.bincount([level_of(g, 4) for g in found[:, 0]]).tolist() == [8, 8, 8, 8]


@pytest.mark.parametrize("batch", [0, -1])
def test_an_empty_batch_is_refused(batch):
    with pytest.raises(ConfigError, match=f"optimizer.batch is {batch}; wanted at least 1"):
        Sobol(plain(2), 1, batch=batch)


def test_more_variables_than_there_are_sobol_axes_are_refused():
    with pytest.raises(ConfigError, match=r"21202 variables, Sobol points at most 21201. Use optimizer=uniform"):
        Sobol(plain(21202), 1)
