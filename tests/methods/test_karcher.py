"""The Karcher mean against the same iteration on float64 vectors, and against what a mean of directions is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evomerge.errors import MergeError
from evomerge.methods.karcher import METHOD
from tests.methods.test_gram import merged, quick, tensors


def logarithms(mean: np.ndarray, units: np.ndarray) -> np.ndarray:
    """(P, n): the tangent at `mean` that leads to each unit vector."""
    dots = np.clip(units @ mean, -1, 1)[:, None]
    angles = np.arccos(dots)
    return np.where(angles < 1e-5, 0.0, angles / np.where(angles < 1e-5, 1.0, np.sin(angles))) * (units - dots * mean)


def iterated(vectors: np.ndarray, weights: np.ndarray, steps: int) -> np.ndarray:
    """The iteration on vectors, none of them zero."""
    weights = weights / weights.sum()
    lengths = np.linalg.norm(vectors, axis=1)
    units = vectors / lengths[:, None]
    mean = weights @ units
    mean /= np.linalg.norm(mean)
    for _ in range(steps):
        step = weights @ logarithms(mean, units)
        angle = np.linalg.norm(step)
        if angle < 1e-5:
            break
        mean = np.cos(angle) * mean + np.sin(angle) / angle * step
    return mean * (weights @ lengths)


@quick
@given(values=tensors(), weights=st.lists(st.floats(0.05, 1), min_size=4, max_size=4), steps=st.integers(0, 10))
def test_the_iteration_on_coefficients_is_that_on_vectors(values, weights, steps):
    vectors = values.abs().double().reshape(len(values), -1).numpy() + 0.01  # in one orthant: the mean exists
    weights = np.array(weights[: len(values)])
    got = merged(METHOD, values.abs() + 0.01, weight=tuple(weights), max_iter=steps)
    wanted = iterated(vectors, weights, steps)
    torch.testing.assert_close(got.flatten(), torch.from_numpy(wanted).float(), rtol=0, atol=5e-6)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_step_follows_the_arc_that_the_parents_pull_along(steps):
    weights = (0.9, 0.07, 0.03)
    wanted = iterated(np.eye(3), np.array(weights), steps)
    got = merged(METHOD, torch.eye(3), weight=weights, max_iter=steps)
    torch.testing.assert_close(got, torch.from_numpy(wanted).float(), rtol=0, atol=1e-6)


def test_the_mean_is_where_the_weighted_arcs_to_all_parents_balance():
    values = torch.randn(4, 30, generator=torch.Generator().manual_seed(0)) + 0.5
    weights = np.array([0.1, 0.2, 0.3, 0.9])
    mean = merged(METHOD, values, weight=tuple(weights), max_iter=100, tol=1e-7).double().numpy()
    units = values.double().numpy() / np.linalg.norm(values.double().numpy(), axis=1)[:, None]
    pull = weights @ logarithms(mean / np.linalg.norm(mean), units)
    assert np.linalg.norm(pull) < 1e-6


def test_two_parents_meet_in_the_middle_of_their_arc_at_their_mean_length():
    values = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    lengths = values.flatten(1).norm(dim=1)
    middle = torch.nn.functional.normalize((values / lengths.view(2, 1, 1)).sum(0).flatten(), dim=0)
    torch.testing.assert_close(merged(METHOD, values).flatten(), middle * lengths.mean(), rtol=0, atol=1e-6)


def test_the_order_of_the_parents_changes_nothing():
    values = torch.randn(4, 5, 7, generator=torch.Generator().manual_seed(0)) + 0.3
    there = merged(METHOD, values, weight=(0.1, 0.2, 0.3, 0.9))
    back = merged(METHOD, values.flip(0), weight=(0.9, 0.3, 0.2, 0.1))
    torch.testing.assert_close(there, back, rtol=0, atol=2e-6)


def test_only_the_ratios_of_the_weights_matter():
    values = torch.randn(3, 20, generator=torch.Generator().manual_seed(0))
    one, other = (merged(METHOD, values, weight=w) for w in ((0.1, 0.2, 0.3), (0.3, 0.6, 0.9)))
    torch.testing.assert_close(one, other)


def test_identical_parents_merge_to_themselves():
    parent = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    got = merged(METHOD, torch.stack([parent] * 3), weight=(0.1, 0.2, 0.9))
    torch.testing.assert_close(got, parent, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [0.0, 1.0])
def test_a_parent_no_longer_than_the_tolerance_lends_its_length_alone(size):
    values = torch.tensor([[size, 0.0], [0.0, 4.0]])
    torch.testing.assert_close(merged(METHOD, values, tol=1.5), torch.tensor([0.0, (4 + size) / 2]))


def test_parents_of_zeros_merge_to_zeros():
    assert torch.equal(merged(METHOD, torch.zeros(3, 3, 4)), torch.zeros(3, 4))


@pytest.mark.parametrize("factor", [-1.0, -0.7, -3.0])
def test_opposite_parents_have_the_direction_of_the_first(factor):
    first = torch.randn(11, 13, generator=torch.Generator().manual_seed(0))
    got = merged(METHOD, torch.stack([first, factor * first]))
    torch.testing.assert_close(got, (1 - factor) / 2 * first, rtol=0, atol=1e-5)


@pytest.mark.parametrize("weight, told", [((0.5, -0.1), "none below 0"), ((0.0, 0.0), "sum to zero")])
def test_weights_without_a_mean_are_refused(weight, told):
    with pytest.raises(MergeError, match=told):
        merged(METHOD, torch.ones(2, 4), weight=weight)
