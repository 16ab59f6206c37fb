"""Entries: blocks that cover a tensor in whole rows, and facts that are computed once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.methods import entries as module
from evomerge.methods.entries import Entries, unit
from evomerge.methods.masks import row_words

VALUES = torch.arange(24.0).reshape(2, 3, 4)
calls: list[tuple[int, ...]] = []


@pytest.fixture(autouse=True)
def no_calls():
    calls.clear()


def total(entries: Entries, factor: float = 1.0) -> float:
    """A fact that counts how often it is asked for."""
    calls.append(entries.keys)
    return factor * sum(float(value.sum()) for _, values in entries.blocks() for value in values)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.lists(st.integers(1, 9), max_size=3), st.integers(1, 3), st.integers(1, 40), st.integers(1, 12))
def test_blocks_are_the_tensor_from_first_to_last_in_whole_rows(shape, parents, size, width):
    values = torch.randn(parents, *shape, generator=torch.Generator().manual_seed(0))
    entries = Entries.of(values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(module.BLOCK, "cpu", size)
        found = list(entries.blocks(width))
    assert [start for start, _ in found] == list(range(0, entries.n, max(1, size // width) * width))
    for k in range(parents):
        assert torch.equal(torch.cat([block[k] for _, block in found]), values[k].flatten())


@pytest.mark.parametrize("shape, n, width", [((), 1, 1), ((5,), 5, 5), ((3, 4), 12, 4), ((2, 3, 4), 24, 4)])
def test_a_row_is_the_last_dimension(shape, n, width):
    entries = Entries.of(torch.zeros(2, *shape))
    assert (entries.n, entries.width, entries.parents, entries.shape) == (n, width, 2, shape)


def test_a_fact_of_all_parents_is_computed_once_for_its_arguments():
    entries = Entries.of(VALUES)
    assert [entries.once(total), entries.once(total), entries.once(total, 2.0), entries.once(total)] == [
        276.0,
        276.0,
        552.0,
        276.0,
    ]
    assert len(calls) == 2


def test_a_fact_of_each_parent_sees_it_alone_and_is_computed_once():
    entries = Entries.of(VALUES, keys=(7, 8, 9))
    assert entries.each(total) == (66.0, 210.0) == entries.each(total)
    assert calls == [(7, 8), (7, 9)]


def test_what_was_learned_of_a_parent_serves_whoever_stands_beside_it():
    own: tuple[dict, ...] = ({}, {}, {})
    three = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    read = lambda order: lambda a, b, which: [three[order[k], a:b] for k in which]  # noqa: E731
    first = Entries((4,), read([0, 1]), (0, 1, 2), own=own[:2])
    other = Entries((4,), read([2, 0]), (0, 3, 1), own=(own[2], own[0]))
    sums = first.each(total)
    assert other.each(total)[1] == sums[0]
    assert len(calls) == 3


def test_an_empty_answer_is_an_answer():
    entries = Entries.of(VALUES)
    assert entries.once(nothing) is None is entries.once(nothing)
    assert len(calls) == 1


def nothing(entries: Entries) -> None:
    calls.append(entries.keys)


def test_words_are_those_of_the_keys_and_alone_those_of_the_parent():
    entries = Entries.of(torch.zeros(3, 5000), keys=(11, 12, 13, 14))
    assert torch.equal(entries.words(), torch.stack([row_words(key, 5000, module.CPU) for key in (11, 12, 13, 14)]))
    assert torch.equal(entries.alone(1).words(), entries.words()[[0, 2]])


def test_other_keys_have_other_words_though_the_same_things_are_known():
    """Seeds differ from run to run of one process; what is learned of the tensors does not."""
    joint: dict = {}
    own: dict = {}
    one, two = (Entries((9,), lambda a, b, w: [], keys, joint=joint, own=(own,)) for keys in ((1, 2), (1, 3)))
    one.words()
    assert torch.equal(two.words()[1], row_words(3, 9, module.CPU))


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.integers(1, 3000), st.integers(-300, 300), st.integers(0, 2**32))
def test_multiples_of_a_unit_add_up_to_the_same_in_any_order(n, exponent, seed):
    random = torch.Generator().manual_seed(seed)
    values = torch.rand(n, generator=random, dtype=torch.float64) * 2.0**exponent
    step = unit(float(values.max()), n)
    steps = (values / step).round()
    assert float(steps.sum()) < 2**53
    assert steps.cumsum(0)[-1] == steps[torch.randperm(n, generator=random)].cumsum(0)[-1] == sum(steps.tolist())
    assert float(steps.sum()) * step == pytest.approx(float(values.sum()), rel=1e-9)


@pytest.mark.parametrize("most", [0.0, float("inf"), float("nan")])
def test_what_has_no_largest_value_has_a_unit_of_1(most):
    assert unit(most, 5) == 1.0
