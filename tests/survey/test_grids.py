from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from evomerge.reports.table import table
from evomerge.survey.grids import PAIRS, ROWS, grids
from tests.survey.made import moved, surveyed


def printed(survey, width=100):
    console = Console(width=width, record=True, file=StringIO())
    for grid in grids(survey):
        console.print(table(grid))
    return console.export_text()


def test_seven_parents_with_long_names_fit_100_columns_unfolded(pico, tmp_path):
    many = [moved(pico["base"], tmp_path / k, **{k: 1.0}) for k in "abcdefg"]
    survey = surveyed(pico["base"], *many)
    named = [replace(c, name=f"some-model-7b-instruct-{i}") for i, c in enumerate(survey.parents)]
    text = printed(replace(survey, parents=tuple(named)))
    assert text == printed(replace(survey, parents=tuple(named)), width=300)
    assert text.count("truct-6") >= 2


def test_the_figures_stand_in_the_tables(pico, tmp_path):
    a, b = moved(pico["base"], tmp_path / "a", u=5.0), moved(pico["base"], tmp_path / "b", u=3.0, v=4.0)
    parents, pairs, lengths, conflict = grids(surveyed(pico["base"], a, b))
    assert [row[2] for row in parents.rows] == ["5", "5"]
    assert pairs.rows[0][:2] == ("A, B", "0.600")
    assert [row[0] for row in lengths.rows] == ["0", "1", "outside"]
    assert [row[0] for row in conflict.rows] == ["0", "1", "outside"]


def test_many_pairs_are_cut_to_the_closest_and_the_note_says_so(pico, tmp_path):
    many = [moved(pico["base"], tmp_path / k, **{k: 1.0}) for k in "abcdefg"]
    pairs = grids(surveyed(pico["base"], *many))[1]
    assert len(pairs.rows) == PAIRS and "of 21 pairs" in pairs.note


@pytest.mark.parametrize("depth", [17, 33])
def test_deep_models_are_shown_in_bands(pico, depth):
    survey = surveyed(pico["base"], pico["a"], pico["b"])
    tallies = {n: t for n, t in survey.tallies.items() if "layers" not in n}
    for block in range(depth):
        tallies |= {n.replace("layers.0", f"layers.{block}"): t for n, t in survey.tallies.items() if "layers.0" in n}
    shapes = {n: survey.shapes.get(n, (2, 2)) for n in tallies}
    deep = replace(survey, tallies=tallies, shapes=shapes, stacks={"model.layers": depth})
    titles = [row[0] for row in grids(deep)[2].rows]
    assert len(titles) <= ROWS + 1 and titles[0].startswith("0-") and titles[-2].endswith(str(depth - 1))


def test_without_a_base_there_are_parents_and_pairs_only(pico):
    assert [g.title for g in grids(surveyed(None, pico["a"], pico["b"]))] == ["Parents", "Cosines of weights"]
