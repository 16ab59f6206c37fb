"""Breadcrumbs against slices of a plain sort."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.engine.passes import Pass
from evomerge.engine.pieces import Inputs
from evomerge.engine.sources import Stored
from evomerge.errors import MergeError
from evomerge.methods.breadcrumbs import BREADCRUMBS, BREADCRUMBS_TIES, bounds
from evomerge.methods.entries import CPU, Entries
from evomerge.methods.order import EXACT
from evomerge.types import Method

quick = settings(deadline=None, max_examples=50, derandomize=True)
shares = st.floats(0.01, 1.1)
gammas = st.one_of(st.just(0.0), st.floats(0.0001, 1.2))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def merging(method: Method, values: torch.Tensor, **knobs: object) -> Pass:
    entries = Entries.of(values)
    return Pass(method.settle(entries, **knobs), Inputs([Stored(value, CPU) for value in values], None, entries))


def merged(method: Method, values: torch.Tensor, **knobs: object) -> torch.Tensor:
    """float32 (*shape): differences (P, *shape) from a base of zeros, as the engine merges them."""
    out = torch.full((values[0].numel(),), float("nan"))
    merging(method, values, **knobs).flat(0, len(out), out)
    return out.view(values.shape[1:])


def middle(value: torch.Tensor, density: float, gamma: float) -> torch.Tensor:
    """mergekit's rule: of the ascending order, `keep` entries from where the largest are still to be dropped."""
    n, flat = value.numel(), value.flatten()
    keep = n if density >= 1 else int(density * n)
    bottom = max(0, n - keep - int(gamma * n))
    kept = torch.zeros(n, dtype=torch.bool)
    kept[flat.abs().argsort()[bottom : bottom + keep]] = True
    return (flat * kept).view_as(value)


@quick
@given(st.lists(st.integers(1, 40), min_size=1, max_size=2), shares, gammas, st.integers(0, 2**32))
def test_what_is_kept_is_a_slice_of_the_order(shape, density, gamma, seed):
    values = random(1, *shape, seed=seed)
    for method in (BREADCRUMBS, BREADCRUMBS_TIES):
        assert torch.equal(merged(method, values, density=density, gamma=gamma), middle(values[0], density, gamma))


@quick
@given(shares, gammas, st.integers(1, 2000), st.integers(1, 5), st.integers(0, 2**32))
def test_as_many_are_kept_of_equal_magnitudes(density, gamma, n, levels, seed):
    values = torch.randint(1, levels + 1, (1, n), generator=torch.Generator().manual_seed(seed)).float()
    keep = n if density >= 1 else int(density * n)
    assert int(merged(BREADCRUMBS, values, density=density, gamma=gamma).count_nonzero()) == keep


@pytest.mark.parametrize("normalize", [False, True])
def test_without_an_election_the_parents_are_added(normalize):
    values, weights, densities, dropped = random(2, 20, 30), (0.5, 0.75), (0.3, 0.9), (0.02, 0.05)
    parts = [middle(*each) for each in zip(values, densities, dropped, strict=True)]
    wanted = 0.8 * (weights[0] * parts[0] + weights[1] * parts[1]) / (sum(weights) if normalize else 1)
    knobs = {"weight": weights, "density": densities, "gamma": dropped, "scale": 0.8, "normalize": normalize}
    torch.testing.assert_close(merged(BREADCRUMBS, values, **knobs), wanted)


def test_with_an_election_those_who_agree_are_added():
    values = random(2, 20, 30)
    first, second = (middle(value, 0.6, 0.04) for value in values)
    stronger = torch.where(first.abs() > second.abs(), first, second)
    wanted = torch.where(first * second < 0, stronger, first + second)
    torch.testing.assert_close(merged(BREADCRUMBS_TIES, values, density=0.6, gamma=0.04), wanted)


def test_l1_restores_the_norm():
    values = random(1, 20, 30)
    kept = middle(values[0], 0.4, 0.05)
    found = merged(BREADCRUMBS, values, density=0.4, gamma=0.05, rescale="l1")
    torch.testing.assert_close(found, kept * values.abs().sum() / kept.abs().sum())


def test_a_large_tensor_is_kept_in_expectation_and_slices_have_the_bits_of_the_whole():
    values = torch.randint(-4, 5, (1, 70, 1024), generator=torch.Generator().manual_seed(0)).float()
    assert values[0].numel() > EXACT
    knobs = {"density": 0.3, "gamma": 0.05}
    whole = merged(BREADCRUMBS, values, **knobs)  # both cuts lie among the fours and threes
    assert int(whole.count_nonzero()) == pytest.approx(0.3 * values.numel(), rel=0.01)
    box, part = (slice(5, 66), slice(1, 1001)), torch.empty(61, 1000)
    merging(BREADCRUMBS, values, **knobs).box(box, part)
    assert torch.equal(part, whole[box])


def test_bounds_are_mergekits():
    assert bounds(0.5, 0.1, 100) == (60, 10)
    assert bounds(0.95, 0.1, 100) == (100, 5)  # fewer are dropped for the share that is wanted
    assert bounds(0.5, 0.001, 100) == (50, 0)
    assert bounds(1.0, 0.5, 100) == (100, 0)
    assert bounds(0.0, 0.1, 100) == (10, 10)


def test_a_negative_gamma_is_refused():
    with pytest.raises(MergeError, match=r"gamma is -0\.1"):
        merged(BREADCRUMBS, random(1, 10), density=0.5, gamma=-0.1)


def test_defaults_lie_in_their_ranges():
    for knob in (*BREADCRUMBS.knobs, *BREADCRUMBS_TIES.knobs):
        assert knob.default in knob.values if knob.values else knob.low <= knob.default <= knob.high
