"""Tying variables: which are one gene, that nothing is lost from stage to stage, and what variance is handed on."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.optimizers.stages import Tied, ladder, tie
from evomerge.types import Variable


def variables(groups, parents=("a", "b", "c"), parts=("mlp", "rest"), knobs=("weight",)):
    """As a space lists them: part after part, group after group."""
    return tuple(
        Variable(f"{k}/{part}/{g}/{p}", k, 0.0, 1.0, "linear", 0.4, 0.1, part=part, parent=p, depth=_depth(g, groups))
        for part in parts
        for g in range(groups)
        for k in knobs
        for p in parents
    )


def _depth(group, groups):
    return group / groups, (group + 1) / groups


def names(tied, given):
    """Names of the variables that share a gene, gene by gene."""
    return [{v.name for v, owner in zip(given, tied.owner, strict=True) if owner == i} for i in range(tied.distinct)]


owners = st.lists(st.integers(0, 4), min_size=1, max_size=12).map(
    lambda numbers: Tied(np.unique(numbers, return_inverse=True)[1])
)


def test_one_group_has_a_gene_for_each_knob_and_parent():
    given = variables(2, parents=("a", "b"), parts=("mlp", "rest"), knobs=("weight", "density"))
    found = names(tie(given, 1, parts=False), given)
    assert len(found) == 4
    assert {"weight/mlp/0/a", "weight/mlp/1/a", "weight/rest/0/a", "weight/rest/1/a"} in found


def test_groups_are_stretches_of_depth_and_parts_are_apart_if_asked():
    given = variables(6, parents=("a",))
    assert {"weight/mlp/2/a", "weight/mlp/3/a"} in names(tie(given, 3, parts=True), given)
    assert tie(given, 3, parts=True).distinct == 6
    assert tie(given, 3, parts=False).distinct == 3


def test_what_differs_by_its_name_alone_stays_apart():
    twin = Variable("genome[0]", "weight", 0.0, 1.0, "linear", 0.5, 0.1)
    given = tuple(replace(twin, name=f"genome[{i}]") for i in range(5))
    assert tie(given, 1, parts=False).distinct == 5


@pytest.mark.parametrize("change", [{"high": 2.0}, {"low": -1.0}, {"scale": "log"}, {"default": 0.9}, {"step": 0.3}])
def test_knobs_that_are_not_alike_stay_apart(change):
    first, second = variables(2, parents=("a",), parts=("rest",))
    assert tie((first, second), 1, parts=False).distinct == 1
    assert tie((first, replace(second, **change)), 1, parts=False).distinct == 2


@given(owners, st.randoms(use_true_random=False))
def test_a_coarse_genome_expands_and_comes_back_unchanged(tied, random):
    coarse = np.array([random.random() for _ in range(tied.distinct)])
    full = np.append(coarse, [0.5] * (tied.size - tied.distinct))
    assert tied.project(tied.expand(full)).tolist() == full.tolist()
    assert tied.holds(tied.expand(full))


@given(owners, st.randoms(use_true_random=False))
def test_projection_is_the_mean_of_what_is_tied(tied, random):
    genome = np.array([random.random() for _ in tied.owner])
    means = [genome[tied.owner == i].mean() for i in range(tied.distinct)]
    assert np.allclose(tied.project(genome)[: tied.distinct], means, rtol=0, atol=1e-15)
    assert tied.holds(genome) == all(np.ptp(genome[tied.owner == i]) == 0 for i in range(tied.distinct))


def test_a_lone_gene_has_company_that_does_nothing():
    tied = tie(variables(4, parents=("a",), parts=("rest",)), 1, parts=False)
    assert (tied.distinct, tied.size) == (1, 2)
    assert tied.expand(np.array([0.3, 0.9])).tolist() == [0.3] * 4
    assert tied.project(np.full(4, 0.3)).tolist() == [0.3, 0.5]


@pytest.mark.parametrize(
    ("groups", "parts_from", "sizes"),
    [
        ([1, 3, 6], 1, [6, 18, 36, 72]),
        ([1, 3, 6], 2, [3, 18, 36, 72]),
        ([1, 3, 6], 4, [3, 9, 18, 72]),
        ([2, 4, 12], 1, [12, 24, 72]),
        ([1], 2, [3, 72]),
        ([30], 1, [72]),
    ],
)
def test_a_ladder_grows_to_every_variable_apart(groups, parts_from, sizes):
    given = variables(12)
    found = ladder(given, groups, parts_from=parts_from)
    assert [t.size for t in found] == sizes
    assert found[-1].owner.tolist() == list(range(72))


@pytest.mark.parametrize(("groups", "sizes"), [(1, [3]), (2, [3, 6]), (3, [3, 9]), (4, [3, 9, 12]), (5, [3, 9, 15])])
def test_stages_that_would_add_no_gene_are_left_out(groups, sizes):
    assert [t.size for t in ladder(variables(groups, parts=("rest",)), [1, 3, 6], parts_from=2)] == sizes


@pytest.mark.parametrize("groups", [1, 2, 4, 5, 6, 7, 30, 32])
@pytest.mark.parametrize("parts_from", [1, 2, 3, 9])
def test_a_finer_stage_can_say_all_that_a_coarser_one_said(groups, parts_from):
    rng = np.random.default_rng(groups)
    for coarse, fine in pairwise(ladder(variables(groups), [1, 3, 6], parts_from=parts_from)):
        assert fine.holds(coarse.expand(rng.random(coarse.size)))


def test_the_next_stage_has_all_variance_of_the_last_and_its_own_steps_for_what_is_new():
    given = variables(6, parts=("rest",))
    coarse, fine = tie(given, 1, parts=False), tie(given, 3, parts=False)
    rng = np.random.default_rng(0)
    root = rng.normal(size=(3, 3))
    covariance, steps = root @ root.T, np.full(9, 0.2)
    found = coarse.spread(covariance, fine, steps)
    owner = np.tile(np.arange(3), 3)  # group after group
    means = np.eye(3)[owner].T / 3  # (3, 9), of the genes that were one
    assert np.allclose(means @ found @ means.T, covariance)  # what was known goes on
    new = np.eye(9) - np.eye(3)[owner] @ means
    assert np.allclose(new @ found @ new.T, 0.2**2 * new)  # the differences between them have their steps
    assert np.allclose(new @ found @ means.T, 0)


def test_a_stage_without_new_genes_for_a_knob_gives_it_no_new_variance():
    given = variables(2, parents=("a",), parts=("rest",)) + variables(1, parents=("b",), parts=("rest",))
    coarse, fine = ladder(given, [1], parts_from=1)
    found = coarse.spread(np.diag([0.04, 0.09]), fine, np.full(3, 0.5))
    assert found[2].tolist() == [0, 0, 0.09]
    assert np.isclose(found[0, 0], 0.04 + 0.25 / 2)
