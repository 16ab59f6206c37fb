"""Arcee Fusion against its formulas in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.errors import MergeError
from evomerge.methods.arcee_fusion import divergences, quartiles
from evomerge.methods.entries import Entries
from tests.engine.held import merged

quick = settings(deadline=None, max_examples=40, derandomize=True)
shapes = st.lists(st.integers(1, 60), min_size=1, max_size=3).map(tuple)


def pair(shape: tuple[int, ...], seed: int = 0, size: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    """A base and a parent near it, float32."""
    random = torch.Generator().manual_seed(seed)
    base = torch.randn(shape, generator=random)
    return base, base + size * torch.randn(shape, generator=random)


def importance(base: torch.Tensor, parent: torch.Tensor) -> torch.Tensor:
    """float64 (*shape), as mergekit has it but for its rounding."""
    p, q = parent.double().softmax(-1) + 1e-8, base.double().softmax(-1) + 1e-8
    return (parent.double() - base.double()).abs() * (p * (p / q).log()).sum(-1, keepdim=True)


def entries(base: torch.Tensor, parent: torch.Tensor) -> Entries:
    found = Entries.of((parent - base)[None])
    found.ground = lambda start, stop: base.view(-1)[start:stop]
    return found


@quick
@given(shapes, st.integers(0, 2**32), st.floats(0, 3), st.sampled_from([1.0, 0.1, 1e-3]))
def test_differences_that_stand_out_in_importance_are_taken_and_no_others(shape, seed, iqr_factor, size):
    base, parent = pair(shape, seed, size)
    scores = importance(base, parent)
    first, second, third = (scores.view(-1).sort().values[int(q * (scores.numel() - 1))] for q in (0.25, 0.5, 0.75))
    threshold = second + iqr_factor * (third - first)
    found = merged("arcee_fusion", [parent], base, iqr_factor=iqr_factor)
    sure = (scores - threshold).abs() > 1e-5 * threshold
    torch.testing.assert_close(found[sure], torch.where(scores >= threshold, parent, base)[sure])
    assert bool(((found == base) | (found - parent).abs().lt(1e-6)).all())


@quick
@given(shapes, st.integers(0, 2**32))
def test_quartiles_are_entries_of_the_importance_in_order(shape, seed):
    base, parent = pair(shape, seed)
    scores = importance(base, parent).view(-1).sort().values
    wanted = [float(scores[int(q * (len(scores) - 1))]) for q in (0.25, 0.5, 0.75)]
    torch.testing.assert_close(
        torch.tensor(quartiles(entries(base, parent))), torch.tensor(wanted), rtol=1e-4, atol=1e-12
    )


def test_large_tensors_have_exact_quartiles():
    base, parent = pair((1100, 1000))
    scores = importance(base, parent).view(-1).sort().values
    for found, share in zip(quartiles(entries(base, parent)), (0.25, 0.5, 0.75), strict=True):
        place = torch.tensor([int(share * (len(scores) - 1))])
        assert float(scores[place - 2]) <= found <= float(scores[place + 2])  # float32 may swap neighbours


@pytest.mark.parametrize("size", [1e-3, 1e-5])
def test_divergences_of_small_differences_keep_their_digits(size):
    base, parent = pair((50, 64), size=size)
    p, difference = base.double().softmax(-1), parent.double() - base.double()
    mean = (p * difference).sum(-1, keepdim=True)
    wanted = (p * (difference - mean) ** 2).sum(-1, keepdim=True) / 2  # to second order
    torch.testing.assert_close(divergences(entries(base, parent)).double(), wanted, rtol=20 * size + 1e-4, atol=0)


def test_a_vector_is_one_row():
    base, parent = pair((500,))
    assert torch.equal(merged("arcee_fusion", [parent], base), merged("arcee_fusion", [parent[None]], base[None])[0])


@pytest.mark.parametrize("n", [2, 5, 300])
def test_an_entry_of_just_the_threshold_is_taken(n):
    base, parent = pair((n,))
    found = merged("arcee_fusion", [parent], base, iqr_factor=0.0)
    assert int((found != base).sum()) == n - (n - 1) // 2


def test_without_the_base_it_says_what_is_missing():
    with pytest.raises(MergeError, match="arcee_fusion needs the base's own entries"):
        divergences(Entries.of(torch.ones(1, 2, 3)))
