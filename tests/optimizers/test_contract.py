"""What every optimizer of conf/optimizer/ keeps: order, bounds, exact replay, and its hands off the global streams."""

from __future__ import annotations

import random

import numpy as np
import pytest

from evomerge.config import choices
from evomerge.types import Result
from tests.optimizers.driving import VARIABLES, closeness, genomes, go, member, pollute, results, through_json

MEMBERS = choices("optimizer")
WITHOUT_CHANCE = {"lambda_grid"}  # the seed changes nothing
BATCHES = 12

pytestmark = pytest.mark.parametrize("name", MEMBERS)


def test_ids_count_up_from_zero_without_gaps(name):
    asked, _ = go(member(name), BATCHES)
    ids = [c.id for batch in asked for c in batch]
    assert len(ids) >= 8
    assert ids == list(range(len(ids)))


def test_genomes_are_float64_vectors_in_the_unit_cube(name):
    asked, _ = go(member(name), BATCHES)
    for candidate in (c for batch in asked for c in batch):
        assert (candidate.genome.dtype, candidate.genome.shape) == (np.float64, (len(VARIABLES),))
        assert (candidate.genome >= 0).all() and (candidate.genome <= 1).all()


def test_lag_is_the_size_of_a_batch_and_never_changes(name):
    optimizer = member(name)
    lag = optimizer.lag
    asked, _ = go(optimizer, BATCHES)
    assert {len(batch) for batch in asked} == {lag}
    assert optimizer.lag == lag


def test_more_than_a_batch_is_not_handed_out_before_it_is_told(name):
    optimizer = member(name)
    batch = optimizer.ask(optimizer.lag + 100)
    assert len(batch) == optimizer.lag
    assert optimizer.ask(1) == []
    assert optimizer.ask(100) == []
    optimizer.tell(results(batch))
    assert [c.id for c in optimizer.ask(1)] in ([], [optimizer.lag])


def test_asking_for_none_gives_none_and_draws_nothing(name):
    optimizer, other = member(name), member(name)
    assert optimizer.ask(0) == []
    assert genomes([optimizer.ask(optimizer.lag)]) == genomes([other.ask(other.lag)])


@pytest.mark.parametrize("pieces", [[1] * 30, [2, 1, 3, 5, 100], [0, 7, 0, 100]])
def test_a_batch_in_pieces_equals_the_batch_as_a_whole(name, pieces):
    whole, _ = go(member(name), 3)
    optimizer = member(name)
    for batch in whole:
        given = [c for n in pieces for c in optimizer.ask(n)]
        assert [c.id for c in given] == [c.id for c in batch]
        assert genomes([given]) == genomes([batch])
        optimizer.tell(results(given))


@pytest.mark.parametrize("cut", [0, 1, 7])
def test_replayed_results_give_the_same_later_candidates_whatever_the_global_streams_do(name, cut):
    np.random.seed(11)
    random.seed(12)
    asked, told = go(member(name), BATCHES)
    np.random.seed(21)
    random.seed(22)
    known = [through_json(batch) for batch in told[:cut]]
    again, _ = go(member(name), BATCHES, known=known, between=pollute)
    assert genomes(again) == genomes(asked)


def test_a_batch_asked_but_not_told_before_a_kill_is_asked_again(name):
    asked, told = go(member(name), 2)
    optimizer = member(name)
    go(optimizer, 1, known=[through_json(told[0])])
    assert genomes([optimizer.ask(optimizer.lag)]) == genomes(asked[1:2])


def test_global_random_states_are_left_as_they_were(name):
    np.random.seed(5)
    random.seed(6)
    before = np.random.get_state(), random.getstate()

    def untouched() -> bool:
        now = np.random.get_state()
        same = all(np.array_equal(a, b) for a, b in zip(before[0], now, strict=True))
        return same and before[1] == random.getstate()

    optimizer = member(name)
    assert untouched(), "constructor"
    for _ in range(3):
        batch = optimizer.ask(optimizer.lag)
        assert untouched(), "ask"
        optimizer.tell(results(batch))
        assert untouched(), "tell"


def test_two_of_a_kind_do_not_disturb_each_other(name):
    alone, _ = go(member(name, seed=3), 4)
    first, second = member(name, seed=3), member(name, seed=4)
    together = []
    for _ in range(4):
        batch = first.ask(first.lag)
        second.tell(results(second.ask(second.lag)))
        if batch:
            first.tell(results(batch))
            together.append(batch)
    assert genomes(together) == genomes(alone)


def test_another_seed_gives_other_candidates(name):
    one, _ = go(member(name, seed=1), 2)
    other, _ = go(member(name, seed=2), 2)
    assert (genomes(one) == genomes(other)) == (name in WITHOUT_CHANCE)


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_the_ends_of_the_seed_range_are_seeds_like_others(name, seed):
    asked, _ = go(member(name, seed=seed), 2)
    again, _ = go(member(name, seed=seed), 2, between=pollute)
    assert genomes(asked) == genomes(again)


