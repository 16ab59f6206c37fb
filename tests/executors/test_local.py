"""The local executor: one work at a time, in order, and none before it is asked for."""

from __future__ import annotations

from evomerge.executors.local import Local
from evomerge.types import Work
from tests.sphere import SphereEvaluator, items, recipe


def works(n, started):
    for i in range(n):
        started.append(i)
        yield Work(i, "search", recipe((0.1 * i, 0.0, 0.0, 0.0)), items("search"))


def test_it_works_lazily():
    started, told = [], []
    back = Local().map(SphereEvaluator(), works(5, started), lambda kind, **facts: told.append(kind))
    assert (started, told) == ([], [])
    assert next(back).id == 0
    assert (started, told) == ([0], ["attempt", "done"])


def test_it_keeps_the_order():
    back = Local().map(SphereEvaluator(), works(5, []), lambda kind, **facts: None)
    assert [e.id for e in back] == [0, 1, 2, 3, 4]


def test_an_end_is_told_with_its_seconds():
    told = []
    list(Local().map(SphereEvaluator(), works(1, []), lambda kind, **facts: told.append(facts)))
    assert 0 <= told[1]["seconds"] < 60
