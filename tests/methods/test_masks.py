"""The counter-based hash and its windows: the numbers are frozen, uniform, unrelated, and belong to the place."""

from __future__ import annotations

import hashlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.methods.masks import Region, entire, mask_key, uniforms_at
from evomerge.methods.sparsify import drop

N = 1 << 18
KEYS = (0, 1, 1 << 32, mask_key(0, "parent", "model.norm.weight"))
# Computed once by this code; a change means that every recipe with a seed names another model.
FROZEN_KEY = 1716638330255922631
FROZEN = {  # by key: uniforms * 2**24
    0: [16489985, 6966258, 15673691, 5263836, 12822343, 12317113, 12818328, 4266388],
    2**64 - 1: [10724320, 15699822, 5175758, 4450128, 10036752, 13933909, 14718810, 9667757],
    FROZEN_KEY: [6540660, 3025816, 8617967, 11579161, 13213699, 16490946, 10352900, 16463481],
}
quick = settings(deadline=None, max_examples=50, derandomize=True)


def by_hand(position: int, key: int) -> float:
    """The same hash in Python's integers, one position at a time."""
    spread = hashlib.sha256(key.to_bytes(8, "little")).digest()
    word = position & 0xFFFFFFFF ^ int.from_bytes(spread[:4], "little")
    for taken_in in (position >> 32 ^ int.from_bytes(spread[4:8], "little"), 0, 0):
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            word = (word ^ word >> shift) * factor & 0xFFFFFFFF
        word = word ^ word >> 16 ^ taken_in
    return (word >> 8) / 2**24


def chi_square(cells: torch.Tensor, n_cells: int) -> float:
    """How many standard deviations chi-square lies from its mean if all cells are equally likely."""
    counts = torch.bincount(cells.flatten(), minlength=n_cells).double()
    wanted = cells.numel() / n_cells
    chi2 = ((counts - wanted) ** 2 / wanted).sum().item()
    return (chi2 - (n_cells - 1)) / math.sqrt(2 * (n_cells - 1))


def joint(a: torch.Tensor, b: torch.Tensor) -> float:
    """chi_square of pairs over 32 x 32 cells: a test of independence that sees more than correlation."""
    return chi_square((a * 32).long() * 32 + (b * 32).long(), 1024)


def test_known_answers():
    assert mask_key(0, "parent", "model.norm.weight") == FROZEN_KEY
    index = torch.tensor([0, 1, 2, 2**24, 2**32 - 1, 2**32, 2**33 + 5, 2**40])
    for key, frozen in FROZEN.items():
        assert (uniforms_at(index, key).double() * 2**24).long().tolist() == frozen


@quick
@given(st.lists(st.integers(0, 2**52), min_size=1, max_size=20), st.integers(0, 2**64 - 1))
def test_the_tensor_code_is_the_integer_hash(positions, key):
    assert uniforms_at(torch.tensor(positions), key).tolist() == [by_hand(i, key) for i in positions]


