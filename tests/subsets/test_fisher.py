"""Items are drawn by what they tell about the endpoints' general ability."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evomerge.errors import ConfigError
from evomerge.subsets.fisher import Fisher, information
from tests.subsets.banks import one_task


@pytest.fixture(scope="module")
def bank():
    """Items 0-39 split the models by ability, 40-79 by chance; 80-99 are solved by all but the weakest tenth."""
    rng = np.random.default_rng(0)
    theta = rng.normal(size=200)
    level = rng.normal(0, 0.3, 40)
    sharp = 1 / (1 + np.exp(-3 * (theta[:, None] - level)))
    blunt, easy = np.full((200, 40), 0.5), 1 / (1 + np.exp(-2 * (theta[:, None] + 2.5)))
    p = np.hstack([sharp, blunt, np.tile(easy, 20)])
    others = (rng.random(p.shape) < p).astype(float)
    able = np.argsort(np.abs(theta))[:3]
    return replace(one_task(others[able]), leaderboard=np.delete(others, able, 0))


def test_sharp_items_near_the_endpoints_tell_most_and_none_is_left_out(bank):
    root = np.sqrt(information(bank))
    assert np.median(root[:40]) > 2 * np.median(root[40:80])
    assert np.median(root[:40]) > 2 * np.median(root[80:])
    sampler, hits = Fisher(n=30).fit(bank, 1), np.zeros(100)
    for number in range(200):
        hits[sampler.draw(number).index] += 1
    assert (hits > 0).all()
    chances = sampler.sampler.inclusion  # items are named in their order: the canonical one
    unbounded = chances < 1
    expected = np.maximum(root, 0.05 * root.max())
    assert chances[unbounded] / expected[unbounded] == pytest.approx((chances / expected)[unbounded][0])


def test_information_is_that_of_the_endpoints_ability(bank):
    weak = replace(bank, endpoints=np.zeros((1, 100)))
    assert np.median(information(weak)[80:]) > 2 * np.median(information(bank)[80:])


def test_a_small_leaderboard_is_refused(bank):
    short = np.vstack([bank.leaderboard[:49], np.full((30, 100), np.nan)])
    with pytest.raises(ConfigError, match=r"leaderboard of 50 models and knows 49\. .* subset=neyman"):
        Fisher(n=30).fit(replace(bank, leaderboard=short), 1)
