"""How groups and knots lie over depth, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.errors import ConfigError
from evomerge.spaces.depth import blocks_of, in_place, matrix, nearest, solved, stretch
from evomerge.types import Recipe, Slot
from tests.spaces.pools import pool


def owners(found):
    return found.argmax(axis=1).tolist()


def test_one_group_is_all_blocks():
    assert matrix(1, 3).tolist() == [[1.0], [1.0], [1.0]]


@pytest.mark.parametrize(
    ("groups", "blocks", "wanted"),
    [
        (2, 4, [0, 0, 1, 1]),
        (2, 5, [0, 0, 0, 1, 1]),
        (3, 4, [0, 0, 1, 2]),
        (3, 8, [0, 0, 0, 1, 1, 1, 2, 2]),
        (4, 4, [0, 1, 2, 3]),
    ],
)
def test_equal_groups_by_hand(groups, blocks, wanted):
    found = matrix(groups, blocks)
    assert owners(found) == wanted
    assert set(found.flatten()) <= {0.0, 1.0}


def test_per_layer_is_a_group_a_block():
    assert np.array_equal(matrix("per_layer", 5), np.eye(5))


def test_ranges_own_their_blocks_in_any_order():
    assert owners(matrix([[0, 1], [1, 4]], 4)) == [0, 1, 1, 1]
    assert owners(matrix([[2, 4], [0, 2]], 4)) == [1, 1, 0, 0]


def test_knots_are_interpolated_linearly():
    assert matrix(2, 5, smooth=True) == pytest.approx(
        np.array([[1, 0], [0.75, 0.25], [0.5, 0.5], [0.25, 0.75], [0, 1]])
    )
    assert matrix(3, 5, smooth=True) == pytest.approx(
        np.array([[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1]])
    )


def test_one_knot_is_one_group():
    assert matrix(1, 3, smooth=True).tolist() == [[1.0], [1.0], [1.0]]
    assert matrix(1, 1, smooth=True).tolist() == [[1.0]]


@given(data=st.data(), blocks=st.integers(1, 40), smooth=st.booleans())
def test_every_block_is_shared_out_whole_and_every_group_counts_somewhere(data, blocks, smooth):
    groups = data.draw(st.integers(1, blocks))
    found = matrix(groups, blocks, smooth=smooth)
    assert found.shape == (blocks, groups)
    assert found.sum(axis=1) == pytest.approx(1.0)
    assert (found >= 0).all()
    assert (found.max(axis=0) > 0.4).all()
    assert np.linalg.matrix_rank(found) == groups
    assert owners(found) == sorted(owners(found))


@given(data=st.data(), blocks=st.integers(1, 40))
def test_equal_groups_differ_by_one_block_at_most(data, blocks):
    groups = data.draw(st.integers(1, blocks))
    sizes = matrix(groups, blocks).sum(axis=0)
    assert sizes.max() - sizes.min() <= 1


@given(data=st.data(), blocks=st.integers(1, 40), smooth=st.booleans())
def test_every_group_has_a_stretch_of_its_own_and_the_stretches_cover_the_depth(data, blocks, smooth):
    groups = data.draw(st.integers(1, blocks))
    found = matrix(groups, blocks, smooth=smooth)
    stretches = [stretch(found, group) for group in range(groups)]
    assert [low for low, _ in stretches] == [0.0, *(high for _, high in stretches[:-1])]
    assert stretches[-1][1] == 1.0
    assert all(low < high for low, high in stretches)


def test_what_cannot_mix_belongs_to_the_nearest_knot():
    assert owners(nearest(matrix(2, 5, smooth=True))) == [0, 0, 0, 1, 1]
    assert set(nearest(matrix(2, 5, smooth=True)).flatten()) == {0.0, 1.0}


@given(data=st.data(), blocks=st.integers(1, 40), smooth=st.booleans())
def test_the_values_of_groups_are_found_again_from_those_of_the_blocks(data, blocks, smooth):
    groups = data.draw(st.integers(1, blocks))
    shares = matrix(groups, blocks, smooth=smooth)
    values = np.random.default_rng(blocks).random((groups, 3))
    assert solved(shares, shares @ values) == pytest.approx(values, abs=1e-9)


def test_values_of_whole_groups_are_found_again_to_the_last_bit():
    values = np.array([[1 / 3], [0.1]])
    assert np.array_equal(solved(matrix(2, 5), matrix(2, 5) @ values), values)


def test_blocks_run_over_all_stacks_in_order():
    assert blocks_of(pool(1, stacks={"encoder": 1, "decoder": 2})) == [("encoder", 0), ("decoder", 0), ("decoder", 1)]


def test_a_recipe_is_in_place_if_every_block_is_its_own_of_all_parents():
    def recipe(*sources, scale=1.0):
        return Recipe(("sha-a", "sha-b"), None, tuple(Slot(s, {}, scale) for s in sources), {})

    first, second = (((0, "layers", b), (1, "layers", b)) for b in (0, 1))
    two = pool(2, blocks=2)
    assert in_place(two, recipe(first, second))
    assert not in_place(two, recipe(second, first))
    assert not in_place(two, recipe(first, first))
    assert not in_place(two, recipe(first, second[:1]))
    assert not in_place(two, recipe(first, second[::-1]))
    assert not in_place(two, recipe(first))
    assert not in_place(two, recipe(first, second, scale=0.5))


@pytest.mark.parametrize("groups", [0, -1, 5])
def test_more_groups_than_blocks_or_none_are_refused(groups):
    with pytest.raises(ConfigError, match=f"space.groups is {groups} for a model of 4 blocks; wanted 1 to 4"):
        matrix(groups, 4)


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ([[0, 2], [1, 4]], r"cover block 1 2 times"),
        ([[0, 2], [3, 4]], r"cover block 2 0 times"),
        ([], r"cover block 0 0 times"),
        ([[0, 4], [4, 8]], r"has \[4, 8\] for a model of 4 blocks; wanted \[first, last\)"),
        ([[0, 9]], r"has \[0, 9\] for a model of 4 blocks"),
        ([[0, 4], [2, 2]], r"has \[2, 2\] for a model of 4 blocks"),
        ([[2, 0], [0, 4]], r"has \[2, 0\] for a model of 4 blocks"),
        ([[-1, 4]], r"has \[-1, 4\] for a model of 4 blocks"),
        ([[0, 1, 2]], r"has \[0, 1, 2\] for a model of 4 blocks"),
    ],
)
def test_ranges_that_do_not_cover_each_block_once_are_refused(ranges, message):
    with pytest.raises(ConfigError, match=message):
        matrix(ranges, 4)


def test_an_unknown_word_is_refused():
    with pytest.raises(ConfigError, match=r"space.groups is 'every'; wanted a number, per_layer, or a list"):
        matrix("every", 4)
