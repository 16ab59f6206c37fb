"""The command as a user types it."""

from __future__ import annotations

import json
import shlex

import pytest

from evomerge import config
from evomerge.cli import main


@pytest.fixture
def given(pico):
    return [f"parents.base={pico['base']}", f"parents.models=[{pico['a']},{pico['b']}]"]


def test_it_prints_tables_and_a_line_that_search_understands(given, capsys):
    assert main(["inspect", *given, "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert all(title in out for title in ("Parents", "Cosines of task vectors", "Sign conflict by depth and part"))
    lines = [line for line in out.splitlines() if line.startswith("evomerge search ")]
    for line in lines:
        assert config.settings(shlex.split(line)[2:]).parents.base == given[0].partition("=")[2]


def test_the_embedded_zoo_is_suggested_settings(capsys):
    assert main(["inspect", "--device", "cpu"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("evomerge search "))
    assert config.settings(shlex.split(line)[2:]).space.parts == ["self_attn", "embeddings"]


def test_json_is_all_there_is_on_stdout_and_the_picture_is_written(given, capsys, tmp_path):
    assert main(["inspect", *given, "--json", "--png", str(tmp_path / "p.png"), "--device", "cpu"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda c: pytest.fail(f"{c} in JSON"))
    assert [p["name"] for p in found["parents"]] == ["a", "b"]
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_without_a_base_it_says_what_a_base_would_add(given, capsys):
    assert main(["inspect", given[1], "parents.base=null", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "With parents.base set" in out and "space.method=slerp" in out


def test_equal_names_are_told_apart(pico, capsys):
    models = f"parents.models=[{pico['a']},{pico['b']},{pico['a']}]"
    assert main(["inspect", f"parents.base={pico['base']}", models, "--json"]) == 0
    assert [p["name"] for p in json.loads(capsys.readouterr().out)["parents"]] == ["a", "b", "a#2"]


def test_an_unknown_option_is_refused(capsys):
    assert main(["inspect", "--pgn", "x"]) == 2
    assert "'--pgn' is not understood" in capsys.readouterr().err


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as end:
        main(["inspect", "--help"])
    assert end.value.code == 0
    assert "evomerge inspect parents.base=BASE" in capsys.readouterr().out
