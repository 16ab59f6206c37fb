"""Slerp against its formula on whole float64 tensors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evomerge.methods.slerp import METHOD
from tests.methods.test_gram import merged, quick, tensors


def on_the_arc(first: np.ndarray, second: np.ndarray, t: float) -> np.ndarray:
    """Slerp of two vectors as mergekit describes it: unit vectors for the angle alone."""
    a, b = (v / norm if (norm := np.linalg.norm(v)) > 1e-8 else v for v in (first, second))
    cosine = float(a @ b)
    if abs(cosine) > 0.9995:
        return (1 - t) * first + t * second
    omega = math.acos(cosine)
    return (math.sin((1 - t) * omega) * first + math.sin(t * omega) * second) / math.sin(omega)


@quick
@given(values=tensors(high=2), t=st.floats(-0.2, 1.2))
def test_tensors_meet_on_the_arc(values, t):
    wanted = on_the_arc(*values.double().reshape(2, -1).numpy(), t)
    torch.testing.assert_close(merged(METHOD, values, t=t).flatten(), torch.tensor(wanted).float(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("t, parent", [(0.0, 0), (1.0, 1)])
def test_the_ends_of_the_arc_are_the_parents_in_their_order(t, parent):
    values = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(merged(METHOD, values, t=t), values[parent], rtol=0, atol=1e-6)


@pytest.mark.parametrize("turn", [1e-2, math.pi - 1e-2])
def test_tensors_that_are_all_but_collinear_are_interpolated_linearly(turn):
    values = torch.tensor([[1.0, 0.0], [math.cos(turn), math.sin(turn)]])
    assert torch.equal(merged(METHOD, values, t=0.25), 0.75 * values[0] + 0.25 * values[1])


@pytest.mark.parametrize("size", [0.0, 1e-9])
def test_a_tensor_of_next_to_no_length_is_orthogonal_to_all(size):
    values = torch.tensor([[3 * size, 4 * size], [3.0, 4.0]])
    torch.testing.assert_close(merged(METHOD, values, t=0.25), math.sin(math.pi / 8) * values[1])
