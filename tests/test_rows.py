"""Rows: evaluations and commits through JSON without losing a bit."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from evomerge.rows import commit_row, evaluation_row, read_commit, read_evaluation
from evomerge.types import Evaluation, ItemScores, Result

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
            scores.append(ItemScores(task, items[task], values))
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
    )


def bits(numbers):
    return np.asarray(numbers, dtype=np.float64).tobytes()


@given(evaluations())
def test_an_evaluation_comes_back_bit_for_bit(e):
    back = read_evaluation(through_json(evaluation_row(e)))
    for name in ("id", "phase", "recipe_digest", "items", "rung", "batch_size", "error_code", "alias_of"):
        assert getattr(back, name) == getattr(e, name), name
        assert type(getattr(back, name)) is type(getattr(e, name)), name
    assert (back.genome is None) == (e.genome is None)
    assert bits(back.genome or ()) == bits(e.genome or ())
    assert [(s.task, s.items) for s in back.scores] == [(s.task, s.items) for s in e.scores]
    for ours, theirs in zip(back.scores, e.scores, strict=True):
        assert (ours.values.dtype, ours.values.shape) == (np.float64, theirs.values.shape)
        assert ours.values.tobytes() == theirs.values.tobytes()


@given(arrays(np.float64, array_shapes(min_dims=1, max_dims=1, max_side=6), elements=NUMBERS))
def test_a_genome_of_numpy_floats_is_written_like_python_floats(genome):
    e = Evaluation(0, "search", "d", {}, (), tuple(float(g) for g in genome))
    assert bits(read_evaluation(through_json(evaluation_row(e))).genome) == genome.tobytes()


@given(
    st.lists(
        st.builds(Result, st.integers(0, 10**6), st.lists(NUMBERS, max_size=3).map(tuple), NUMBERS, st.none() | NAMES),
        max_size=6,
    )
)
def test_what_was_told_comes_back_bit_for_bit(results):
    back = read_commit(through_json(commit_row("search", 3, results, {})))
    assert [(r.id, r.error_code) for r in back] == [(r.id, r.error_code) for r in results]
    assert [bits(r.fitness) for r in back] == [bits(r.fitness) for r in results]
    assert [bits(r.violation) for r in back] == [bits(r.violation) for r in results]


def test_a_commit_carries_phase_batch_and_facts():
    row = commit_row("control", 3, [Result(7, (0.5,))], {"estimates": [[1.0]]})
    assert (row["row"], row["phase"], row["batch"], row["estimates"]) == ("commit", "control", 3, [[1.0]])
