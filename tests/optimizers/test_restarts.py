"""The restart machine: when a run ends, where the next one begins, and what is kept of all of them."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.errors import ConfigError
from evomerge.optimizers.bipop import Bipop
from evomerge.optimizers.cma_es import CmaEs
from evomerge.optimizers.ipop import Ipop
from evomerge.types import Result
from tests.optimizers import multimodal
from tests.optimizers.driving import genomes, go, plain, pollute, through_json

pytestmark = pytest.mark.parametrize("member", [Ipop, Bipop])


def populations(batches):
    """Population of each run; each is larger or smaller than the one before."""
    sizes = [len(b) for b in batches]
    return [n for i, n in enumerate(sizes) if i == 0 or n != sizes[i - 1]]


def test_until_the_first_restart_it_is_cma_es_bit_for_bit(member):
    asked, _ = go(member(plain(4), 7), 15)
    plainly, _ = go(CmaEs(plain(4), 7), 15)
    assert genomes(asked) == genomes(plainly)


@pytest.mark.parametrize("cut", [0, 20, 60])
def test_a_replay_across_restarts_is_the_same_to_the_last_bit(member, cut):
    asked, told = go(member(plain(3), 2), 80, multimodal.score)
    assert len(populations(asked)) >= 3
    known = [through_json(batch) for batch in told[:cut]]
    again, _ = go(member(plain(3), 2), 80, multimodal.score, known=known, between=pollute)
    assert genomes(again) == genomes(asked)


def test_the_batch_is_the_population_of_the_run_under_way(member):
    optimizer = member(plain(3), 2)
    for _ in range(80):
        lag = optimizer.lag
        batch = optimizer.ask(999)
        assert len(batch) == lag == optimizer.step
        optimizer.tell([Result(c.id, (multimodal.score(c),)) for c in batch])


def test_the_higher_hill_is_reached_where_cma_es_stays_on_the_lower_one(member):
    def best(optimizer):
        evaluations, found = 0, 0.0
        while evaluations < 1400 and not getattr(optimizer, "stopped", "") and found < 0.95:
            _, told = go(optimizer, 1, multimodal.score)
            evaluations += len(told[0])
            found = max(found, *(r.fitness[0] for r in told[0]))
        return found

    assert [best(CmaEs(plain(3), seed)) for seed in range(4)] == pytest.approx([0.6] * 4)
    assert sum(best(member(plain(3), seed)) > 0.95 for seed in range(8)) >= 7


def test_a_new_run_begins_anywhere_in_the_cube_and_a_first_one_at_the_start(member):
    means = []
    for seed in range(120):
        optimizer = member(plain(2, [0.9, 0.1]), seed, patience=1, narrow=0.0, sigma=1e-6)
        for _ in range(2):  # the first batch is better than nothing, the second is not better than it
            first = optimizer.ask(99)
            assert np.abs(first[0].genome - [0.9, 0.1]).max() < 1e-4
            optimizer.tell([Result(c.id, (0.0,)) for c in first])
        means.append(optimizer.ask(99)[0].genome)
    counts = [np.histogram(axis, bins=5, range=(0, 1))[0] for axis in np.array(means).T]
    assert np.min(counts) > 11 and np.max(counts) < 40  # 24 each


def test_the_rules_of_an_ending_are_batches_without_better_and_narrowed_steps(member):
    def ended_after(score, **settings):
        optimizer = member(plain(3), 1, **settings)
        lag, batches = optimizer.lag, 0
        while optimizer.lag == lag and batches < 400:
            go(optimizer, 1, score)
            batches += 1
        return batches

    assert [ended_after(lambda c: 1.0, patience=p) for p in (1, 5, 9)] == [2, 6, 10]
    assert ended_after(lambda c: 1.0) == 1 + 10 + 13  # 10 + 30 D / population
    early, late = (ended_after(multimodal.score, narrow=share) for share in (0.3, 0.01))
    assert 3 < early < late < ended_after(multimodal.score, narrow=0.0)


def test_cma_s_own_criteria_end_a_run_too(member):
    optimizer = member(plain(3), 1, patience=10**6, narrow=0.0)
    asked, _ = go(optimizer, 130, multimodal.score)
    assert populations(asked) == [7, 14]


def test_the_mean_is_that_of_the_run_with_the_best_candidate(member):
    optimizer = member(plain(3), 1)
    lag = optimizer.lag
    while optimizer.lag == lag:
        go(optimizer, 1, multimodal.score)
    of_first = optimizer.mean()
    assert np.abs(of_first - multimodal.LOW).max() < 0.05
    go(optimizer, 3, lambda c: 0.5)
    assert (optimizer.mean() == of_first).all()
    go(optimizer, 1, lambda c: 0.9)
    assert np.abs(optimizer.mean() - of_first).max() > 0.01


def test_failures_and_broken_constraints_make_no_run_the_best(member):
    optimizer = member(plain(3), 1)
    lag = optimizer.lag
    while optimizer.lag == lag:
        go(optimizer, 1, multimodal.score)
    of_first = optimizer.mean()
    for bad in ({"violation": 0.1}, {"error_code": "merge"}):
        optimizer.tell([Result(c.id, (9.0,), **bad) for c in optimizer.ask(999)])
        assert (optimizer.mean() == of_first).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"patience": 0}, r"optimizer.patience is 0; wanted at least 1"),
        ({"narrow": 1.0}, r"optimizer.narrow is 1.0; wanted a share"),
        ({"narrow": -0.1}, r"optimizer.narrow is -0.1; wanted a share"),
        ({"narrow": float("nan")}, r"optimizer.narrow is nan; wanted a share"),
        ({"population": 2}, r"optimizer.population is 2; CMA-ES needs at least 3"),
        ({"sigma": 0.0}, r"optimizer.sigma is 0.0; wanted a positive number"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(member, settings, words):
    with pytest.raises(ConfigError, match=words):
        member(plain(3), 1, **settings)


def test_one_variable_is_refused(member):
    with pytest.raises(ConfigError, match=r"at least 2 variables, this space has 1"):
        member(plain(1), 1)
