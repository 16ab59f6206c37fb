"""Multi-SLERP against the barycentre on the tangent space that it is described as, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from evomerge.errors import MergeError
from evomerge.methods.entries import Entries
from evomerge.methods.multislerp import METHOD
from tests.methods.test_gram import merged, quick, tensors

shares = st.lists(st.floats(0.05, 1), min_size=4, max_size=4)


def barycentre(vectors: np.ndarray, weights: np.ndarray) -> np.ndarray | None:
    """Units seen from their weighted mean on the sphere, averaged there and mapped back; None if they cancel."""
    lengths = np.linalg.norm(vectors, axis=1)
    units = vectors / (lengths + 1e-8)[:, None]
    mean = weights @ units
    if np.linalg.norm(mean) < 1e-6:
        return None
    mean /= np.linalg.norm(mean)
    tangent = weights @ (units - np.outer(units @ mean, mean))
    angle = np.linalg.norm(tangent) + 1e-8
    return (np.cos(angle) * mean + np.sin(angle) / angle * tangent) * (weights @ lengths)


@pytest.mark.parametrize("normalize", [True, False])
@quick
@given(values=tensors(), weights=shares)
def test_the_mean_direction_is_the_barycentre(normalize, values, weights):
    weights = np.array(weights[: len(values)])
    wanted = barycentre(
        values.double().reshape(len(values), -1).numpy(), weights / weights.sum() if normalize else weights
    )
    assume(wanted is not None)
    got = merged(METHOD, values, weight=tuple(weights), normalize_weights=normalize)
    torch.testing.assert_close(got.flatten(), torch.tensor(wanted).float(), rtol=0, atol=1e-5)


def test_unit_vectors_merge_to_a_unit_vector():
    values = torch.nn.functional.normalize(torch.randn(3, 50, generator=torch.Generator().manual_seed(0)))
    assert float(merged(METHOD, values, weight=(0.2, 0.5, 0.9)).norm()) == pytest.approx(1, abs=1e-6)


def test_a_common_factor_of_the_weights_scales_the_result_unless_they_are_normalised():
    values = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0))
    one, two = (
        {n: merged(METHOD, values, weight=w, normalize_weights=n) for n in (True, False)}
        for w in ((0.1, 0.2, 0.3), (0.2, 0.4, 0.6))
    )
    torch.testing.assert_close(one[True], two[True])
    torch.testing.assert_close(2 * one[False], two[False])


def test_the_order_of_the_parents_changes_nothing():
    values = torch.randn(4, 5, 7, generator=torch.Generator().manual_seed(0))
    there = merged(METHOD, values, weight=(0.1, 0.2, 0.3, 0.9))
    back = merged(METHOD, values.flip(0), weight=(0.9, 0.3, 0.2, 0.1))
    torch.testing.assert_close(there, back, rtol=0, atol=1e-6)


def test_a_single_parent_stays_as_it_is_whatever_its_weight():
    values = torch.randn(1, 5, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(merged(METHOD, values, weight=0.3, normalize_weights=False), values[0])


@pytest.mark.parametrize("factor", [-1.0, -0.7, -3.0])
def test_two_opposite_parents_are_added_up_by_weight(factor):
    first = torch.randn(11, 13, generator=torch.Generator().manual_seed(0))
    got = merged(METHOD, torch.stack([first, factor * first]), weight=(0.5, 0.5))
    torch.testing.assert_close(got, (0.5 + 0.5 * factor) * first, rtol=0, atol=1e-6)


def test_three_parents_whose_directions_cancel_are_refused():
    turned = torch.tensor([[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]])
    with pytest.raises(MergeError, match="directions of 3 parents cancel"):
        merged(METHOD, turned)


@pytest.mark.parametrize("n", [2, 3])
def test_parents_of_zeros_merge_to_zeros(n):
    assert torch.equal(merged(METHOD, torch.zeros(n, 3, 4)), torch.zeros(3, 4))


def test_a_parent_of_zeros_shortens_the_others_and_turns_nothing():
    values = torch.zeros(3, 6)
    values[0] = torch.arange(6.0)
    torch.testing.assert_close(merged(METHOD, values, weight=(0.5, 0.25, 0.25)), values[0] / 2)
    assert METHOD.settle(Entries.of(values), weight=(0.5, 0.25, 0.25)).gain == pytest.approx(0.5)


@pytest.mark.parametrize("weight", [(0.0, 0.0, 0.0), (0.1, 0.2, -0.3)])
def test_weights_that_sum_to_zero_are_refused(weight):
    with pytest.raises(MergeError, match="sum to zero"):
        merged(METHOD, torch.ones(3, 4), weight=weight)


def test_differences_from_the_base_are_merged_unless_told_otherwise():
    assert METHOD.on_deltas({}) and not METHOD.on_deltas({"differences": False})
