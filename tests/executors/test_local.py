"""The local executor: one work at a time, in order, and none before it is asked for."""

from __future__ import annotations

import pytest

from evomerge.errors import MachineFailed
from evomerge.executors.local import Local
from tests.executing import evaluations
from tests.executors.scripted import Scripted, lines, work


@pytest.fixture
def scripted(tmp_path):
    return Scripted(tmp_path / "log")


def started(evaluator, told):
    executor = Local()
    executor.start(evaluator, lambda kind, **facts: told.append(kind))
    return executor


def test_it_opens_and_works_lazily(scripted):
    told: list[str] = []
    executor = started(scripted, told)
    executor.submit([work(i) for i in range(5)])
    assert (lines(scripted.log), told) == ([], [])
    assert executor.next().id == 0
    assert [line.split()[0] for line in lines(scripted.log)] == ["open", "evaluate"]
    assert told == ["attempt", "done"]


def test_it_keeps_the_order(scripted):
    assert [row.id for row in evaluations(Local(), scripted, [work(i) for i in range(5)])] == [0, 1, 2, 3, 4]


def test_an_error_of_the_evaluation_passes_as_it_is(scripted):
    with pytest.raises(ZeroDivisionError, match="by nought"):
        list(evaluations(Local(), scripted, [work("raises")]))


def test_a_failure_of_the_machine_passes_as_it_is(scripted):
    with pytest.raises(MachineFailed, match=r"^OSError: no such disk$"):
        list(evaluations(Local(), scripted, [work("sick once")]))
