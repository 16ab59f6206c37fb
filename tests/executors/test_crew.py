"""Errors as they travel from worker to driver."""

from __future__ import annotations

import pickle

import pytest

from evomerge.errors import ConfigError, EvomergeError, ParentError
from evomerge.executors.crew import Fault


def caught(error):
    try:
        raise error
    except type(error) as e:
        return pickle.loads(pickle.dumps(Fault.of(e)))


@pytest.mark.parametrize("error", [ConfigError("a: b"), ParentError("'x'"), EvomergeError("")])
def test_an_error_of_ours_arrives_as_itself(error):
    back = caught(error).error
    assert (type(back), str(back)) == (type(error), str(error))


def test_an_error_derived_from_ours_arrives_as_the_one_of_ours_that_it_is():
    class Own(ConfigError):
        def __init__(self, one, two):
            super().__init__(f"{one} {two}")

    assert type(caught(Own(1, 2)).error) is ConfigError
    assert str(caught(Own(1, 2)).error) == "1 2"


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), OSError(28, "full")])
def test_any_other_error_arrives_by_name_with_its_traceback(error):
    back = caught(error)
    assert (back.error, back.name, back.text) == (None, type(error).__name__, str(error))
    assert "in caught" in back.traceback


def test_an_error_that_only_bears_a_name_of_ours_is_none_of_ours():
    theirs = type("ConfigError", (Exception,), {})
    assert caught(theirs("x")).error is None
