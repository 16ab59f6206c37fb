"""BIPOP: which kind of run comes next, and how large and wide it is."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from evomerge.optimizers.bipop import Bipop
from tests.optimizers import multimodal
from tests.optimizers.driving import go, plain


def runs(seed, batches, *, score=multimodal.score, **settings):
    """(population, evaluations) of each run, in order: a run ends where the strategy is another one."""
    optimizer, found, last = Bipop(plain(3), seed, **settings), [], None
    for _ in range(batches):
        strategy, lag = optimizer._run.strategy, optimizer.lag
        go(optimizer, 1, score)
        if strategy is last:
            found[-1] = (lag, found[-1][1] + lag)
        else:
            found.append((lag, lag))
        last = strategy
    return found


def test_small_runs_follow_as_long_as_they_have_cost_less_than_the_large_ones():
    for seed in range(2):
        found = runs(seed, 180)
        spent, large = {"large": 0, "small": 0}, 7
        for number, (population, evaluations) in enumerate(found):
            if number == 0:
                assert population == 7
                continue
            if spent["large"] <= spent["small"]:
                large *= 2
                assert population == large
                spent["large"] += evaluations
            else:
                assert 7 <= population <= large // 2
                spent["small"] += evaluations
        assert large >= 28 and spent["small"] > 0


def test_small_runs_differ_in_size_and_begin_narrower():
    sizes, widths = set(), []
    for seed in range(6):
        optimizer, large = Bipop(plain(3), seed, patience=1, narrow=0.0, sigma=0.1), 7
        for _ in range(24):
            batch, _ = go(optimizer, 2, lambda c: 0.0)
            large = max(large, len(batch[0]))
            if large >= 56 and len(batch[0]) < 56:
                sizes.add(len(batch[0]))
                widths.append(np.std([c.genome for c in batch[0]], axis=0).max())
    assert len(sizes) > 5 and min(sizes) >= 7 and max(sizes) > 14
    assert max(widths) < 0.05 and min(widths) < 5e-4 < np.median(widths) < 4e-3  # 0.0167 times 0.01^v


def test_two_seeds_restart_at_other_places():
    firsts = []
    for seed in range(6):
        optimizer = Bipop(plain(3), seed, patience=1, sigma=1e-6)
        go(optimizer, 2, lambda c: 0.0)
        firsts.append(optimizer.ask(1)[0].genome)
    assert min(np.abs(a - b).max() for a, b in pairwise(firsts)) > 0.01
