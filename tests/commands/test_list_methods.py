"""`evomerge list methods`: every method with what a search may set."""

from __future__ import annotations

import pytest

from evomerge.cli import main
from evomerge.methods import METHODS


@pytest.fixture(scope="module")
def blocks():
    """Method -> its lines."""
    from evomerge.commands import list_methods

    found = "\n".join(list_methods.lines()).split("\n\n")
    return {block.split()[0]: block.splitlines() for block in found[1:] if block.split()[0] in METHODS}


def test_the_command_prints_the_table(capsys):
    from evomerge.commands import list_methods

    assert main(["list", "methods"]) == 0
    assert capsys.readouterr().out == "\n".join(list_methods.lines()) + "\n"


def test_every_method_stands_in_it_with_its_source_and_all_its_knobs(blocks):
    assert list(blocks) == list(METHODS)
    for name, (head, *rest) in blocks.items():
        assert head.endswith(METHODS[name].source)
        assert [line[2:].split()[0] for line in rest] == [k.name for k in METHODS[name].knobs]


def test_it_tells_where_a_search_has_another_default():
    from evomerge.commands import list_methods
    from evomerge.spaces.knobs import usual

    others = [(m, k.name) for m in METHODS.values() for k in m.knobs if usual(m).get(k.name) != k.default]
    assert {name for _, name in others} == {"normalize"} and all(m.on == "deltas" for m, _ in others)
    assert "searches hold normalize at false where differences are merged" in list(list_methods.lines())[-1]


@pytest.mark.parametrize(
    ("method", "parents", "base"),
    [("linear", "1+", "no"), ("slerp", "2", "no"), ("nuslerp", "2", "optional"), ("model_stock", "2+", "yes")],
)
def test_it_tells_how_many_parents_a_method_takes_and_whether_it_needs_a_base(blocks, method, parents, base):
    assert blocks[method][0].split()[1:3] == [parents, base]


@pytest.mark.parametrize(
    ("method", "line"),
    [
        ("task_arithmetic", "* weight            1         -0.5 to 1.5, one per parent"),
        ("task_arithmetic", "  normalize         false     false, true"),
        ("linear", "* weight            1         0 to 1, one per parent, normalised"),
        ("dare_ties", "* density           1         0.05 to 1, log scale, one per parent"),
        ("ram", "* epsilon           1e-05     1e-07 to 0.0001, log scale"),
        ("nearswap", "  t                 null      0 to 0.01"),
    ],
)
def test_a_knob_comes_with_default_range_and_whether_it_is_searched(blocks, method, line):
    assert line in blocks[method]
