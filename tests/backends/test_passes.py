"""Plans of forward passes: every token is scored once, after exactly the tokens that precede it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.backends.encoding import Pair
from evomerge.backends.passes import Batch, Chunk, Plan, plan

tokens = st.lists(st.integers(0, 2), min_size=1, max_size=12)


@st.composite
def many_pairs(draw: st.DrawFn) -> list[Pair]:
    """Contexts that often begin alike, with continuations that often are alike or begin one another."""
    starts = draw(st.lists(st.lists(st.integers(0, 2), max_size=30), min_size=1, max_size=2))
    contexts = [draw(st.sampled_from(starts)) + draw(tokens) for _ in range(draw(st.integers(1, 5)))]
    asked = st.tuples(st.sampled_from(contexts), st.lists(st.integers(0, 2), min_size=1, max_size=4))
    return [Pair(np.array(c, np.int32), np.array(t, np.int32)) for c, t in draw(st.lists(asked, min_size=1))]


def histories(found: Plan) -> Iterator[tuple[int, list[int], int]]:
    """(place, tokens the model has seen there, token scored) of all that is read."""
    for chunk in found.chunks:
        for batch in chunk.batches:
            yield from _of_batch(chunk, batch)


def _of_batch(chunk: Chunk, batch: Batch) -> Iterator[tuple[int, list[int], int]]:
    stems = [[*chunk.prefix.tolist(), *row.tokens] for row in batch.trunk.rows]
    for run in batch.passes:
        for k, row in enumerate(run.rows):
            before = stems[run.parents[k]] if run.parents else chunk.prefix.tolist()
            for back, token, place in row.looks:
                assert 0 <= back < len(row.tokens) and back < run.keep
                seen = [*before, *row.tokens]
                yield place, seen[: len(seen) - back], token


def expected(pairs: list[Pair], max_length: int) -> list[tuple[list[int], int]]:
    """By lm-eval's rule: the last max_length + 1 tokens, of which the very last is not read."""
    found = []
    for pair in pairs:
        whole = [*pair.context.tolist(), *pair.continuation.tolist()][-(max_length + 1) :]
        start = len(whole) - len(pair.continuation)
        found += [(whole[:k], whole[k]) for k in range(start, len(whole))]
    return found


@given(many_pairs(), st.integers(4, 40), st.integers(1, 5), st.sampled_from([0, 1, 10, 10**9]))
def test_each_token_is_scored_once_after_what_precedes_it(pairs, max_length, batch_size, launch):
    found = plan(pairs, max_length=max_length, batch_size=batch_size, launch=launch)
    read = sorted(histories(found))
    assert [place for place, *_ in read] == list(range(sum(found.lengths)))
    assert [(seen, token) for _, seen, token in read] == expected(pairs, max_length)
    assert found.lengths == tuple(len(p.continuation) for p in pairs)


@given(many_pairs(), st.integers(1, 5), st.sampled_from([0, 10]))
def test_a_pass_has_no_more_rows_than_the_batch(pairs, batch_size, launch):
    found = plan(pairs, max_length=40, batch_size=batch_size, launch=launch)
    assert all(len(p.rows) <= batch_size for c in found.chunks for b in c.batches for p in b.passes)


@given(many_pairs(), st.randoms(use_true_random=False), st.sampled_from([0, 10]))
def test_what_is_computed_does_not_depend_on_the_order_of_requests(pairs, random, launch):
    def shapes(some: list[Pair]) -> list[object]:
        chunks = plan(some, max_length=40, batch_size=3, launch=launch).chunks
        passes = [(c.prefix.tolist(), p) for c in chunks for b in c.batches for p in b.passes]
        return [(prefix, [row.tokens for row in p.rows], p.parents) for prefix, p in passes]

    assert shapes(random.sample(pairs, len(pairs))) == shapes(pairs)


def pairs_of(contexts: list[list[int]], continuations: list[list[int]]) -> list[Pair]:
    return [Pair(np.array(c, np.int32), np.array(t, np.int32)) for c in contexts for t in continuations]


def test_a_common_beginning_is_read_once_and_a_context_once_for_all_its_choices():
    contexts = [[1] * 80 + [k] * 20 for k in range(2, 12)]
    asked = pairs_of(contexts, [[20, 21, 22], [23, 24], [25, 26, 27]])
    assert plan(asked, max_length=500, batch_size=8, launch=0).tokens == 80 + 10 * (20 + 3 * 2)  # one choice is padded


def test_choices_of_one_token_cost_no_more_than_their_context():
    asked = pairs_of([[1, 2, 3, 4]], [[k] for k in range(5, 50)])
    assert plan(asked, max_length=500, batch_size=8, launch=0).tokens == 4


def test_where_passes_are_dear_contexts_and_choices_are_read_together():
    asked = pairs_of([[1, 2, 3, 4], [5, 6, 7, 8]], [[9, 9], [8, 8]])
    (chunk,) = plan(asked, max_length=500, batch_size=8, launch=10**6).chunks
    assert [len(b.trunk.rows) for b in chunk.batches] == [4] and not chunk.batches[0].forks and not len(chunk.prefix)


def test_the_longest_rows_come_first():
    asked = pairs_of([[k] * k for k in range(1, 20)], [[30]])
    found = plan(asked, max_length=500, batch_size=4, launch=10**6)
    widths = [b.trunk.width for b in found.chunks[0].batches]
    assert widths == sorted(widths, reverse=True) and found.width == widths[0] == 19


@pytest.mark.parametrize("launch", [0, 10**6])
def test_no_requests_make_no_passes(launch):
    assert plan([], max_length=5, batch_size=2, launch=launch) == Plan((), ())
