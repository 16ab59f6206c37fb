"""Expected ranks: what the errors of the fitness leave open, and that CMA-ES gains by knowing it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.optimizers.cma_es import CmaEs
from evomerge.optimizers.cma_strategy import Strategy
from evomerge.optimizers.rank_weights import ExpectedWeights, lent, rank_shares
from evomerge.types import Result
from tests.optimizers.driving import closeness, genomes, plain, pollute

result = st.builds(
    lambda fitness, stderr, violation, error: Result(0, (fitness,), violation, error, (stderr,)),
    st.floats(-10, 10),
    st.sampled_from([0.0, 0.5, 5.0, math.inf, math.nan]) | st.floats(0.0, 5.0),
    st.sampled_from([0.0, 0.0, 0.0, 0.5]),
    st.sampled_from([None, None, None, "merge"]),
)


def shares(results, seed=1):
    order = np.argsort([-r.fitness[0] for r in results])
    return rank_shares(order, results, np.random.default_rng(seed))


def noisy(fitness, stderr):
    return [Result(i, (f,), stderrs=(stderr,)) for i, f in enumerate(fitness)]


# ---------------------------------------------------------------- shares


@given(st.lists(result, min_size=1, max_size=9))
def test_each_candidate_has_one_rank_and_each_rank_one_candidate(results):
    found = shares(results)
    if found is not None:
        assert (found >= 0).all()
        assert found.sum(axis=0) == pytest.approx(1.0) and found.sum(axis=1) == pytest.approx(1.0)


@given(st.lists(result, min_size=2, max_size=9))
def test_broken_constraints_and_failures_keep_their_rank(results):
    order = np.argsort([-r.fitness[0] for r in results])
    found = shares(results)
    for rank, candidate in enumerate(order):
        if found is not None and (results[candidate].violation or results[candidate].error_code):
            assert found[rank, rank] == 1.0


@pytest.mark.parametrize("stderrs", [(), (0.0,)])
def test_without_errors_ranks_are_sure(stderrs):
    assert shares([Result(i, (float(i),), stderrs=stderrs) for i in range(5)]) is None


def test_errors_far_below_the_differences_change_no_rank():
    assert (shares(noisy([3.0, 1.0, 2.0, 0.0], 1e-3)) == np.eye(4)).all()


def test_errors_far_above_the_differences_leave_every_rank_open():
    assert shares(noisy([3.0, 1.0, 2.0, 0.0], 1e6)) == pytest.approx(0.25, abs=0.1)


@pytest.mark.parametrize("stderr", [math.inf, math.nan, 1e300])
@pytest.mark.parametrize("others", [0.0, 0.01, math.inf])
def test_of_a_candidate_whose_error_is_unknown_the_rank_is_unknown(stderr, others):
    errors = [others, stderr, others, others]
    found = shares([Result(i, (3.0 - i,), stderrs=(e,)) for i, e in enumerate(errors)])
    assert np.isfinite(found).all()
    assert found[1, 0] > 0.2 and found[1, 3] > 0.2, "neither surely the best nor surely the worst"


@pytest.mark.parametrize("gap", [0.0, 0.5, 1.5])
def test_of_two_the_better_is_better_as_often_as_the_normal_distribution_says(gap):
    found = np.mean([shares(noisy([gap, 0.0], 0.8), seed)[0, 0] for seed in range(20)])  # 10000 draws
    assert found == pytest.approx(0.5 * (1 + math.erf(gap / 0.8 / 2)), abs=0.02)


# ---------------------------------------------------------------- weights lent to cma


def test_sure_ranks_give_the_weights_that_cma_has():
    own = Strategy(np.full(4, 0.5), np.full(4, 0.1), 1)._es.sp.weights
    found = ExpectedWeights(own, np.eye(len(own)))
    assert np.dot(found.positive_weights[: own.mu], own.positive_weights) == pytest.approx(1 / own.mueff)
    assert found.positive_weights[own.mu :].max() == 0
    assert (found.mueff, found(len(own))) == (pytest.approx(own.mueff), own)


def test_open_ranks_make_all_candidates_count_alike():
    own = Strategy(np.full(4, 0.5), np.full(4, 0.1), 1)._es.sp.weights
    n = len(own)
    found = ExpectedWeights(own, np.full((n, n), 1 / n))
    assert found.positive_weights == pytest.approx(1 / n) and found.mueff == pytest.approx(n)


def test_cma_has_its_own_weights_back_even_after_an_error():
    es = Strategy(np.full(4, 0.5), np.full(4, 0.1), 1)._es
    own = es.sp.weights
    with pytest.raises(RuntimeError), lent(es, np.full((len(own), len(own)), 1 / len(own))):
        assert es.sp.weights is not own
        raise RuntimeError
    assert es.sp.weights is own


# ---------------------------------------------------------------- searches


def search(optimizer, batches, stderr, *, scores=closeness, between=lambda number: None):
    asked = []
    for number in range(batches):
        between(number)
        asked.append(optimizer.ask(99))
        optimizer.tell([Result(c.id, (scores(c),), stderrs=(stderr,)) for c in asked[-1]])
    return genomes(asked)


def test_expected_ranks_without_errors_are_hard_ranks_to_the_last_bit():
    expected, hard = (search(CmaEs(plain(5), 3, ranks=r), 25, 0.0) for r in ("expected", "hard"))
    assert expected == hard


def test_errors_change_a_search_by_expected_ranks_and_none_by_hard_ones():
    hard = [search(CmaEs(plain(5), 3), 8, stderr) for stderr in (0.0, 0.1)]
    expected = [search(CmaEs(plain(5), 3, ranks="expected"), 8, stderr) for stderr in (0.0, 0.1)]
    assert hard[0] == hard[1] == expected[0] != expected[1]


def test_a_search_by_expected_ranks_is_the_same_again_whatever_others_draw():
    one = search(CmaEs(plain(5), 3, ranks="expected"), 20, 0.05)
    assert search(CmaEs(plain(5), 3, ranks="expected"), 20, 0.05, between=pollute) == one


@pytest.mark.parametrize("settings", [{"diagonal": True}, {"levels": (0, 3, 0, 5)}])
def test_expected_ranks_climb_with_diagonal_covariances_and_integers(settings):
    target = np.array([0.3, 2.5 / 3, 0.7, 1.5 / 5])
    strategy = Strategy(np.full(4, 0.5), np.full(4, 0.2), 1, ranks="expected", **settings)
    for _ in range(60):
        found = strategy.ask()
        values = -((found - target) ** 2).sum(axis=1)
        strategy.tell([Result(i, (float(v),), stderrs=(1e-4,)) for i, v in enumerate(values)])
    assert np.abs(strategy.mean() - target)[[0, 2]].max() < 0.05
    assert values.max() > -1e-2


def test_under_noise_expected_ranks_end_nearer_to_the_optimum():
    """Geometric mean of the squared distance of the mean after 200 evaluations in 6 dimensions, 40 seeds."""
    ratios = []
    for seed in range(40):
        rng = np.random.default_rng((seed, 6))
        centre = rng.uniform(0.2, 0.8, 6)
        start = float(((centre - 0.5) ** 2).sum())
        left = {}
        for ranks in ("hard", "expected"):
            noise, optimizer = np.random.default_rng((seed, 9)), CmaEs(plain(6), seed, ranks=ranks)
            for _ in range(22):
                batch = optimizer.ask(99)
                true = [-float(((c.genome - centre) ** 2).sum()) for c in batch]
                told = [t + 0.06 * noise.normal() for t in true]
                optimizer.tell([Result(c.id, (f,), stderrs=(0.06,)) for c, f in zip(batch, told, strict=True)])
            left[ranks] = ((optimizer.mean() - centre) ** 2).sum()
        assert left["expected"] < 4 * start
        ratios.append(np.log(left["expected"] / left["hard"]))
    assert np.exp(np.mean(ratios)) < 0.85


def test_a_failed_candidate_is_never_drawn_above_the_others():
    optimizers = [CmaEs(plain(4), 1, ranks="expected") for _ in range(2)]
    batches = [o.ask(99) for o in optimizers]
    told = [Result(c.id, (float(i),), stderrs=(5.0,)) for i, c in enumerate(batches[0])]
    failed = [replace(told[0], error_code="merge", stderrs=()), *told[1:]]
    for optimizer, results in zip(optimizers, (told, failed), strict=True):
        optimizer.tell(results)
    away = [np.linalg.norm(o.mean() - batches[0][0].genome) for o in optimizers]
    assert away[1] > away[0]
