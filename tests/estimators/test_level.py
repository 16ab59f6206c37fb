"""The level check: by hand, alarmed by a planted bias, seldom without one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from evomerge.estimators.level import alarmed, level_difference
from evomerge.estimators.mean import Mean, weighted_mean
from evomerge.estimators.merit import Merit
from evomerge.families import Fitted
from evomerge.items import Observed
from tests.estimators.irt_world import bank_of
from tests.estimators.merge_world import merges


@dataclass(frozen=True)
class Biased:
    """An estimator that stands too high by a fixed amount."""

    inner: Fitted
    bias: float

    def estimate(self, observed, earlier=()):
        return [tuple(replace(e, value=e.value + self.bias) for e in each) for each in self.inner.estimate(observed)]

    def frozen(self, earlier):
        return self


def history(seed, bias, batches=10):
    """Of batches of 12 candidates, each on a draw of 60 items of its own."""
    world = merges(seed, candidates=12 * batches)
    fitted = Biased(Merit().fit(world.bank), bias)
    batch = [world.common(60, 100 * seed + b, range(12 * b, 12 * b + 12)) for b in range(batches)]
    return [level_difference(fitted.estimate(seen), seen, world.bank) for seen in batch]


def test_a_difference_by_hand():
    bank = bank_of([[0.0, 1.0] * 50])
    seen = [
        Observed(0, np.arange(4), np.array([1.0, 0.0, 1.0, 1.0]), np.ones(4)),
        Observed(1, np.arange(4), np.array([1.0, 0.0, 0.0, 1.0]), np.ones(4)),
    ]
    difference, stderr = level_difference(Biased(Mean().fit(bank), 0.25).estimate(seen), seen, bank)
    moved = np.array([0.25 + 0.5, -0.75 - 0.5, 0.25 - 0.5, 0.25 + 0.5]) / 2 / 4  # of each item, mean of both
    assert difference == pytest.approx(0.25)
    assert stderr == pytest.approx(np.sqrt(0.96 * (moved**2).sum() * 4 / 3))


def test_errors_that_candidates_share_do_not_average_out():
    world = merges(0, candidates=40)
    fitted, alone = Mean().fit(world.bank), weighted_mean(world.common(60, 0)[0], world.bank, 0).stderr
    common = world.common(60, 0)
    shared = level_difference(fitted.estimate(common), common, world.bank)[1]
    separate = [world.common(60, m, [m])[0] for m in range(40)]
    own = level_difference(fitted.estimate(separate), separate, world.bank)[1]
    assert own == pytest.approx(alone / np.sqrt(40), rel=0.25)
    assert shared > 2 * own


def test_equal_answers_do_not_make_the_level_certain():
    bank = bank_of([[0.0, 1.0] * 50])
    seen = [Observed(m, np.arange(5), np.ones(5), np.ones(5)) for m in range(4)]
    assert level_difference(Mean().fit(bank).estimate(seen), seen, bank)[1] > 0


def test_tasks_count_equally_in_units_of_their_scale():
    rng = np.random.default_rng(0)
    endpoints = np.concatenate([rng.random(100) < 0.5, 50 * rng.random(100)])[None].astype(float)
    bank = bank_of(endpoints, task=[0] * 100 + [1] * 100)
    seen = [Observed(0, np.arange(0, 200, 4), endpoints[0, ::4], np.ones(50))]
    span = np.diff(np.quantile(endpoints[0, 100:], [0.01, 0.99]))[0]
    difference, _ = level_difference(Biased(Mean().fit(bank), 0.1).estimate(seen), seen, bank)
    assert difference == pytest.approx((0.1 + 0.1 / span) / 2)


def test_nobody_who_answered_is_no_evidence():
    world = merges(0, candidates=1)
    nothing = Observed(0, np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))
    assert level_difference(Merit().fit(world.bank).estimate([nothing]), [nothing], world.bank) == (0.0, float("inf"))
    assert not alarmed([(0.0, float("inf"))] * 10)


def test_an_alarm_needs_three_batches_and_forgets_all_but_ten():
    assert not alarmed([(9.0, 1.0)] * 2)
    assert alarmed([(9.0, 1.0)] * 3) and alarmed([(-9.0, 1.0)] * 3)
    assert not alarmed([(1.0, 1.0)] * 9) and alarmed([(1.0, 1.0)] * 9 + [(1.1, 1.0)])
    assert not alarmed([(9.0, 1.0)] * 5 + [(0.0, 1.0)] * 10)


def test_a_planted_bias_is_found_and_a_right_level_raises_no_alarm():
    assert all(alarmed(history(seed, bias)) for seed in range(5) for bias in (0.12, -0.12))
    assert not any(alarmed(history(seed, 0.0)) for seed in range(5))


def test_false_alarms_are_rare():
    rng = np.random.default_rng(0)
    runs = [[(0.03 * rng.normal(), 0.03) for _ in range(10)] for _ in range(200)]
    assert np.mean([any(alarmed(run[:k]) for k in range(1, 11)) for run in runs]) < 0.05
