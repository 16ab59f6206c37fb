"""Gene <-> value of a knob."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.methods import METHODS
from evomerge.spaces import genes
from evomerge.types import Knob

LINEAR = Knob("weight", 1.0, -0.2, 1.8)
LOG = Knob("density", 1.0, 0.01, 1.0, "log")
CHOICE = Knob("rescale", "none", scale="choice", values=("none", "l1", "inv_p"))

NUMERIC = [k for m in METHODS.values() for k in m.knobs if k.scale != "choice"]


@pytest.mark.parametrize(
    ("gene", "place"), [(0.0, 0.0), (0.19, 0.0), (0.2, 0.25), (0.5, 0.5), (0.79, 0.75), (1.0, 1.0), (-1, 0.0), (2, 1.0)]
)
def test_five_levels_are_five_even_places_ends_included(gene, place):
    assert genes.place(gene, 5) == place


@pytest.mark.parametrize(("gene", "place"), [(-0.5, 0.0), (0.3, 0.3), (1.5, 1.0)])
def test_without_levels_a_gene_is_its_own_place(gene, place):
    assert genes.place(gene) == place


@given(data=st.data(), levels=st.integers(2, 30))
def test_the_gene_of_a_level_is_the_middle_of_its_interval(data, levels):
    level = data.draw(st.integers(0, levels - 1))
    found = genes.gene_at(level / (levels - 1), levels)
    assert found == genes.nearest(level / (levels - 1) + 0.4 / levels, levels) == (level + 0.5) / levels
    assert genes.place(found, levels) == pytest.approx(level / (levels - 1))


def test_a_place_between_levels_has_no_gene():
    assert genes.gene_at(0.3, 11) == 3.5 / 11
    assert genes.gene_at(0.31, 11) is None
    assert genes.gene_at(0.31) == 0.31
    assert genes.nearest(0.31) == 0.31


@pytest.mark.parametrize(("gene", "value"), [(0.0, -0.2), (0.5, 0.8), (1.0, 1.8), (0.25, 0.3)])
def test_a_linear_knob_by_hand(gene, value):
    assert genes.value(LINEAR, gene) == pytest.approx(value)
    assert genes.gene(LINEAR, value) == pytest.approx(gene)


@pytest.mark.parametrize(("gene", "value"), [(0.0, 0.01), (0.5, 0.1), (1.0, 1.0), (0.25, 0.01 * 10**0.5)])
def test_a_log_knob_by_hand(gene, value):
    assert genes.value(LOG, gene) == pytest.approx(value)
    assert genes.gene(LOG, value) == pytest.approx(gene)


@pytest.mark.parametrize(
    ("gene", "value"), [(0.0, "none"), (0.33, "none"), (0.34, "l1"), (0.67, "inv_p"), (1.0, "inv_p")]
)
def test_a_choice_splits_the_range_equally(gene, value):
    assert genes.value(CHOICE, gene) == value


def test_the_gene_of_a_choice_is_the_middle_of_its_interval():
    assert [genes.gene(CHOICE, v) for v in CHOICE.values] == pytest.approx([1 / 6, 1 / 2, 5 / 6])


@given(gene=st.floats(0, 1), knob=st.sampled_from([LINEAR, LOG, *NUMERIC]))
def test_genes_survive_the_way_there_and_back(gene, knob):
    assert genes.gene(knob, genes.value(knob, gene)) == pytest.approx(gene, abs=1e-9)


@given(gene=st.floats(0, 1), knob=st.sampled_from([LINEAR, LOG, *NUMERIC]))
def test_values_lie_within_the_range(gene, knob):
    assert knob.low - 1e-9 <= genes.value(knob, gene) <= knob.high + 1e-9
    assert genes.within(knob, genes.value(knob, gene))


@given(low=st.floats(0, 1), more=st.floats(1e-6, 1), knob=st.sampled_from([LINEAR, LOG]))
def test_a_larger_gene_is_a_larger_value(low, more, knob):
    if low + more <= 1:
        assert genes.value(knob, low + more) > genes.value(knob, low)


@pytest.mark.parametrize("knob", [LINEAR, LOG, CHOICE])
def test_genes_outside_the_cube_are_clipped(knob):
    assert genes.value(knob, -0.3) == genes.value(knob, 0.0)
    assert genes.value(knob, 1.3) == genes.value(knob, 1.0)


@pytest.mark.parametrize(
    ("knob", "value", "gene"), [(LINEAR, -5, 0.0), (LINEAR, 5, 1.0), (LOG, 0.0, 0.0), (LOG, 3, 1.0)]
)
def test_values_outside_the_range_are_clipped_and_not_within(knob, value, gene):
    assert genes.gene(knob, value) == gene
    assert not genes.within(knob, value)


def test_within_allows_for_rounding_and_knows_choices():
    assert genes.within(LINEAR, 1.8 + 1e-12)
    assert not genes.within(LINEAR, 1.8 + 1e-6)
    assert genes.within(CHOICE, "l1")
    assert not genes.within(CHOICE, "l2")
