"""Item scores of any metric on one scale, and what they say of an item."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evomerge.subsets.answers import deviations, distinct, prior, scaled, units_of
from evomerge.types import Metric
from tests.subsets.banks import one_task


def test_the_prior_counts_the_expected_answer_once():
    bank = one_task([[1, 0, np.nan], [1, 1, np.nan]])
    assert prior(bank) == pytest.approx([2.75 / 3, 1.75 / 3, 0.75])
    others = np.array([[0, 1, 1], [0, 1, np.nan], [1, 1, np.inf]])
    assert prior(replace(bank, leaderboard=others)) == pytest.approx([(2 + 1 / 3) / 3, 2 / 3, 1])


def test_with_nothing_known_the_prior_is_a_coin():
    assert prior(one_task(np.zeros((0, 3)))) == pytest.approx([0.5] * 3)


def test_scores_beyond_bits_are_scaled_by_the_endpoints_range():
    bank = one_task([[-30.0, -10.0], [-20.0, np.nan]], metric=Metric("tokens", False))
    assert not units_of(bank).bounded[0]
    assert scaled(bank, np.array([[-30.0, -15.0], [-99.0, 0.0]])).tolist() == [[0, 0.75], [0, 1]]
    assert deviations(bank) == pytest.approx([0.25, 0])


def test_negated_bits_are_bits():
    bank = one_task([[-1.0, 0.0]], metric=Metric("error", False))
    assert units_of(bank).bounded[0]
    assert scaled(bank, bank.endpoints).tolist() == [[0, 1]]


def test_copies_count_once_silent_models_never_and_endpoints_are_known():
    bank = one_task([[1, 0, 1], [np.nan, 0, 1]])
    others = np.array([[1, 0, 1], [0, 0, 0], [np.nan] * 3, [np.nan, 0, 1]])
    rows, endpoints = distinct(replace(bank, leaderboard=others))
    assert len(rows) == 3
    found = {tuple(np.nan_to_num(row, nan=-1)): k for k, row in enumerate(rows)}
    assert sorted(endpoints) == sorted([found[1, 0, 1], found[-1, 0, 1]])
