"""Feasible first: broken constraints rank below kept ones, and none at all change nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.optimizers.batched import ranked
from evomerge.optimizers.cma_es import CmaEs
from evomerge.types import Result
from tests.optimizers.driving import genomes, go, member, plain

finite = st.floats(-1e6, 1e6)
results = st.lists(
    st.builds(
        lambda fitness, violation, error: Result(0, (fitness,), violation, error),
        finite,
        st.one_of(st.just(0.0), st.floats(1e-3, 100)),
        st.sampled_from([None, None, None, "merge"]),
    ),
    min_size=1,
    max_size=12,
)


@given(st.lists(finite, min_size=1, max_size=12))
def test_without_violations_fitness_is_told_as_it_is(fitness):
    told = [Result(i, (f,), 0.0, "merge" if i % 5 == 4 else None) for i, f in enumerate(fitness)]
    assert ranked(told) == fitness


@given(results)
def test_kept_constraints_come_first_by_fitness_then_broken_ones_by_violation_then_failures(told):
    if not any(r.violation for r in told):
        return
    values = ranked(told)
    assert np.isfinite(values).all()
    for one, a in zip(told, values, strict=True):
        for other, b in zip(told, values, strict=True):
            if (_key(one) > _key(other)) and (a <= b):
                raise AssertionError((one, other))


def _key(result):
    if result.error_code:
        return (0, 0.0)
    return (1, -round(result.violation, 6)) if result.violation else (2, result.fitness[0])


def test_zero_violations_leave_a_search_bit_for_bit_as_it_is():
    def with_zero(candidate):
        return Result(candidate.id, (float(candidate.genome.sum()),), 0.0)

    unbroken, _ = go(CmaEs(plain(4), 1), 8, lambda c: float(c.genome.sum()))
    optimizer, asked = CmaEs(plain(4), 1), []
    for _ in range(8):
        asked.append(optimizer.ask(99))
        optimizer.tell([with_zero(c) for c in asked[-1]])
    assert genomes(asked) == genomes(unbroken)


@pytest.mark.parametrize("seed", range(3))
def test_cma_es_finds_the_best_point_that_keeps_its_constraint(seed):
    """Maximise the sum of two genes below x + y <= 1 and 0.2 <= x: the fitness alone would lead to (1, 1)."""
    optimizer, mean = CmaEs(plain(2), seed), None
    for _ in range(150):
        batch = optimizer.ask(99)
        optimizer.tell([Result(c.id, (2 * c.genome[0] + c.genome[1],), _outside(c.genome)) for c in batch])
        mean = optimizer.mean()
    assert mean[0] + mean[1] < 1 + 1e-3 and mean[0] == pytest.approx(0.6, abs=0.02)
    assert mean[1] == pytest.approx(0.4, abs=0.02)


def _outside(genome):
    return max(0.0, genome[0] + genome[1] - 1) + max(0.0, genome[0] - 0.6)


@pytest.mark.parametrize("name", ["cma_es", "uniform", "lambda_grid"])
def test_a_batch_in_which_all_break_a_constraint_is_told_like_others(name):
    optimizer = member(name)
    for _ in range(3):
        batch = optimizer.ask(optimizer.lag)
        optimizer.tell([Result(c.id, (1.0,), 1.0 + k) for k, c in enumerate(batch)])
        assert all(((c.genome >= 0) & (c.genome <= 1)).all() for c in batch)


def test_violation_alone_steers_where_no_candidate_keeps_the_constraint():
    optimizer = CmaEs(plain(3), 1)
    for _ in range(60):
        batch = optimizer.ask(99)
        optimizer.tell([Result(c.id, (float(c.genome.sum()),), 1.0 + float(c.genome.sum())) for c in batch])
    assert optimizer.mean().max() < 0.02  # against the fitness