def test_a_plateau_does_not_stop_or_derail_it(name):
    asked, _ = go(member(name), 60, lambda candidate: 0.25)
    assert len(asked) in (1, 60)  # a grid ends; the others go on
    found = np.array([c.genome for batch in asked for c in batch])
    assert np.isfinite(found).all() and (found >= 0).all() and (found <= 1).all()
    assert len(np.unique(found[-8:], axis=0)) == len(found[-8:])


def test_penalised_failures_are_told_like_other_results(name):
    def some_fail(candidate):
        return -7.5 if candidate.id % 3 == 0 else closeness(candidate)

    optimizer = member(name)
    for _ in range(BATCHES):
        batch = optimizer.ask(optimizer.lag)
        told = [Result(c.id, (some_fail(c),), 0.0, "merge" if c.id % 3 == 0 else None) for c in batch]
        optimizer.tell(through_json(told))
        found = [c.genome for c in batch]
        assert all(((g >= 0) & (g <= 1)).all() for g in found)
    again, _ = go(member(name), BATCHES, some_fail)
    if again and len(again) == BATCHES:
        assert genomes(again[-1:]) == genomes([batch])


def test_enormous_fitness_differences_do_not_break_it(name):
    asked, _ = go(member(name), BATCHES, lambda c: -(10.0 ** (300 * c.genome[0])))
    found = np.array([c.genome for batch in asked for c in batch])
    assert np.isfinite(found).all() and (found >= 0).all() and (found <= 1).all()


@pytest.mark.parametrize("start", [np.zeros(5), np.ones(5), np.array([0.0, 1.0, 0.5, 1.0, 0.0])])
def test_a_start_on_the_bounds_is_a_start_like_others(name, start):
    asked, _ = go(member(name, start=start), BATCHES)
    found = np.array([c.genome for batch in asked for c in batch])
    assert np.isfinite(found).all() and (found >= 0).all() and (found <= 1).all()
    assert len(np.unique(found, axis=0)) == len(found)


def test_the_start_genome_is_not_written_to(name):
    start = np.array([0.0, 1.0, 0.5, 0.3, 0.2])
    go(member(name, start=start), 3)
    assert start.tolist() == [0.0, 1.0, 0.5, 0.3, 0.2]


def test_candidates_may_be_overwritten_by_their_receiver(name):
    asked, _ = go(member(name), 4)
    kept = genomes(asked)
    optimizer, seen = member(name), []
    for _ in range(4):
        batch = optimizer.ask(optimizer.lag)
        seen += genomes([batch])
        told = results(batch)
        for candidate in batch:
            candidate.genome[:] = np.nan
        if batch:
            optimizer.tell(told)
    assert seen == kept


@pytest.mark.parametrize("wrong", ["a part", "out of order", "twice"])
def test_a_batch_told_other_than_whole_and_in_order_is_refused(name, wrong):
    optimizer = member(name)
    told = results(optimizer.ask(optimizer.lag))
    given = {"a part": told[:-1], "out of order": told[::-1], "twice": told + told}[wrong]
    with pytest.raises(AssertionError, match="complete and in id order"):
        optimizer.tell(given)


def go_afresh(optimizer, known=()):
    """As `go`, every batch on a draw of its own: the living are scored again and told before it."""
    asked, told, seen = [], [], {}
    for number in range(BATCHES):
        batch = optimizer.ask(optimizer.lag)
        if not batch:
            break
        seen |= {c.id: c for c in batch}
        ids = [*getattr(optimizer, "living", ()), *(c.id for c in batch)]
        luck = np.random.default_rng(number).normal(size=len(ids))
        new = [Result(i, (closeness(seen[i]) + lucky,)) for i, lucky in zip(ids, luck, strict=True)]
        told.append(known[number] if number < len(known) else new)
        optimizer.tell(told[-1])
        asked.append(batch)
    return asked, told


@pytest.mark.parametrize("cut", [1, 7])
def test_replay_is_exact_when_the_living_are_scored_again(name, cut):
    asked, told = go_afresh(member(name))
    again, _ = go_afresh(member(name), [through_json(batch) for batch in told[:cut]])
    assert genomes(again) == genomes(asked)


def test_the_living_are_told_candidates_of_an_elitist_in_id_order(name):
    optimizer = member(name)
    assert optimizer.elitist in (True, False)
    assert getattr(optimizer, "living", ()) == ()
    for _ in range(BATCHES):
        known = set(getattr(optimizer, "living", ()))
        batch = optimizer.ask(optimizer.lag)
        assert set(getattr(optimizer, "living", ())) == known, "asking changes nothing"
        if batch:
            optimizer.tell(results(batch))
        living = getattr(optimizer, "living", ())
        assert optimizer.elitist or not living
        assert list(living) == sorted(set(living))
        assert set(living) <= known | {c.id for c in batch}
