"""The counter-based hash: its words are frozen, uniform, unrelated, and belong to the place."""

from __future__ import annotations

import hashlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.methods.masks import (
    END,
    WIDTH,
    below,
    columns,
    entry_word,
    mask_key,
    row_words,
    shared_word,
    tie_word,
)

CPU = torch.device("cpu")
ROWS = 256
N = ROWS * WIDTH
SHARED, OWN = mask_key(0, "", "model.norm.weight"), mask_key(0, "parent", "model.norm.weight")
# Computed once by this code; a change means that every recipe with a seed names another model.
FROZEN_KEY = 1716638330255922631
FROZEN_ROWS = {
    0: [-73531067, 1783362161, -282502278, -1194966675],
    2**64 - 1: [-1549541231, -275812775, 1324994234, -2104707949],
    FROZEN_KEY: [1674409019, 774609000, -2088767623, 2135655133],
}
FROZEN_WORDS = [2989319, -3684236, 2739969, 5076868, 6139983, -535706, 2551287]
FROZEN_TIES = [8366655, -2002234, 4406092, -3029134, 7701895, 3805562, 1018471]
quick = settings(deadline=None, max_examples=50, derandomize=True)


def rows_of(keys: tuple[int, ...], n: int, device: torch.device = CPU) -> torch.Tensor:
    """int32 (keys, rows, 1)"""
    return torch.stack([row_words(key, n, device) for key in keys])[:, :, None]


def words_of(key: int, shared: int = SHARED, n: int = N) -> torch.Tensor:
    """int32 (n,): a parent's words, row after row."""
    rows = rows_of((shared, key), n)
    return entry_word(shared_word(columns(CPU), rows[0]), rows[1]).flatten()[:n]


def ties_of(key: int) -> torch.Tensor:
    return tie_word(columns(CPU), rows_of((key,), N)[0]).flatten()


# ---------------------------------------------------------------- by hand, in Python's integers


def signed(word: int) -> int:
    return word - 2**32 if word >= 2**31 else word


def half_round(word: int) -> int:
    word = word * 0x7FEB352D & 0xFFFFFFFF
    return (word ^ word >> 15) * 0x846CA68B & 0xFFFFFFFF


def a_round(word: int) -> int:
    return half_round(word ^ word >> 16)


def row_by_hand(row: int, key: int) -> int:
    spread = hashlib.sha256(key.to_bytes(8, "little")).digest()
    word = row ^ int.from_bytes(spread[:4], "little")
    for taken_in in (int.from_bytes(spread[4:8], "little"), 0, 0):
        word = a_round(word)
        word = word ^ word >> 16 ^ taken_in
    return word


def word_by_hand(position: int, shared: int, key: int) -> int:
    row, column = divmod(position, WIDTH)
    word = half_round(column ^ row_by_hand(row, shared))
    return signed(a_round(word ^ row_by_hand(row, key))) >> 8


def tie_by_hand(position: int, key: int) -> int:
    row, column = divmod(position, WIDTH)
    return signed((column ^ row_by_hand(row, key)) * 0x9E3779B1 & 0xFFFFFFFF) >> 8


def test_known_answers():
    assert mask_key(0, "parent", "model.norm.weight") == FROZEN_KEY == OWN
    for key, frozen in FROZEN_ROWS.items():
        assert row_words(key, 4 * WIDTH, CPU).tolist() == frozen
    places = [0, 1, 2, 1023, 1024, 4096, N - 1]
    assert words_of(OWN)[places].tolist() == FROZEN_WORDS
    assert ties_of(OWN)[places].tolist() == FROZEN_TIES


