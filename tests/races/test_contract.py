"""What every race of conf/race/ keeps, and what each of them does."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from omegaconf import OmegaConf
from scipy.stats import norm

from evomerge.config import CONF, choices, make
from evomerge.errors import ConfigError
from evomerge.types import Estimate, ItemScores

BATCH = [Estimate(v, 0.05, 10) for v in (0.1, 0.4, 0.3, 0.2)]


def race(name, **settings):
    return make("race", OmegaConf.merge(OmegaConf.load(CONF / "race" / f"{name}.yaml"), settings))


def answered(value, rungs=1):
    return [(ItemScores("t", ("i",), np.array([value])),)] * rungs


def worth(answers):
    """The mean of the answers, the more of them the surer."""
    return Estimate(float(np.mean([s[0].values for s in answers])), 0.2 / np.sqrt(len(answers)), len(answers))


@pytest.mark.parametrize("name", choices("race"))
def test_a_race_says_its_chunks_and_judges_nobody_before_a_batch_was_told(name):
    made = race(name)
    assert made.chunks >= 1
    assert made.judge(worth, [], 8) is None


@pytest.mark.parametrize("name", choices("race"))
def test_somebody_always_goes_on(name):
    going = race(name).survivors([0.3])
    assert going in (None, [0])


@pytest.mark.parametrize("value", [-0.3, 0.0, 0.1, 0.2, 0.5])
def test_the_threshold_is_the_normal_chance_of_standing_above_the_cut(value):
    judge = race("threshold", chance=0.2).judge(worth, BATCH, 4)  # half of 4: rank 2, the estimate 0.3
    chance = norm.sf((0.3 - value) / np.hypot(0.2, 0.05))
    assert judge.stops(answered(value)) == (chance < 0.2)


def test_a_lower_rank_stops_fewer():
    bounds = [0.0, 0.1, 0.2, 0.3]
    stopped = [
        sum(race("threshold", top=top, chance=0.3).judge(worth, BATCH, 4).stops(answered(v)) for v in bounds)
        for top in (1, 2, 4)
    ]
    assert stopped == sorted(stopped, reverse=True) and stopped[0] > stopped[-1]


def test_no_chance_is_too_small_for_a_threshold_of_zero():
    assert not race("threshold", chance=0.0).judge(worth, BATCH, 4).stops(answered(-1e9, rungs=6))


def test_a_judge_travels():
    judge = race("threshold").judge(worth, BATCH, 4)
    there = pickle.loads(pickle.dumps(judge))  # our own bytes, made on this line
    assert there.stops(answered(-1.0, 4)) and not there.stops(answered(1.0, 4))


def test_halving_keeps_the_better_share_in_their_order():
    made = race("halving", keep=0.5)
    assert made.survivors([0.1, 0.4, 0.3, 0.2]) == [1, 2]
    assert made.survivors([0.1, 0.1, 0.1]) == [0, 1]
    assert made.survivors([0.1, float("-inf")]) == [0]


@pytest.mark.parametrize(
    ("name", "settings", "wanted"),
    [
        ("threshold", {"chance": 0.5}, "race.chance"),
        ("threshold", {"chance": -0.1}, "race.chance"),
        ("threshold", {"chunks": 1}, "race.chunks"),
        ("threshold", {"top": 0}, "race.top"),
        ("halving", {"keep": 1.0}, "race.keep"),
        ("halving", {"keep": 0.0}, "race.keep"),
        ("halving", {"chunks": 1}, "race.chunks"),
    ],
)
def test_a_bad_setting_is_named(name, settings, wanted):
    with pytest.raises(ConfigError, match=wanted):
        race(name, **settings)
