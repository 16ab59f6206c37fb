"""Ranks of magnitudes within rows."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.methods import entries
from evomerge.methods.entries import Entries
from evomerge.methods.ranks import ranks

quick = settings(deadline=None, max_examples=40, derandomize=True)


def ranked(values: torch.Tensor) -> torch.Tensor:
    return ranks(Entries.of(values[None])).view(values.shape)


@st.composite
def tensors(draw) -> torch.Tensor:
    """float32 of 0 to 3 dimensions: distinct numbers, or few with many equal magnitudes and zeros."""
    shape = tuple(draw(st.lists(st.integers(1, 40), max_size=3)))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    if draw(st.booleans()):
        return torch.randint(-2, 3, shape, generator=random) / 4
    return torch.randn(shape, generator=random)


@quick
@given(tensors())
def test_ranks_number_each_row_in_ascending_order_of_magnitude(values):
    width = values.shape[-1] if values.dim() else 1
    found, sizes = ranked(values).view(-1, width).long(), values.abs().view(-1, width)
    in_order = torch.full_like(sizes, torch.nan).scatter_(1, found, sizes)
    assert torch.equal(in_order, sizes.sort(dim=1).values)


@quick
@given(tensors(), st.integers(1, 500))
def test_ranks_do_not_depend_on_the_blocks_they_are_found_in(values, block):
    whole, size = ranked(values), entries.BLOCK["cpu"]
    entries.BLOCK["cpu"] = block
    try:
        assert torch.equal(ranked(values), whole)
    finally:
        entries.BLOCK["cpu"] = size


def test_signs_do_not_matter():
    values = torch.randint(-2, 3, (9, 30), generator=torch.Generator().manual_seed(0)).float()
    assert torch.equal(ranked(values), ranked(-values)) and torch.equal(ranked(values), ranked(values.abs()))


def test_ranks_of_equal_entries_prefer_no_column():
    mean = ranked(torch.full((512, 128), 0.5)).double().mean(dim=0)
    assert float((mean - 63.5).abs().max()) < 4 * (128**2 / 12 / 512) ** 0.5


def test_rows_of_more_than_2_to_the_16_entries_have_ranks_of_their_own():
    values = torch.randn(2, 2**16 + 1, generator=torch.Generator().manual_seed(0))
    assert ranked(values).dtype == torch.float32 and ranked(values).max(dim=1).values.tolist() == [2**16] * 2
