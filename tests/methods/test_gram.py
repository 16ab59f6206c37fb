"""Inner products learned in blocks against those of whole tensors in float64, and what is built of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.engine.passes import Pass
from evomerge.engine.pieces import Inputs
from evomerge.engine.sources import Stored
from evomerge.errors import MergeError
from evomerge.methods import entries as entries_module
from evomerge.methods import karcher, model_stock, multislerp, nuslerp, slerp
from evomerge.methods.entries import CPU, Entries
from evomerge.methods.gram import column_grams, gram, length, row_grams
from evomerge.types import Method

quick = settings(deadline=None, max_examples=30, derandomize=True)


@st.composite
def tensors(draw, low: int = 2, high: int = 4, dimensions: int = 3) -> torch.Tensor:
    """float32 (P, *shape): normal numbers of unlike lengths, or few distinct ones with many zeros."""
    shape = (draw(st.integers(low, high)), *draw(st.lists(st.integers(1, 9), max_size=dimensions)))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    if draw(st.booleans()):
        return torch.randint(-1, 2, shape, generator=random).float()
    lengths = torch.rand(shape[:1], generator=random) + 0.1
    return torch.randn(shape, generator=random) * lengths.view(-1, *[1] * (len(shape) - 1))


def merged(method: Method, values: torch.Tensor, *, compiles: bool = False, **knobs: Any) -> torch.Tensor:
    """float32 (*shape): these tensors, or differences from a base of zeros, as the engine merges them."""
    entries = Entries.of(values)
    out = torch.full((entries.n,), float("nan"))
    sources = [Stored(value, CPU) for value in values]
    Pass(method.settle(entries, **knobs), Inputs(sources, None, entries), compiles).flat(0, entries.n, out)
    return out.view(entries.shape)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of a few entries, so that tiny tensors take several, the last of them shorter."""
    monkeypatch.setitem(entries_module.BLOCK, "cpu", 7)


@quick
@given(values=tensors(low=1))
def test_products_of_tensors_are_those_in_float64(values):
    flat = values.double().reshape(len(values), -1)
    torch.testing.assert_close(torch.from_numpy(gram(Entries.of(values))), flat @ flat.T, rtol=1e-12, atol=1e-12)


@quick
@given(values=tensors(low=1))
def test_products_of_rows_are_those_in_float64(values):
    rows = values.double().reshape(len(values), -1, values.shape[-1] if values.dim() > 1 else 1)
    wanted = torch.einsum("irw,jrw->rij", rows, rows)
    torch.testing.assert_close(row_grams(Entries.of(values)), wanted, rtol=1e-12, atol=1e-12)


@quick
@given(values=tensors(low=1))
def test_products_of_columns_are_those_in_float64(values):
    columns = values.double().reshape(len(values), values.shape[1] if values.dim() > 1 else 1, -1)
    wanted = torch.einsum("irw,jrw->wij", columns, columns)
    torch.testing.assert_close(column_grams(Entries.of(values)), wanted, rtol=1e-12, atol=1e-12)


def test_the_angle_of_all_but_equal_parents_is_not_lost():
    first = torch.randn(3000, generator=torch.Generator().manual_seed(0))
    second = first.clone()
    second[0] += 2e-4
    (aa, ab), (_, bb) = gram(Entries.of(torch.stack([first, second])))
    x, y = first.double().numpy(), second.double().numpy()
    wanted = (x @ x) * (y @ y) - (x @ y) ** 2  # |x|^2 |y|^2 sin^2
    assert (aa * bb - ab**2) == pytest.approx(wanted, rel=1e-2)


@quick
@given(values=tensors(), random=st.integers(0, 2**32))
def test_the_length_of_a_sum_follows_from_the_products(values, random):
    coefficients = np.random.default_rng(random).normal(size=len(values))
    wanted = np.linalg.norm(np.tensordot(coefficients, values.double().numpy(), 1))
    assert length(list(coefficients), gram(Entries.of(values)).tolist()) == pytest.approx(wanted, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("fact", [gram, row_grams, column_grams])
@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_an_entry_that_is_no_number_is_told_with_its_parent(fact, bad):
    values = torch.ones(3, 4, 5)
    values[1, 2, 3] = bad
    with pytest.raises(MergeError, match="parent 2 of 3"):
        fact(Entries.of(values))


CANDIDATES = [
    (slerp.METHOD, {"t": 0.2}, {"t": 0.9}),
    (nuslerp.METHOD, {"weight": (0.2, 1.0)}, {"weight": (0.5, 0.1)}),
    (nuslerp.METHOD, *({"weight": (w, 1.0), "nuslerp_flatten": False} for w in (0.2, 0.6))),
    (nuslerp.METHOD, *({"weight": (w, 1.0), "nuslerp_flatten": False, "nuslerp_row_wise": True} for w in (0.2, 0.6))),
    (multislerp.METHOD, {"weight": (0.2, 1.0)}, {"weight": (0.9, 1.0), "normalize_weights": False}),
    (karcher.METHOD, {"weight": (0.2, 1.0)}, {"weight": 1.0, "max_iter": 2}),
    (model_stock.METHOD, {"t_scale": 0.7}, {"t_scale": 1.2, "clamp_t": "unit"}),
    (model_stock.METHOD, *({"t_scale": s, "filter_wise": True} for s in (0.7, 1.2))),
]


@pytest.mark.parametrize("method, first, second", CANDIDATES, ids=lambda x: x.name if isinstance(x, Method) else None)
def test_a_tensor_is_read_once_for_all_candidates(method, first, second):
    entries = Entries.of(torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0)))
    read, places = entries.read, []
    entries.read = lambda start, stop, parents: (places.extend(range(start, stop)), read(start, stop, parents))[1]
    method.settle(entries, **first)
    assert places == list(range(30))
    method.settle(entries, **second)
    assert len(places) == 30


@pytest.mark.parametrize("method, first, second", CANDIDATES, ids=lambda x: x.name if isinstance(x, Method) else None)
@quick
@given(values=tensors(high=2))
def test_gain_bounds_what_comes_out(method, first, second, values):
    for knobs in (first, second):
        bound = method.settle(Entries.of(values), **knobs).gain * float(values.abs().max())
        assert float(merged(method, values, **knobs).abs().max()) <= bound * (1 + 1e-6)
