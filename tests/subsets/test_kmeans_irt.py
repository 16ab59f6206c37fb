"""Anchors by item parameters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evomerge.errors import ConfigError
from evomerge.subsets.kmeans_irt import KmeansIrt
from tests.subsets.banks import bank_of, one_task


def test_easy_middling_and_hard_items_have_anchors_for_their_shares():
    rng = np.random.default_rng(0)
    kind = np.repeat([0, 1, 2], [20, 30, 40])
    p = 1 / (1 + np.exp(-(rng.normal(size=(150, 1)) - np.array([-3.0, 0.0, 3.0])[kind])))
    bank = replace(one_task(np.zeros((0, 90))), leaderboard=(rng.random(p.shape) < p).astype(float))
    draw = KmeansIrt(n=8).fit(bank, 1).draw(0)
    assert np.bincount(kind[draw.index], draw.weights) == pytest.approx(np.array([20, 30, 40]) / 90, abs=0.05)


def test_too_few_models_are_refused_with_what_to_use_instead():
    bank = bank_of({"a": 50}, leaderboard=0, designs=4, endpoints=5)
    with pytest.raises(ConfigError, match=r"subset=kmeans_irt needs 10 .* knows 9 .* set subset=neyman"):
        KmeansIrt(n=10).fit(bank, 1)
