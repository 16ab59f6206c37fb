"""Weights that sum to 1: exact sums, every checkpoint within reach, no gene for nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from evomerge.errors import ConfigError
from evomerge.spaces.references import references
from evomerge.spaces.simplex import Simplex, helmert
from evomerge.spaces.weights import WeightsSpace
from evomerge.types import Blend, Pool, Recipe
from tests.spaces import holding
from tests.spaces.pools import pool

CUTS = ({}, {"groups": 2}, {"groups": [[2, 4], [0, 2]]}, {"groups": 3, "smooth": True})


def space(parents=5, **given):
    return Simplex(pool(parents), **given)


def weights(recipe):
    """float64 (blocks, K), of every tensor."""
    assert {b.method for s in recipe.slots for b in s.blends.values()} == {"linear"}
    assert {b.knobs["normalize"] for b in (*recipe.outer.values(), *(s.blends["*"] for s in recipe.slots))} == {False}
    return np.array([s.blends["*"].knobs["weight"] for s in recipe.slots])


def far(parents, negative):
    """The corner of the box in which most weights are negative."""
    found = space(parents, negative=negative)
    return weights(found.decode(np.ones(found.size)))[0]


# ---------------------------------------------------------------- the plane


@pytest.mark.parametrize("k", [2, 3, 5, 16])
def test_the_contrasts_are_an_orthonormal_basis_of_the_plane_of_sum_zero(k):
    h = helmert(k)
    assert h.T @ h == pytest.approx(np.eye(k - 1), abs=1e-15)
    assert h.sum(axis=0) == pytest.approx(np.zeros(k - 1), abs=1e-15)


def test_two_checkpoints_by_hand():
    found = space(2, negative=True)
    assert [weights(found.decode(np.array([g])))[0].tolist() for g in (0.0, 0.5, 1.0)] == [
        pytest.approx([0.0, 1.0]),
        pytest.approx([0.5, 0.5]),
        pytest.approx([1.0, 0.0]),
    ]


@pytest.mark.parametrize("negative", [False, True])
@given(data=st.data(), parents=st.integers(2, 8), cut=st.sampled_from(CUTS))
@settings(max_examples=60, deadline=None)
def test_weights_sum_to_one(data, parents, cut, negative):
    found = space(parents, negative=negative, **cut)
    rows = weights(found.decode(data.draw(holding.genomes(found.size))))
    assert np.abs(rows.sum(axis=1) - 1).max() < 1e-12
    assert negative or (rows >= 0).all()


def test_negative_weights_are_allowed_or_cut_and_the_rest_rescaled():
    free, cut = far(4, True), far(4, False)
    assert (free < 0).any()
    assert cut == pytest.approx(np.maximum(free, 0) / np.maximum(free, 0).sum())
    assert (cut == 0).any()


@pytest.mark.parametrize("k", [2, 3, 8])
def test_the_box_just_holds_each_checkpoint(k):
    found = space(k)
    genomes = [found.encode(r) for name, r in references(pool(k), seed=0, dtype="").items() if "parent" in name]
    assert max(g.max() for g in genomes) <= 1.0
    assert min(g.min() for g in genomes) == pytest.approx(0.0, abs=1e-12)


# ---------------------------------------------------------------- variables and decode


def test_there_is_one_gene_less_than_checkpoints_in_each_group_and_none_is_leading():
    found = space(5, groups=2).variables
    assert [v.name for v in found] == [f"contrast{j}/rest/{g}/all" for g in (0, 1) for j in (1, 2, 3, 4)]
    assert [v.depth for v in found] == [(0.0, 0.5)] * 4 + [(0.5, 1.0)] * 4
    assert not any(v.leading for v in found)
    assert not space(5).common_scale


@pytest.mark.parametrize("k", [2, 5, 16])
def test_the_first_step_leads_half_as_far_as_a_checkpoint_lies(k):
    many = tuple(f"sha-{i}" for i in range(k))
    found = Simplex(pool_of(many))
    length = math.sqrt(sum((v.step * (v.high - v.low)) ** 2 for v in found.variables))
    assert length == pytest.approx(math.sqrt(1 - 1 / k) / 2)


def pool_of(digests):
    return Pool(digests, digests, None, {"layers": 4})


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("k", [2, 3, 8])
def test_the_centre_of_the_box_is_the_plain_average(k, cut):
    found = space(k, **cut)
    assert weights(found.decode(holding.default(found))).tolist() == [[1 / k] * k] * 4


def test_every_gene_counts_and_genes_outside_are_clipped():
    found = space(4, groups=2)
    genome = np.full(found.size, 0.5)
    digests = {found.decode(genome + 0.05 * (np.arange(found.size) == i)).digest for i in range(found.size)}
    assert len(digests | {found.decode(genome).digest}) == found.size + 1
    assert found.decode(np.full(found.size, 1.7)) == found.decode(np.ones(found.size))


def test_knots_are_interpolated_between_their_weights():
    found = space(3, groups=2, smooth=True, negative=True)
    rows = weights(found.decode(np.array([0.2, 0.4, 0.9, 0.7])))
    assert rows[1] == pytest.approx(rows[0] * 2 / 3 + rows[3] / 3)


def test_negative_weights_are_cut_at_the_knots_before_these_are_mixed():
    found = space(3, groups=2, smooth=True)
    rows = weights(found.decode(np.array([0.1, 0.0, 0.9, 1.0])))
    knots = [weights(space(3).decode(np.array(own)))[0] for own in ([0.1, 0.0], [0.9, 1.0])]
    assert all((knot == 0).any() for knot in knots)
    assert rows == pytest.approx(np.array([[1, 0], [2 / 3, 1 / 3], [1 / 3, 2 / 3], [0, 1]]) @ knots)


def test_embeddings_follow_the_first_block_and_final_norm_and_head_the_last():
    recipe = space(3, groups=2).decode(np.array([0.4, 0.5, 0.6, 0.7]))
    assert recipe.outer == {"embeddings": recipe.slots[0].blends["*"], "*": recipe.slots[-1].blends["*"]}


def test_a_sum_of_three_builds_and_speaks(trio):
    found = Simplex(trio.pool(), groups=2)
    alone = references(trio.pool(), seed=0, dtype="float32")["average"]
    average = found.decode(holding.default(found))
    assert (holding.finite_logits(average, trio) - holding.finite_logits(alone, trio)).abs().max() < 1e-3


# ---------------------------------------------------------------- encode


@given(data=st.data(), cut=st.sampled_from(CUTS))
@settings(max_examples=60, deadline=None)
def test_encode_finds_the_genome_again(data, cut):
    found = space(4, negative=True, **cut)
    genome = data.draw(holding.genomes(found.size))
    assert holding.comes_back(found, found.decode(genome)) == pytest.approx(genome, abs=1e-9)


@given(data=st.data(), cut=st.sampled_from(CUTS))
@settings(max_examples=60, deadline=None)
def test_weights_that_were_cut_are_found_again(data, cut):
    found = space(4, **cut)
    recipe = found.decode(data.draw(holding.genomes(found.size)))
    assert weights(found.decode(holding.comes_back(found, recipe))) == pytest.approx(weights(recipe), abs=1e-12)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("negative", [False, True])
def test_checkpoints_and_the_plain_average_are_said_exactly(cut, negative):
    found = space(5, negative=negative, **cut)
    for name, recipe in references(pool(5), seed=0, dtype="bfloat16").items():
        if name == "base":
            assert found.encode(recipe) is None
            continue
        wanted = [0.2] * 5 if name == "average" else [float(name == f"parent:{p}") for p in "abcde"]
        tolerance = 1e-11 if cut.get("smooth") else 1e-15
        assert np.abs(weights(found.decode(found.encode(recipe))) - wanted).max() <= tolerance


def test_merges_of_some_of_the_checkpoints_have_weights_of_zero_for_the_others():
    few = WeightsSpace(pool(2), method="linear", per_parent=["weight"])
    found = space(4).encode(few.decode(np.array([0.2, 0.6])))
    assert weights(space(4).decode(found))[0] == pytest.approx([0.25, 0.75, 0.0, 0.0])


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_linear_merges_of_other_spaces_are_said_once_they_are_normalised(data):
    other = WeightsSpace(pool(4), method="linear", groups=2, per_parent=["weight"])
    genome = data.draw(holding.genomes(other.size))
    assume(genome[:4].sum() > 0.1 and genome[4:].sum() > 0.1)
    found = space(4, groups=2)
    recipe = found.decode(found.encode(other.decode(genome)))
    assert weights(recipe)[[0, 3]] == pytest.approx(genome.reshape(2, 4) / genome.reshape(2, 4).sum(axis=1)[:, None])


def test_other_recipes_have_no_genome():
    found = space(3, groups=2, negative=True)
    recipe = found.decode(np.array([0.4, 0.6, 0.7, 0.5]))
    assert found.encode(recipe) is not None
    assert space(3, negative=True).encode(recipe) is None  # differs over depth
    assert space(2, groups=2).encode(recipe) is None
    assert space(3, groups=2).encode(_with(recipe, weight=(1.0, 0.5, -0.5))) is None  # negative
    assert found.encode(_with(recipe, weight=(0.5, 0.2, 0.2))) is None  # does not sum to 1
    assert found.encode(_with(recipe, weight=(2.5, -1.0, -0.5))) is None  # beyond the box
    other = WeightsSpace(pool(3), method="task_arithmetic", groups=2)
    assert found.encode(other.decode(np.full(other.size, 0.4))) is None
    mixed = WeightsSpace(pool(3), method="linear", groups=2, parts=["mlp"])
    assert found.encode(mixed.decode(np.linspace(0.1, 0.9, mixed.size))) is None
    everywhere = _with(recipe, weight=(0.5, 0.25, 0.25))
    assert found.encode(everywhere) is not None
    assert found.encode(Recipe(recipe.parents, None, everywhere.slots[::-1], everywhere.outer)) is None  # blocks moved


def _with(recipe, **knobs):
    blends = {"*": Blend("linear", {"normalize": False, **knobs})}
    slots = tuple(type(s)(s.sources, blends) for s in recipe.slots)
    return Recipe(recipe.parents, recipe.base, slots, blends)


# ---------------------------------------------------------------- bad settings


@pytest.mark.parametrize(
    ("parents", "given", "message"),
    [
        (1, {}, r"space=simplex wants at least 2 parents, got 1\. Add some to parents.models"),
        (3, {"groups": 0}, r"space.groups is 0 for a model of 4 blocks; wanted 1 to 4"),
    ],
)
def test_bad_settings_are_refused_with_what_was_wanted(parents, given, message):
    with pytest.raises(ConfigError, match=message):
        space(parents, **given)