@pytest.mark.parametrize("start", [0, 2**32 - N // 2, 7 * 2**33])
@pytest.mark.parametrize("key", KEYS)
def test_uniform_in_the_high_and_in_the_low_bits(key, start):
    uniforms = uniforms_at(torch.arange(start, start + N), key)
    assert uniforms.min() >= 0 and uniforms.max() < 1
    assert abs(chi_square((uniforms * 256).long(), 256)) < 4
    assert abs(chi_square((uniforms * 2**24).long() & 255, 256)) < 4


@pytest.mark.parametrize("lag", [1, 2, 3, 64, 1024, 4096])
def test_neighbours_in_a_row_and_in_a_column_are_unrelated(lag):
    uniforms = uniforms_at(torch.arange(N), KEYS[-1])
    assert abs(joint(uniforms[:-lag], uniforms[lag:])) < 4


@pytest.mark.parametrize("bit", [0, 1, 16, 31, 32, 33, 63])
def test_keys_that_differ_in_one_bit_are_unrelated(bit):
    index = torch.arange(N)
    assert abs(joint(uniforms_at(index, KEYS[-1]), uniforms_at(index, KEYS[-1] ^ 1 << bit))) < 4


def test_positions_a_multiple_of_2_to_the_32_apart_are_unrelated():
    index = torch.arange(N)
    for apart in (2**32, 2**33, 2**40):
        assert abs(joint(uniforms_at(index, KEYS[-1]), uniforms_at(index + apart, KEYS[-1]))) < 4


def test_the_key_depends_on_seed_parent_and_tensor_and_not_on_where_they_join():
    keys = [mask_key(*k) for k in [(0, "a", "bc"), (0, "ab", "c"), (1, "a", "bc"), (0, "a", "bd"), (0, "", "abc")]]
    assert len(set(keys)) == len(keys) and all(0 <= k < 2**64 for k in keys)


@st.composite
def boxes(draw):
    whole = tuple(draw(st.lists(st.integers(1, 40), max_size=3)))
    edges = [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in whole]
    return whole, tuple(slice(a, b) for a, b in edges)


@quick
@given(boxes())
def test_any_box_has_the_numbers_of_its_place(whole_and_box):
    whole, box = whole_and_box
    part, full = Region(whole, box, KEYS), Region(whole, entire(whole), KEYS)
    assert part.shape == tuple(full.index()[box].shape)
    assert full.index().flatten().tolist() == list(range(math.prod(whole)))
    assert torch.equal(part.index(), full.index()[box])
    assert torch.equal(part.uniforms(), full.uniforms()[(slice(None), *box)])
    assert part.index().dtype == torch.int64 and part.uniforms().dtype == torch.float32


def test_a_box_beyond_2_to_the_32_elements():
    box = (slice(2**18 - 2, 2**18), slice(2**15 - 3, 2**15))
    region = Region((2**18, 2**15), box, KEYS)
    positions = [r * 2**15 + c for r in (2**18 - 2, 2**18 - 1) for c in range(2**15 - 3, 2**15)]
    assert region.index().flatten().tolist() == positions and positions[0] > 2**32
    assert region.uniforms()[1].flatten().tolist() == [by_hand(i, KEYS[1]) for i in positions]


def test_numbers_do_not_depend_on_how_the_work_is_cut():
    whole = Region((3, 1 << 16), entire((3, 1 << 16)), KEYS[:1]).uniforms()
    assert whole[0, 2, 12345] == by_hand(2 * 65536 + 12345, KEYS[0])


def test_a_box_outside_its_tensor_is_a_bug():
    for box in [(slice(0, 5),), (slice(0, 2), slice(0, 2)), (slice(0, 4, 2),)]:
        with pytest.raises(AssertionError):
            Region((4,), box)


@quick
@given(st.floats(0, 1), st.floats(0, 1))
def test_masks_are_nested_in_density(p, q):
    p, q = sorted((p, q))
    window = Region((500,), entire((500,)), KEYS[:1])
    (few,), (more,) = (drop(torch.ones(1, 500), (density,), window) for density in (p, q))
    assert bool((few <= more).all())


@pytest.mark.parametrize("density", [0.05, 0.3, 0.9])
def test_the_share_kept_is_the_density(density):
    kept = uniforms_at(torch.arange(N), KEYS[-1]) < density
    assert abs(kept.double().mean() - density) < 4 * math.sqrt(density * (1 - density) / N)


@pytest.mark.gpu
def test_an_accelerator_has_the_same_bits():
    box = (slice(2**18 - 2, 2**18), slice(1, 2**15))
    there = Region((2**18, 2**15), box, KEYS, device="cuda").uniforms()
    assert there.is_cuda and torch.equal(there.cpu(), Region((2**18, 2**15), box, KEYS).uniforms())
