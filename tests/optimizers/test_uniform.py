"""Uniform sampling: the whole cube, equally, and candidate k from (seed, k) alone."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.errors import ConfigError
from evomerge.optimizers.uniform import Uniform
from evomerge.problem import Problem, level_of
from evomerge.types import Variable
from tests.optimizers.driving import go, plain


def sample(n, *, seed=1, batch=8, size=3):
    asked, _ = go(Uniform(plain(size), seed, batch=batch), -(-n // batch))
    return np.array([c.genome for b in asked for c in b])[:n]


def test_every_tenth_of_every_axis_gets_a_tenth_of_the_samples():
    found = sample(4000)
    counts = np.array([np.histogram(found[:, i], bins=10, range=(0, 1))[0] for i in range(3)])  # (3, 10)
    chi2 = ((counts - 400) ** 2 / 400).sum(axis=1)
    assert (chi2 < 27.9).all()  # 99.9 % point of chi-square with 9 degrees of freedom


def test_axes_and_successive_candidates_are_uncorrelated():
    found = sample(4000)
    bound = 4 / np.sqrt(4000)
    assert np.abs(np.corrcoef(found.T) - np.eye(3)).max() < bound
    assert abs(np.corrcoef(found[:-1, 0], found[1:, 0])[0, 1]) < bound


def test_a_candidate_depends_on_seed_and_id_alone_and_not_on_the_batch():
    assert sample(24, batch=8).tobytes() == sample(24, batch=5).tobytes() == sample(24, batch=24).tobytes()


def test_what_is_told_changes_nothing():
    one, _ = go(Uniform(plain(2), 1), 3, lambda c: 1.0)
    other, _ = go(Uniform(plain(2), 1), 3, lambda c: -float(c.id))
    assert [c.genome.tolist() for b in one for c in b] == [c.genome.tolist() for b in other for c in b]


def test_levels_of_a_choice_come_equally_often():
    variables = (Variable("m", "method", 0.0, 4.0, "choice", 0.125, 0.3, levels=4), *plain(2).variables)
    found = [c.genome[0] for c in Uniform(Problem(variables), 1, batch=4000).ask(4000)]
    counts = np.bincount([level_of(g, 4) for g in found])
    assert ((counts - 1000) ** 2 / 1000).sum() < 16.3  # 99.9 % point of chi-square with 3 degrees of freedom


@pytest.mark.parametrize("batch", [0, -1])
def test_an_empty_batch_is_refused(batch):
    with pytest.raises(ConfigError, match=f"optimizer.batch is {batch}; wanted at least 1"):
        Uniform(plain(2), 1, batch=batch)
