"""Anchors by columns of answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evomerge.errors import ConfigError
from evomerge.subsets.kmeans_correctness import KmeansCorrectness, columns
from tests.subsets.banks import bank_of, one_task


def test_items_that_the_same_models_solve_share_an_anchor():
    rng = np.random.default_rng(0)
    kind = np.repeat([0, 1, 2], [10, 20, 30])
    solves = np.array([[m & 1, m & 2, m & 4] for m in range(40)]) > 0
    bank = replace(one_task(np.zeros((0, 60))), leaderboard=solves[:, kind].astype(float))
    with pytest.raises(ConfigError, match="needs 20 models of different answers to task 'only' and knows 8"):
        KmeansCorrectness(n=3).fit(bank, 1)  # three kinds of item: eight kinds of model
    noise = rng.random((40, 60)) < 0.02
    bank = replace(bank, leaderboard=(solves[:, kind] ^ noise).astype(float))
    draw = KmeansCorrectness(n=3).fit(bank, 1).draw(0)
    assert sorted(kind[draw.index].tolist()) == [0, 1, 2]
    assert draw.weights == pytest.approx(np.array([10, 20, 30])[kind[draw.index]] / 60)


def test_an_unknown_answer_is_the_mean_of_the_items_known_ones():
    bank = bank_of({"a": 50}, leaderboard=40)
    rows = bank.leaderboard.copy()
    rows[:10, 3] = np.nan
    found = columns(replace(bank, leaderboard=rows))
    known = np.concatenate([rows[10:, 3], bank.designs[:, 3], bank.endpoints[:, 3]])
    assert found.shape == (50, 50)
    assert np.sort(np.unique(found[3])) == pytest.approx([0, known.mean(), 1])


def test_copies_of_a_model_are_no_new_evidence():
    bank = bank_of({"a": 50}, leaderboard=9, designs=5, endpoints=5)
    copied = replace(bank, leaderboard=np.repeat(bank.leaderboard, 3, axis=0))
    with pytest.raises(ConfigError, match=r"knows 19 .* Add a leaderboard, or set subset=neyman"):
        KmeansCorrectness(n=10).fit(copied, 1)
