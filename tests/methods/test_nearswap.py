"""NearSwap against mergekit's formula, and its quantile against a sort."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.engine.passes import Pass
from evomerge.engine.pieces import Inputs
from evomerge.engine.sources import Stored
from evomerge.errors import MergeError
from evomerge.methods.entries import CPU, Entries
from evomerge.methods.nearswap import settle

quick = settings(deadline=None, max_examples=50, derandomize=True)


def merged(delta: torch.Tensor, **knobs: float | None) -> torch.Tensor:
    """float32 (*shape): what is added to the base."""
    entries, out = Entries.of(delta[None]), torch.full((delta.numel(),), float("nan"))
    Pass(settle(entries, **knobs), Inputs([Stored(delta, CPU)], None, entries)).flat(0, len(out), out)
    return out.view(delta.shape)


def tensor(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed)) * 1e-3


@quick
@given(st.integers(1, 500), st.sampled_from([1e-6, 1e-4, 1e-2]), st.integers(0, 2**32))
def test_an_absolute_step_is_mergekits(n, t, seed):
    delta = tensor(n, seed)
    towards = (t / delta.abs().clamp(min=1e-6)).clamp(0, 1)
    torch.testing.assert_close(merged(delta, t=t), towards * delta, rtol=1e-5, atol=1e-9)


@quick
@given(st.integers(1, 500), st.floats(0, 1), st.integers(0, 2**32))
def test_a_quantile_is_an_order_statistic(n, q, seed):
    delta = tensor(n, seed)
    step = delta.abs().sort().values[int(q * (n - 1))]
    assert torch.equal(merged(delta, t_quantile=q), delta.clamp(-step, step))


def test_the_ends_of_the_quantiles_are_the_parent_and_next_to_the_base():
    delta = tensor(300, 0)
    delta[17] = 0
    assert torch.equal(merged(delta, t_quantile=1.0), delta)
    assert not merged(delta, t_quantile=0.0).any()


def test_a_step_that_is_given_counts_and_nothing_is_learned_for_it():
    entries = Entries.of(tensor(300, 0)[None])
    assert settle(entries, t=0.25, t_quantile=0.9).numbers == ((0.25,),)
    assert entries.own == ({},)


@pytest.mark.parametrize("knobs", [{"t": -1e-4}, {"t": float("nan")}, {"t_quantile": 1.5}, {"t_quantile": -0.1}])
def test_values_that_mean_nothing_are_refused(knobs):
    (name,) = knobs
    with pytest.raises(MergeError, match=rf"^{name} is .*wanted"):
        merged(tensor(10, 0), **knobs)
