"""Rows: evaluations and commits through JSON without losing a bit."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from evomerge.rows import Commit, commit_row, evaluation_row, joined, merged, read_commit, read_evaluation
from evomerge.types import Estimate, Evaluation, ItemScores, Result

FINITE = st.floats(allow_nan=False, allow_infinity=False)
NUMBERS = st.one_of(FINITE, st.sampled_from([-0.0, 5e-324, -5e-324, 2.225e-308, 1.7976931348623157e308, 0.1 + 0.2]))
NAMES = st.text(min_size=1, max_size=8)


def through_json(row):
    return json.loads(json.dumps(row, allow_nan=False))


@st.composite
def evaluations(draw):
    items, scores = {}, []
    for task in draw(st.lists(NAMES, max_size=3, unique=True)):
        n = draw(st.integers(1, 5))
        items[task] = tuple(draw(st.lists(NAMES, min_size=n, max_size=n)))
        values = draw(arrays(np.float64, st.sampled_from([(n,), (n, 2)]), elements=NUMBERS))
        if draw(st.booleans()):  # a failed task has items but no scores
            margins = draw(st.none() | arrays(np.float64, (n,), elements=NUMBERS))
            scores.append(ItemScores(task, items[task], values, margins))
    return Evaluation(
        id=draw(st.one_of(st.integers(0, 10**6), NAMES)),
        phase=draw(st.sampled_from(["references", "search", "control", "selection", "test"])),
        recipe_digest=draw(NAMES),
        items=items,
        scores=tuple(scores),
        genome=draw(st.none() | st.lists(NUMBERS, max_size=6).map(tuple)),
        rung=draw(st.integers(0, 5)),
        batch_size=draw(st.none() | st.integers(1, 512)),
        error_code=draw(st.none() | NAMES),
        alias_of=draw(st.none() | NAMES),
        last=draw(st.booleans()),
    )


def bits(numbers):
    return np.asarray(numbers, dtype=np.float64).tobytes()


@given(evaluations())
def test_an_evaluation_comes_back_bit_for_bit(e):
    back = read_evaluation(through_json(evaluation_row(e)))
    for name in ("id", "phase", "recipe_digest", "items", "rung", "batch_size", "error_code", "alias_of", "last"):
        assert getattr(back, name) == getattr(e, name), name
        assert type(getattr(back, name)) is type(getattr(e, name)), name
    assert (back.genome is None) == (e.genome is None)
    assert bits(back.genome or ()) == bits(e.genome or ())
    assert [(s.task, s.items) for s in back.scores] == [(s.task, s.items) for s in e.scores]
    for ours, theirs in zip(back.scores, e.scores, strict=True):
        assert (ours.values.dtype, ours.values.shape) == (np.float64, theirs.values.shape)
        assert ours.values.tobytes() == theirs.values.tobytes()
        assert (ours.margins is None) == (theirs.margins is None)
        assert bits(ours.margins if ours.margins is not None else ()) == bits(
            theirs.margins if theirs.margins is not None else ()
        )


@given(arrays(np.float64, array_shapes(min_dims=1, max_dims=1, max_side=6), elements=NUMBERS))
def test_a_genome_of_numpy_floats_is_written_like_python_floats(genome):
    e = Evaluation(0, "search", "d", {}, (), tuple(float(g) for g in genome))
    assert bits(read_evaluation(through_json(evaluation_row(e))).genome) == genome.tobytes()


ESTIMATES = st.lists(st.builds(Estimate, NUMBERS, NUMBERS, st.integers(0, 9), st.none() | NAMES), max_size=3).map(tuple)
RESULTS = st.builds(Result, st.integers(0, 10**6), st.lists(NUMBERS, max_size=3).map(tuple), NUMBERS, st.none() | NAMES)


def told(pairs):
    """A commit's results, with the standard errors of their estimates, and these estimates."""
    results = tuple(replace(r, stderrs=tuple(e.stderr for e in goals)) for r, goals in pairs)
    return results, tuple(goals for _, goals in pairs)


COMMITS = st.builds(
    lambda pairs, *rest: Commit(*told(pairs), *rest),
    st.lists(st.tuples(RESULTS, ESTIMATES), max_size=6),
    st.lists(ESTIMATES, max_size=6).map(tuple),
    st.none() | st.tuples(NUMBERS, NUMBERS),
    st.booleans(),
)


@given(COMMITS)
def test_a_commit_comes_back_bit_for_bit(commit):
    back = read_commit(through_json(commit_row("search", 3, commit)))
    assert back == commit
    assert repr(back) == repr(commit)  # tells -0.0 from 0.0


def test_a_commit_row_carries_phase_and_batch():
    row = commit_row("control", 3, Commit((Result(7, (0.5,)),), ((Estimate(0.5, 0.1, 4),),), ((),)))
    assert (row["row"], row["phase"], row["batch"]) == ("commit", "control", 3)
    assert row["estimates"] == [[[0.5, 0.1, 4, None]]]


# ---------------------------------------------------------------- rungs


def rung(number, last, error=None, **scores):
    given = tuple(ItemScores(t, tuple(ids), np.arange(len(ids)) + 10.0 * number) for t, ids in scores.items())
    return Evaluation(
        1, "search", "d", {s.task: s.items for s in given}, given, rung=number, error_code=error, last=last
    )


def test_rungs_are_one_evaluation_task_by_task_in_the_order_asked():
    found = merged([rung(0, False, a="xy", b="p"), rung(1, True, b="q", a="z")])
    assert found.items == {"a": ("x", "y", "z"), "b": ("p", "q")}
    assert [s.values.tolist() for s in found.scores] == [[0.0, 1.0, 10.0], [0.0, 10.0]]


def test_an_error_in_the_last_rung_is_the_candidates():
    found = merged([rung(0, False, a="xy"), rung(1, True, error="merge")])
    assert (found.error_code, found.scores) == ("merge", ())


def test_margins_are_joined_only_where_every_rung_has_them():
    one, other = ItemScores("a", ("x",), np.ones(1), np.ones(1)), ItemScores("a", ("y",), np.ones(1))
    assert joined([(one,), (other,)])[0].margins is None
    assert joined([(one,), (one,)])[0].margins.tolist() == [1.0, 1.0]
