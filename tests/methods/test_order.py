"""Cuts, masses and quantiles against a plain sort, whatever the values and however they were counted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.methods import magnitudes as module
from evomerge.methods.entries import Entries
from evomerge.methods.masks import WIDTH, tie_word
from evomerge.methods.order import EVERYTHING, EXACT, NOTHING, Cut, _parting, largest, mass, size
from tests.engine.held import merged

quick = settings(deadline=None, max_examples=60, derandomize=True)
KINDS = ["continuous", "few", "bfloat16", "mixed", "zeros", "equal", "tiny"]


def made(kind: str, n: int, seed: int) -> torch.Tensor:
    """float32 (n,)"""
    random = torch.Generator().manual_seed(seed)
    values, base = torch.randn(n, generator=random) * 0.01, torch.randn(n, generator=random) * 0.1
    if kind == "few":
        return torch.randint(-2, 3, (n,), generator=random).float()
    if kind == "bfloat16":
        return (base.bfloat16().float() + values).bfloat16().float() - base.bfloat16().float()
    if kind == "mixed":  # most are zero, as where an adapter leaves rows alone
        return torch.where(base > 0.05, values, 0.0)
    if kind == "tiny":  # subnormal numbers
        return values * 1e-38
    return {"continuous": values, "zeros": torch.zeros(n), "equal": torch.full((n,), -0.5)}[kind]


@st.composite
def tensors(draw: Any, most: int = 3000) -> torch.Tensor:
    return made(draw(st.sampled_from(KINDS)), draw(st.integers(1, most)), draw(st.integers(0, 2**32)))


@pytest.fixture(autouse=True, params=["by value", "by range"])
def counting(request, monkeypatch):
    """Short stretches, and values that are soon too many for a table, or never."""
    monkeypatch.setitem(module.STRETCH, "cpu", 256)
    monkeypatch.setattr(module, "SMALL", 16 if request.param == "by range" else 1 << 16)


def kept(entries: Entries, cut: Cut) -> torch.Tensor:
    """bool (n,): what a cut keeps, by its definition."""
    (values,), at = entries.read(0, entries.n, [0]), torch.arange(entries.n)
    words = tie_word((at % WIDTH).to(torch.int32), entries.words()[0, at // WIDTH])
    return (values.abs() > cut.magnitude) | ((values.abs() == cut.magnitude) & (words < cut.word))


@quick
@given(values=tensors(), share=st.floats(0, 1))
def test_every_rank_has_the_magnitude_that_a_sort_gives_it(values, share):
    entries, ordered = Entries.of(values[None]), values.abs().sort(descending=True).values
    for rank in {1, len(values), 1 + int(share * (len(values) - 1))}:
        assert size(entries, rank) == float(ordered[rank - 1])


@quick
@given(values=tensors(), share=st.floats(0, 1))
def test_a_cut_keeps_exactly_as_many_as_asked_and_the_largest(values, share):
    entries, keep = Entries.of(values[None]), round(share * len(values))
    there = kept(entries, largest(entries, keep))
    assert int(there.sum()) == keep
    if 0 < keep < len(values):
        assert values.abs()[there].min() >= values.abs()[~there].max()


@quick
@given(values=tensors(), shares=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_what_is_kept_of_few_is_kept_of_more(values, shares):
    entries = Entries.of(values[None])
    few, more = (kept(entries, largest(entries, int(share * len(values)))) for share in sorted(shares))
    assert not (few & ~more).any()


@quick
@given(values=tensors(), share=st.floats(0, 1))
def test_mass_is_the_norm_of_the_largest(values, share):
    entries, keep = Entries.of(values[None]), round(share * len(values))
    ordered = values.abs().double().sort(descending=True).values
    for count in (keep, len(values)):
        assert mass(entries, count) == pytest.approx(float(ordered[:count].sum()), rel=1e-12)


@pytest.mark.parametrize("kind", ["few", "equal", "bfloat16"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.77])
def test_a_large_tensor_keeps_as_many_as_asked_in_expectation(kind, share):
    values = made(kind, EXACT + 4000, seed=1)
    entries, keep = Entries.of(values[None]), int(share * len(values))
    cut = largest(entries, keep)
    surely, equals = (int(x.sum()) for x in (values.abs() > cut.magnitude, values.abs() == cut.magnitude))
    p = (keep - surely) / equals
    assert 0 < p < 1 and cut.splits
    assert abs(int(kept(entries, cut).sum()) - keep) <= 4 * math.sqrt(equals * p * (1 - p))


def test_a_large_tensor_can_be_asked_to_keep_exactly():
    entries = Entries.of(made("few", EXACT + 4000, seed=2)[None])
    cut = largest(entries, 30_000, exact=True)
    assert int(kept(entries, cut).sum()) == 30_000


def test_equal_words_cost_as_few_entries_as_can_be():
    """Two entries at either side of the split that have one word: both are kept or neither."""
    for words, some, wanted in (([1, 2, 2, 2, 3], 2, 1), ([1, 2, 2, 2, 3], 3, 4), ([1, 2, 3], 2, 2), ([5, 5], 1, 0)):
        word = _parting(np.array(words, np.float32), some)
        assert sum(w < word for w in words) == wanted


@pytest.mark.parametrize("cut", [Cut(0.25), Cut(0.25, -3.0), EVERYTHING, NOTHING])
def test_numbers_say_the_same_to_a_kernel(cut):
    at, following, word = (torch.tensor(x) for x in cut.numbers)
    sizes = torch.tensor([0.0, 0.2, 0.25, 0.25, np.nextafter(np.float32(0.25), np.float32(1)), 7.0])
    words = torch.tensor([5.0, 5.0, 5.0, -5.0, 5.0, 5.0])
    wanted = (sizes > cut.magnitude) | ((sizes == cut.magnitude) & (words < cut.word))
    assert torch.equal(sizes >= torch.where(words < word, at, following), wanted)
    assert cut.splits == (cut.word == -3.0)


@pytest.mark.parametrize("n", [3000, EXACT + 4000])
def test_parents_that_are_equal_are_trimmed_alike_whatever_their_names(n):
    values = made("few", n, seed=3)
    alone, together = (merged("ties", [values] * parents, density=0.77) for parents in (1, 2))
    assert torch.equal(alone, together)
    assert 0 < int((alone != values).sum()) < int((values != 0).sum())
