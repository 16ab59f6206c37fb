"""What every subset of conf/subset/ keeps: draws by seed and number alone, fair chunks, no task without a spread."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from evomerge.config import choices
from evomerge.errors import ConfigError
from evomerge.subsets.answers import prior
from tests.subsets.banks import bank_of, member, named, per_task, shuffled

BANK = bank_of()
MEMBERS = choices("subset")
CHOOSING = [m for m in MEMBERS if m != "everything"]
ANCHORS = ["kmeans_correctness", "kmeans_irt"]
BY_CHANCE = [m for m in CHOOSING if m not in ANCHORS]
MODEL_FREE = ["everything", "neyman", "random", "stratified"]


@pytest.fixture(scope="module")
def samplers():
    return {name: member(name, n=60).fit(BANK, 1) for name in MEMBERS}


@pytest.mark.parametrize("name", MEMBERS)
def test_a_draw_is_distinct_places_with_positive_weights(samplers, name):
    draw = samplers[name].draw(0)
    assert draw.index.dtype == np.int64
    assert len(np.unique(draw.index)) == len(draw.index) == len(draw.weights)
    assert set(draw.index.tolist()) <= set(range(BANK.size))
    assert (draw.weights > 0).all() and np.isfinite(draw.weights).all()


@pytest.mark.parametrize("name", MEMBERS)
def test_seed_and_number_decide_and_not_the_calls_before(samplers, name):
    again = member(name, n=60).fit(BANK, 1)
    backwards = [again.draw(k) for k in (3, 1, 3, 0)]
    forwards = [samplers[name].draw(k) for k in (0, 1, 3)]
    for one, other in zip([backwards[3], backwards[1], backwards[0]], forwards, strict=True):
        assert named(BANK, one) == named(BANK, other)


@pytest.mark.parametrize("name", CHOOSING)
def test_another_number_and_another_seed_are_other_draws(samplers, name):
    fixed = member(name, n=60).fit(BANK, 2)
    draws = [samplers[name].draw(0), samplers[name].draw(1), samplers[name].draw(2), fixed.draw(0), fixed.draw(1)]
    assert len({tuple(sorted(d.index.tolist())) for d in draws}) == 5


@pytest.mark.parametrize("name", MEMBERS)
def test_the_order_of_the_bank_does_not_choose(samplers, name):
    turned = shuffled(BANK)
    assert turned.items != BANK.items and turned.tasks != BANK.tasks
    one, other = samplers[name].draw(4), member(name, n=60).fit(turned, 1).draw(4)
    assert named(BANK, one) == named(turned, other)


@pytest.mark.parametrize("name", MEMBERS)
def test_the_global_random_streams_are_not_touched(samplers, name):
    np.random.seed(3)
    before = np.random.get_state()[1].tolist()
    samplers[name].draw(0)
    assert np.random.get_state()[1].tolist() == before


@pytest.mark.parametrize("name", MEMBERS)
def test_a_sampler_travels_to_a_worker(samplers, name):
    travelled = pickle.loads(pickle.dumps(samplers[name]))
    assert named(BANK, travelled.draw(2)) == named(BANK, samplers[name].draw(2))


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("n", [7, 60, 150])
def test_every_task_has_two_items_at_least(name, n):
    sampler = member(name, n=n).fit(BANK, 1)
    for number in range(5):
        assert min(per_task(BANK, sampler.draw(number).index)) >= 2


@pytest.mark.parametrize("name", BY_CHANCE)
@pytest.mark.parametrize("n", [7, 60, 219])
def test_a_draw_by_chance_has_n_items(name, n):
    sampler = member(name, n=n).fit(BANK, 1)
    assert [len(sampler.draw(k).index) for k in range(20)] == [n] * 20


@pytest.mark.parametrize("name", CHOOSING)
@pytest.mark.parametrize("n", [220, 5000])
def test_as_many_as_there_are_is_everything(samplers, name, n):
    assert named(BANK, member(name, n=n).fit(BANK, 1).draw(3)) == named(BANK, samplers["everything"].draw(0))


@pytest.mark.parametrize("name", CHOOSING)
def test_the_automatic_number_is_sixty_or_four_a_task(name):
    many = bank_of({f"t{k:02d}": 12 for k in range(16)})
    few = len(member(name).fit(BANK, 1).draw(0).index), len(member(name).fit(many, 1).draw(0).index)
    assert (few[0] <= 60 and few[1] <= 64) if name in ANCHORS else few == (60, 64)


@pytest.mark.parametrize("name", CHOOSING)
def test_a_task_of_one_item_gives_it_in_full(name):
    bank = bank_of({"alone": 1, "pair": 2, "many": 80}, leaderboard=400 if name in ANCHORS else 60)
    if name in ANCHORS:  # bits: one item has two kinds of models
        with pytest.raises(ConfigError, match=f"subset={name} needs .* task 'alone' and knows 2"):
            member(name, n=10).fit(bank, 1)
        return
    draw = member(name, n=10).fit(bank, 1).draw(0)
    assert per_task(bank, draw.index) == [1, 2, 7]
    alone = bank.task[draw.index] < 2
    assert draw.weights[alone] == pytest.approx(bank.weights[draw.index][alone])


@pytest.mark.parametrize("name", CHOOSING)
def test_less_than_two_items_a_task_are_refused_with_a_number_that_does(name):
    with pytest.raises(ConfigError, match=r"subset.n is 5 for 3 tasks; .* Set subset.n=6 or more"):
        member(name, n=5).fit(BANK, 1)


@pytest.mark.parametrize("name", CHOOSING)
@pytest.mark.parametrize("n", [0, -5])
def test_a_draw_of_nothing_is_refused_before_there_is_a_bank(name, n):
    with pytest.raises(ConfigError, match=f"subset.n is {n}; wanted at least"):
        member(name, n=n)


@pytest.mark.parametrize("name", CHOOSING)
def test_fresh_is_for_the_search_to_decide_unless_it_is_set(name):
    assert [member(name, fresh=f).fresh for f in (None, True, False)] == [None, True, False]


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("chunks", [2, 3, 4, 6])
def test_every_stride_has_all_tasks_in_proportion(samplers, name, chunks):
    for number in range(5):
        index = samplers[name].draw(number).index
        cut = [index[k::chunks] for k in range(chunks)]
        even = np.array(per_task(BANK, index)) / chunks
        assert max(np.abs(per_task(BANK, c) - even).max() for c in cut) < 1


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("chunks", [2, 3, 4, 6])
def test_strides_are_alike_in_difficulty_and_none_is_the_easier_by_rule(samplers, name, chunks):
    p, rng = prior(BANK), np.random.default_rng(0)
    draws = [samplers[name].draw(number).index for number in range(100 if name in BY_CHANCE else 8)]
    levels = np.array([[p[d[k::chunks]].mean() for k in range(chunks)] for d in draws])
    by_chance = np.array([[p[d[k::chunks]].mean() for k in range(chunks)] for d in map(rng.permutation, draws)])
    assert np.ptp(levels, axis=1).mean() < 0.6 * np.ptp(by_chance, axis=1).mean()
    if name in BY_CHANCE:
        assert np.ptp(levels.mean(0)) < 0.03


@pytest.mark.parametrize("name", MODEL_FREE)
def test_banks_of_which_little_is_known_are_sampled_all_the_same(name):
    rng = np.random.default_rng(1)
    holes = np.where(rng.random(BANK.endpoints.shape) < 0.3, np.nan, BANK.endpoints)
    holes[:, :5] = np.nan
    nobody = np.zeros((0, BANK.size))
    for endpoints in (nobody, holes, np.ones_like(holes), np.full_like(holes, np.nan), holes[:1]):
        bank = replace(BANK, endpoints=endpoints, designs=nobody, leaderboard=nobody)
        draw = member(name, n=60).fit(bank, 1).draw(0)
        assert len(draw.index) == (BANK.size if name == "everything" else 60)
        assert np.isfinite(draw.weights).all()


@pytest.mark.parametrize("name", ["fisher", "neyman", "random", "stratified"])
def test_weighted_answers_are_right_on_average(name):
    """Horvitz-Thompson: sum of weight x answer has the task's score as its mean; Hajek's ratio nearly."""
    truth = np.bincount(BANK.task, BANK.weights * BANK.designs[0])
    sampler = member(name, n=45).fit(BANK, 7)
    sums, ratios = [], []
    for number in range(400):
        draw = sampler.draw(number)
        task = BANK.task[draw.index]
        sums.append(np.bincount(task, draw.weights * BANK.designs[0][draw.index]))
        ratios.append(sums[-1] / np.bincount(task, draw.weights))
    for estimates, slack in ((np.array(sums), 0.0), (np.array(ratios), 0.01)):
        error = np.abs(estimates.mean(0) - truth)
        assert (error < 4 * estimates.std(0) / 20 + slack).all()


@pytest.mark.parametrize("name", ["fisher", "neyman", "random", "stratified"])
def test_items_are_drawn_as_often_as_their_weights_say(name):
    sampler = member(name, n=60).fit(BANK, 3)
    hits, stated = np.zeros(BANK.size), np.full(BANK.size, np.nan)
    for number in range(400):
        draw = sampler.draw(number)
        hits[draw.index] += 1
        stated[draw.index] = BANK.weights[draw.index] / draw.weights
    assert np.isfinite(stated).all()  # everything is drawn some day
    assert stated.sum() == pytest.approx(60)
    error = np.sqrt(stated * (1 - stated) / 400)
    assert (np.abs(hits / 400 - stated) <= 5.5 * error + 1e-9).all()


@pytest.mark.parametrize("name", ANCHORS)
def test_anchors_stand_for_the_whole_task(samplers, name):
    for number in range(3):
        draw = samplers[name].draw(number)
        assert 30 <= len(draw.index) <= 60
        assert np.bincount(BANK.task[draw.index], draw.weights) == pytest.approx([1, 1, 1])
