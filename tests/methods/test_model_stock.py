"""Model Stock against its formula on float64 rows, and against what it promises."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evomerge.errors import ConfigError
from evomerge.methods.entries import Entries
from evomerge.methods.model_stock import METHOD
from tests.methods.test_gram import merged, quick, tensors


def ratio(deltas: np.ndarray) -> float:
    """t of one vector of each parent, (P, n)."""
    cosines = [
        np.clip(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-6), -1, 1) for a, b in combinations(deltas, 2)
    ]
    n, mean = len(deltas), float(np.mean(cosines))
    divisor = 1 + (n - 1) * mean
    return 0.0 if abs(divisor) < 1e-6 else n * mean / divisor


@quick
@given(values=tensors(), t_scale=st.floats(0.5, 2), clamp=st.sampled_from(["none", "unit"]), by_row=st.booleans())
def test_the_mean_difference_is_scaled_by_the_angles(values, t_scale, clamp, by_row):
    deltas = values.double().numpy()
    rows = deltas.reshape(len(deltas), -1, deltas.shape[-1] if by_row and deltas.ndim > 1 else deltas[0].size)
    t = np.array([ratio(rows[:, r]) for r in range(rows.shape[1])])
    factor = t_scale * (t.clip(0, 1) if clamp == "unit" else t)
    wanted = torch.from_numpy(factor[:, None] * rows.mean(0)).float().view(values.shape[1:])
    got = merged(METHOD, values, t_scale=t_scale, clamp_t=clamp, filter_wise=by_row)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5 * max(1.0, float(abs(factor).max())))


@pytest.mark.parametrize("by_row", [False, True])
def test_equal_differences_are_trusted_whole(by_row):
    delta = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    got = merged(METHOD, torch.stack([delta] * 3), filter_wise=by_row)
    torch.testing.assert_close(got, delta, rtol=1e-6, atol=1e-6)


def test_orthogonal_differences_leave_the_base():
    assert torch.equal(merged(METHOD, torch.eye(4)), torch.zeros(4))


@pytest.mark.parametrize("by_row", [False, True])
def test_opposite_differences_leave_the_base(by_row):
    delta = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    got = merged(METHOD, torch.stack([delta, -0.7 * delta]), filter_wise=by_row)
    assert torch.equal(got, torch.zeros(5, 7))


def test_the_order_of_the_parents_changes_nothing():
    values = torch.randn(4, 5, 7, generator=torch.Generator().manual_seed(0)) + 0.5
    torch.testing.assert_close(merged(METHOD, values), merged(METHOD, values.flip(0)), rtol=0, atol=1e-6)


def test_a_clamped_ratio_stays_between_base_and_mean_before_it_is_scaled():
    deltas = torch.tensor([[1.0, 0.2], [-1.0, 0.3], [0.1, -1.0]])  # cosines below 0
    assert METHOD.settle(Entries.of(deltas)).gain > 1
    assert torch.equal(merged(METHOD, deltas, clamp_t="unit"), torch.zeros(2))
    close = torch.tensor([[1.0, 0.2], [1.0, 0.3]])
    doubled = merged(METHOD, close, clamp_t="unit", t_scale=2.0)
    torch.testing.assert_close(doubled, 2 * merged(METHOD, close))


@pytest.mark.parametrize("by_row", [False, True])
def test_differences_of_zeros_leave_the_base(by_row):
    assert torch.equal(merged(METHOD, torch.zeros(3, 4, 5), filter_wise=by_row), torch.zeros(4, 5))


def test_an_unknown_clamp_is_told_with_the_known_ones():
    with pytest.raises(ConfigError, match="Known: none, unit"):
        merged(METHOD, torch.ones(2, 3), clamp_t="units")
