"""The table of mergekit's methods agrees with our methods."""

from __future__ import annotations

import pytest

from evomerge.mergekit_io.dialect import ALIKE, DIALECTS, KINDS
from evomerge.methods import METHODS

#: Knobs that count for nothing once another is set, as it is in every file of mergekit's.
OVERRULED = {"nearswap": {"t_quantile"}}


def test_every_method_can_be_said():
    assert set(DIALECTS) == set(METHODS)


@pytest.mark.parametrize("name", DIALECTS)
def test_every_knob_has_a_parameter_or_the_one_value_that_mergekit_means(name):
    method, dialect = METHODS[name], DIALECTS[name]
    said = {p.knob for p in dialect.parameters if p.knob} | set(dialect.silent) | OVERRULED.get(name, set())
    assert said | ({"differences"} if method.on == "either" else set()) == {knob.name for knob in method.knobs}


@pytest.mark.parametrize("name", DIALECTS)
def test_one_number_per_model_is_one_number_per_parent(name):
    for parameter in DIALECTS[name].parameters:
        if parameter.knob is not None and name != "passthrough":
            assert METHODS[name].knob(parameter.knob).per_parent == (parameter.scope != "shared")


@pytest.mark.parametrize("name", DIALECTS)
def test_the_base_is_wanted_where_differences_are_merged(name):
    on = {"required": "deltas", "optional": "either", "ignored": "tensors"}[DIALECTS[name].base]
    assert METHODS[name].on == on or name == "slerp"  # whose base is its first model


def test_a_parameter_is_of_one_kind_in_all_methods():
    assert all(p.kind == KINDS[p.name] for dialect in DIALECTS.values() for p in dialect.parameters)


def test_methods_that_come_to_the_same_read_the_same_numbers():
    for kin in ALIKE:
        names = [{p.name for p in DIALECTS[method].parameters} - {"gamma", "epsilon"} for method in kin]
        assert all(other == names[0] for other in names)
