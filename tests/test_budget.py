"""Budgets: what a meter leaves, which limit says so, and what counts."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.budget import Budget, Meter
from evomerge.errors import ConfigError

EACH = 4  # items of a candidate


def meter(before=0.0, **limits):
    return Meter(Budget(**limits), EACH, before)


def test_while_there_is_room_for_a_whole_batch_no_limit_is_named():
    assert meter(evaluations=8).room(8) == (8, "")
    assert meter(evaluations=100, items=10_000, seconds=1e6).room(8) == (8, "")


def test_the_last_batch_is_what_is_left_and_then_nothing():
    found = meter(evaluations=10)
    found.count(8, EACH * 8)
    assert found.room(8) == (2, "evaluations")
    found.count(2, EACH * 2)
    assert found.room(8) == (0, "evaluations")


def test_items_leave_room_for_whole_candidates_only():
    found = meter(items=15)
    assert found.room(8) == (3, "items")
    found.count(3, EACH * 3)
    assert (found.items, found.room(8)) == (12, (0, "items"))


def test_a_candidate_that_costs_more_than_the_budget_is_never_asked():
    assert meter(items=3).room(8) == (0, "items")


def test_the_tightest_limit_is_named():
    assert meter(evaluations=5, items=12).room(8) == (3, "items")
    assert meter(evaluations=2, items=12).room(8) == (2, "evaluations")
    assert meter(evaluations=5, items=12, seconds=1e-9, before=1.0).room(8) == (0, "seconds")


def test_what_a_race_or_an_alias_spared_is_the_difference_to_the_unraced_items():
    found = meter(evaluations=100)
    found.count(7, 5 * EACH)
    assert (found.evaluations, found.items, found.unraced) == (7, 20, 28)
    assert found.room(100) == (93, "evaluations")


def test_time_runs_and_starts_where_earlier_processes_stopped(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    found = meter(seconds=10.0, before=7.0)
    assert (found.elapsed(), found.room(8)) == (7.0, (8, ""))
    now[0] += 2.5
    assert (found.elapsed(), found.room(8)) == (9.5, (8, ""))
    now[0] += 0.5
    assert (found.elapsed(), found.room(8)) == (10.0, (0, "seconds"))


def test_what_is_out_counts_before_it_is_counted():
    found = meter(evaluations=10, items=40)
    assert found.room(1, 9) == (1, "")
    assert found.room(1, 10) == (0, "evaluations")
    assert meter(items=20).room(1, 5) == (0, "items")


def test_what_is_on_file_is_asked_again_though_time_is_over():
    late = meter(seconds=1.0, before=5.0, evaluations=3)
    assert late.room(8) == (0, "seconds")
    assert late.room(8, on_file=True) == (3, "evaluations")


@given(
    evaluations=st.none() | st.integers(1, 60),
    items=st.none() | st.integers(1, 200),
    lags=st.lists(st.integers(1, 12), min_size=70, max_size=70),
)
def test_no_limit_is_overshot_and_none_is_left_unused(evaluations, items, lags):
    if evaluations is None and items is None:
        return
    found = meter(evaluations=evaluations, items=items)
    for lag in lags:
        room, limit = found.room(lag)
        assert 0 <= room <= lag and (limit == "") == (room == lag and room > 0)
        found.count(room, EACH * room)
    most = min([n for n in (evaluations, None if items is None else items // 4) if n is not None])
    assert found.evaluations == min(most, sum(lags))
    assert found.items == 4 * found.evaluations


@pytest.mark.parametrize("name", ["evaluations", "items", "seconds", "stagnation"])
@pytest.mark.parametrize("bad", [0, -1, float("nan")])
def test_a_limit_that_is_not_positive_is_refused(name, bad):
    with pytest.raises(ConfigError, match=rf"budget.{name} is {bad}; wanted a positive number, or null"):
        Budget(**{name: bad})


def test_a_budget_without_a_limit_is_refused():
    with pytest.raises(ConfigError, match=r"the budget has no limit. Set budget.evaluations, budget.items or"):
        Budget()


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_a_target_is_a_finite_number(bad):
    with pytest.raises(ConfigError, match=r"budget\.target is"):
        Budget(evaluations=10, target=bad)


def test_a_target_alone_is_no_limit():
    with pytest.raises(ConfigError, match="the budget has no limit"):
        Budget(target=0.5, stagnation=10)
