"""The METHODS table: what a method declares is what its function takes."""

from __future__ import annotations

import inspect

import pytest

from evomerge.errors import ConfigError
from evomerge.methods import METHODS, get

LEADING = {"slerp": "t", "passthrough": "scale"}  # all others: weight
each = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def keywords(function):
    return {p.name: p.default for p in inspect.signature(function).parameters.values() if p.kind == p.KEYWORD_ONLY}


def test_names_are_the_keys():
    assert {name: method.name for name, method in METHODS.items()} == {name: name for name in METHODS}


@each
def test_knobs_are_the_functions_keywords_with_the_same_defaults(method):
    declared = keywords(method.fn)
    assert [declared.pop(name) for name in ("window", "stats")] == [inspect.Parameter.empty] * 2
    assert list(declared.items()) == [(k.name, k.default) for k in method.knobs]


@each
def test_prepare_depends_on_declared_knobs_only(method):
    if method.prepare is None:
        return
    named = keywords(method.prepare)
    del named["window"]
    assert named.items() <= {k.name: k.default for k in method.knobs}.items()


@each
def test_the_leading_knob_comes_first(method):
    assert method.knobs[0].name == LEADING.get(method.name, "weight")


@each
def test_defaults_lie_in_their_ranges(method):
    for knob in method.knobs:
        if knob.scale == "choice":
            assert knob.default in knob.values and not knob.per_parent
        else:
            assert knob.low <= knob.default <= knob.high and (knob.low > 0 or knob.scale == "linear")
        assert 0 < knob.step < 1


@each
def test_the_stand_in_is_linear_and_takes_the_same_values(method):
    if method.plain is None:
        return
    stand_in = METHODS[method.plain]
    assert stand_in.on == method.on and stand_in.prepare is None and stand_in.plain is None
    assert {k.name for k in stand_in.knobs} <= {k.name for k in method.knobs}


@each
def test_the_source_names_where_the_method_is_from(method):
    assert "arXiv:" in method.source or "doi:" in method.source


def test_get_suggests_the_nearest_name():
    assert get("ties") is METHODS["ties"]
    with pytest.raises(ConfigError, match=r"unknown method 'tie'\. Did you mean 'ties'\? Known: dare_linear, "):
        get("tie")
