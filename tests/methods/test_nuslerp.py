"""NuSLERP against its formula on float64 vectors: whole tensors, rows and columns."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from evomerge.engine.passes import Pass
from evomerge.engine.pieces import Inputs
from evomerge.engine.sources import Stored
from evomerge.methods.entries import CPU, Entries
from evomerge.methods.nuslerp import METHOD
from tests.methods.test_gram import merged, quick, tensors

BY_ROW = {"nuslerp_flatten": False}
BY_COLUMN = {"nuslerp_flatten": False, "nuslerp_row_wise": True}
vectors = pytest.mark.parametrize("knobs", [BY_ROW, BY_COLUMN], ids=["rows", "columns"])


def on_the_arc(both: np.ndarray, t: float) -> np.ndarray:
    """(2 n,) of two vectors in one -> (n,)"""
    first, second = np.split(both, 2)
    lengths = [max(float(np.linalg.norm(v)), 1e-7) for v in (first, second)]
    cosine = min(1.0, max(-1.0, float(first @ second) / math.prod(lengths)))
    if 1 - cosine**2 < 1e-7:
        return (1 - t) * first + t * second
    omega = math.acos(cosine)
    return (math.sin((1 - t) * omega) * first + math.sin(t * omega) * second) / math.sin(omega)


def wanted(values: torch.Tensor, t: float, axis: int | None) -> torch.Tensor:
    first, second = values.double().numpy()
    if axis is None or first.ndim < 2:
        return torch.from_numpy(on_the_arc(np.concatenate([first.ravel(), second.ravel()]), t)).view(values.shape[1:])
    return torch.from_numpy(np.apply_along_axis(partial(on_the_arc, t=t), axis, np.concatenate([first, second], axis)))


@pytest.mark.parametrize("knobs, axis", [({}, None), (BY_ROW, -1), (BY_COLUMN, 0)], ids=["whole", "rows", "columns"])
@quick
@given(values=tensors(high=2), weight=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_vectors_meet_on_their_arcs(knobs, axis, values, weight):
    assume(sum(weight) > 1e-3)
    t = weight[1] / sum(weight)
    got = merged(METHOD, values, weight=weight, **knobs)
    torch.testing.assert_close(got, wanted(values, t, axis).float(), rtol=2e-6, atol=2e-6)


@vectors
@quick
@given(data=st.data(), values=tensors(high=2))
def test_a_box_has_the_bits_of_the_whole(knobs, data, values):
    edges = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in values.shape[1:]]
    box = tuple(slice(a, b) for a, b in edges)
    entries = Entries.of(values)
    out = torch.empty(values[0][box].shape)
    Pass(METHOD.settle(entries, **knobs), Inputs([Stored(v, CPU) for v in values], None, entries)).box(box, out)
    assert torch.equal(out, merged(METHOD, values, **knobs)[box])


@vectors
def test_a_compiled_loop_gives_the_same_bits(knobs):
    for rows in (17, 40):
        values = torch.randn(2, rows, 96, generator=torch.Generator().manual_seed(rows))
        assert torch.equal(merged(METHOD, values, compiles=True, **knobs), merged(METHOD, values, **knobs))


@vectors
def test_only_the_ratio_of_the_weights_matters(knobs):
    values = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    one, other = (merged(METHOD, values, weight=weight, **knobs) for weight in ((0.1, 0.3), (0.25, 0.75)))
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("weight", [(0.0, 0.0), (0.3, -0.3)])
def test_weights_that_sum_to_zero_meet_halfway(weight):
    values = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(merged(METHOD, values, weight=weight), merged(METHOD, values, weight=0.5))


@pytest.mark.parametrize("factor", [-2.0, -1.0, -0.3, 0.7, 3.0])
@pytest.mark.parametrize("knobs", [{}, BY_ROW, BY_COLUMN], ids=["whole", "rows", "columns"])
def test_collinear_vectors_are_interpolated_linearly(knobs, factor):
    first = torch.randn(23, 31, generator=torch.Generator().manual_seed(0))
    got = merged(METHOD, torch.stack([first, factor * first]), weight=(0.6, 0.4), **knobs)
    torch.testing.assert_close(got, (0.6 + 0.4 * factor) * first, rtol=0, atol=2e-6)


def test_rows_of_zeros_among_others_stay_numbers():
    values = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    values[:, 1] = 0
    values[0, 2] = 0
    got = merged(METHOD, values, weight=(0.5, 0.5), **BY_ROW)
    assert torch.equal(got[1], torch.zeros(6))
    torch.testing.assert_close(got[2], values[1, 2] * math.sin(math.pi / 4))


def test_differences_from_the_base_are_merged_unless_told_otherwise():
    assert METHOD.on_deltas({}) and not METHOD.on_deltas({"differences": False})
