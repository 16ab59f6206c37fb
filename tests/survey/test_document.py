from __future__ import annotations

import json

import pytest

from evomerge.survey import document as module
from evomerge.survey import figures
from evomerge.survey.document import document
from tests.survey.made import adapter, moved, surveyed


def test_it_survives_json_with_and_without_a_base(pico, tmp_path):
    folder, _ = adapter(pico["base"], tmp_path / "lora")
    for survey in (surveyed(pico["base"], pico["a"], folder, pico["base"]), surveyed(None, pico["a"], pico["b"])):
        made = document(survey)
        assert json.loads(json.dumps(made, allow_nan=False)) == json.loads(json.dumps(made))
        assert all(key in str(module.__doc__) for key in made)
        for rows in (made["parents"], made["pairs"], made["blocks"]):
            assert all(key in str(module.__doc__) for row in rows for key in row)


def test_its_figures_are_those_of_the_survey(pico, tmp_path):
    a, b = moved(pico["base"], tmp_path / "a", u=5.0), moved(pico["base"], tmp_path / "b", u=3.0, v=4.0)
    survey = surveyed(pico["base"], a, b)
    made = document(survey)
    assert [p["norm"] for p in made["parents"]] == pytest.approx([5, 5], rel=1e-5)
    assert made["pairs"][0]["cosine"] == pytest.approx(0.6, abs=1e-5)
    assert made["pairs"][0]["cosine_of_weights"] == pytest.approx(figures.weight_cosines(survey.total)[1, 2])
    assert sum(row["entries"] for row in made["blocks"]) == made["entries"] == survey.total.entries
    row = next(r for r in made["blocks"] if (r["block"], r["part"]) == (1, "mlp"))
    tally = survey.by_block_and_part[("model.layers", 1), "mlp"]
    assert list(row["relative_norms"].values()) == pytest.approx(list(figures.relative_norms(tally)))
    assert row["conflict"] == pytest.approx(figures.conflict(tally))


def test_what_cannot_be_known_is_null(pico):
    made = document(surveyed(None, pico["a"], pico["b"]))
    assert made["base"] is None and made["conflict"] is None
    assert made["parents"][0]["relative_norm"] is None and made["parents"][0]["equal_share"] is None
    lazy = document(surveyed(pico["base"], pico["a"], pico["base"]))
    assert lazy["pairs"][0]["cosine"] is None and lazy["parents"][1]["norm"] == 0