@quick
@given(st.integers(1, 5000), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_the_tensor_code_is_the_integer_hash(n, shared, key):
    rows = row_words(key, n, CPU)
    assert rows.dtype == torch.int32 and rows.shape == (-(-n // WIDTH),)
    assert rows.tolist() == [signed(row_by_hand(r, key)) for r in range(len(rows))]
    places = [0, n // 3, n - 1]
    assert words_of(key, shared, n)[places].tolist() == [word_by_hand(p, shared, key) for p in places]
    ties = tie_word(columns(CPU), rows[:, None]).flatten()
    assert ties[places].tolist() == [tie_by_hand(p, key) for p in places]


def test_rows_beyond_2_to_the_31_entries_have_words_of_their_own():
    rows = 2**21 + 3
    words = row_words(OWN, rows * WIDTH - 5, CPU)
    assert len(words) == rows
    assert words[-3:].tolist() == [signed(row_by_hand(r, OWN)) for r in range(rows - 3, rows)]


# ---------------------------------------------------------------- their law


def chi_square(cells: torch.Tensor, n_cells: int) -> float:
    """How many standard deviations chi-square lies from its mean if all cells are equally likely."""
    counts = torch.bincount(cells.flatten(), minlength=n_cells).double()
    wanted = cells.numel() / n_cells
    chi2 = ((counts - wanted) ** 2 / wanted).sum().item()
    return (chi2 - (n_cells - 1)) / math.sqrt(2 * (n_cells - 1))


def cells(words: torch.Tensor, n: int) -> torch.Tensor:
    """int64: in which of n equal ranges a word lies."""
    return ((words.double() / 2**24 + 0.5) * n).long().clamp(max=n - 1)


def joint(a: torch.Tensor, b: torch.Tensor) -> float:
    """chi_square of pairs over 32 x 32 cells: a test of independence that sees more than correlation."""
    return chi_square(cells(a, 32) * 32 + cells(b, 32), 1024)


@pytest.mark.parametrize("key", [0, 1, 1 << 32, OWN])
def test_words_are_uniform_in_the_high_and_in_the_middle_bits(key):
    words = words_of(key)
    assert words.min() >= -END and words.max() < END
    assert abs(chi_square(cells(words, 256), 256)) < 4
    assert abs(chi_square(cells(words, 2**16) & 255, 256)) < 4


@pytest.mark.parametrize("density", [0.01, 0.05, 0.3, 0.5, 0.9, 0.99])
def test_the_share_below_is_the_probability_over_all_rows_and_all_columns(density):
    kept = (words_of(OWN) < below(density)).double().view(ROWS, WIDTH)
    assert abs(kept.mean() - density) < 4 * math.sqrt(density * (1 - density) / N)
    for dim, n in ((0, ROWS), (1, WIDTH)):
        share = kept.mean(dim)
        chi2 = ((share - density) ** 2 * n / (density * (1 - density))).sum().item()
        assert abs(chi2 - len(share)) < 5 * math.sqrt(2 * len(share))


@pytest.mark.parametrize("lag", [1, 2, 3, 64, WIDTH - 1, WIDTH, WIDTH + 1, 4 * WIDTH])
def test_neighbours_in_a_row_and_in_a_column_are_unrelated(lag):
    words = words_of(OWN)
    assert abs(joint(words[:-lag], words[lag:])) < 4


@pytest.mark.parametrize("bit", [0, 1, 16, 31, 32, 33, 63])
def test_parents_whose_keys_differ_in_one_bit_are_unrelated(bit):
    assert abs(joint(words_of(OWN), words_of(OWN ^ 1 << bit))) < 4


def test_three_parents_are_kept_together_as_often_as_chance_has_it():
    kept = [words_of(mask_key(0, digest, "w")) < below(0.5) for digest in "abc"]
    cell = sum(mask.long() << k for k, mask in enumerate(kept))
    assert abs(chi_square(cell, 8)) < 4


def test_tensors_and_seeds_are_unrelated():
    def words(seed, name):
        return words_of(mask_key(seed, "a", name), mask_key(seed, "", name))

    assert abs(joint(words(0, "v"), words(0, "w"))) < 4
    assert abs(joint(words(0, "w"), words(1, "w"))) < 4


def test_tie_words_are_uniform_and_spread_evenly_over_every_row():
    words = ties_of(OWN)
    assert -8 < chi_square(cells(words, 64), 64) < 4  # more even than chance
    for density in (0.1, 0.5, 0.8):
        kept = (words < below(density)).view(ROWS, WIDTH).sum(1)
        assert float((kept - density * WIDTH).abs().max()) < 0.01 * WIDTH


def test_words_of_a_row_do_not_repeat():
    assert all(len(row.unique()) > WIDTH - 4 for row in ties_of(OWN).view(ROWS, WIDTH)[:8])
    assert all(len(row.unique()) > WIDTH - 4 for row in words_of(OWN).view(ROWS, WIDTH)[:8])


# ---------------------------------------------------------------- keys and limits


def test_the_key_depends_on_seed_parent_and_tensor_and_not_on_where_they_join():
    keys = [mask_key(*k) for k in [(0, "a", "bc"), (0, "ab", "c"), (1, "a", "bc"), (0, "a", "bd"), (0, "", "abc")]]
    assert len(set(keys)) == len(keys) and all(0 <= k < 2**64 for k in keys)


@quick
@given(st.floats(0, 1), st.floats(0, 1))
def test_masks_are_nested_in_density(p, q):
    few, more = (words_of(OWN, n=500) < below(density) for density in sorted((p, q)))
    assert bool((few <= more).all())


def test_nothing_is_below_0_and_everything_below_1():
    words = torch.tensor([-(2**23), 0, 2**23 - 1])
    for density in (-1.0, 0.0):
        assert not (words < below(density)).any()
    for density in (1.0, 2.0):
        assert (words < below(density)).all()


@pytest.mark.gpu
def test_an_accelerator_has_the_same_bits():
    there = rows_of((SHARED, OWN), N, torch.device("cuda"))
    column = columns(torch.device("cuda"))
    assert torch.equal(entry_word(shared_word(column, there[0]), there[1]).cpu().flatten(), words_of(OWN))
    assert torch.equal(tie_word(column, there[1]).cpu().flatten(), ties_of(OWN))
