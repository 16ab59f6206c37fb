"""Coarse to fine: what is tied when, where stages end and begin, and that it earns its dimensions one after another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evomerge.errors import ConfigError
from evomerge.optimizers.cma_es import CmaEs
from evomerge.optimizers.coarse_to_fine import CoarseToFine
from evomerge.optimizers.lambda_grid import LambdaGrid
from evomerge.optimizers.stages import ladder
from evomerge.problem import Problem
from evomerge.types import Result, Variable
from tests.optimizers.driving import closeness, genomes, go, pollute, results, through_json
from tests.optimizers.test_stages import variables as pieces


def weights(groups=6, parents=("a", "b", "c"), parts=("rest",), *, starts=()):
    """Weights of parents in groups of depth, all leading."""
    found = [
        Variable(
            v.name, v.knob, -0.2, 1.5, "linear", 0.3, 0.12, leading=True, part=v.part, parent=v.parent, depth=v.depth
        )
        for v in pieces(groups, parents, parts)
    ]
    return Problem(tuple(found), starts=starts)


def stages_of(optimizer, batches, score=closeness):
    """The stage, size and genomes of each batch."""
    found = []
    for _ in range(batches):
        stage, batch = optimizer.stage, optimizer.ask(optimizer.lag)
        found.append((stage, len(batch), np.array([c.genome for c in batch])))
        optimizer.tell(results(batch, score))
    return found


def ends_of(found):
    """Evaluations that had been told when each stage gave way to the next."""
    told = np.cumsum([n for _, n, _ in found])
    return {stage: int(told[i]) for i, (stage, _, _) in enumerate(found[:-1]) if found[i + 1][0] != stage}


# ---------------------------------------------------------------- the line


def test_the_first_batch_is_the_lambda_grid():
    problem = weights()
    asked = CoarseToFine(problem, 1, line=7).ask(100)
    assert genomes([asked]) == genomes([LambdaGrid(problem, 1, points=7).ask(100)])


def test_a_start_competes_with_the_line_in_its_batch():
    start = np.full(18, 0.77)
    optimizer = CoarseToFine(weights(starts=(start, np.zeros(18))), 1, line=7)
    batch = optimizer.ask(100)
    assert (len(batch), optimizer.lag) == (8, 8)
    assert batch[-1].genome.tolist() == start.tolist()


@pytest.mark.parametrize("place", [0, 4, 7])
def test_the_climb_begins_at_the_best_of_the_line_and_the_start(place):
    optimizer = CoarseToFine(weights(starts=(np.full(18, 0.77),)), 1, line=7)
    batch = optimizer.ask(100)
    optimizer.tell(results(batch, lambda c: float(c.id == place)))
    assert optimizer.mean().tolist() == batch[place].genome.tolist()
    climbing = np.array([c.genome for c in optimizer.ask(100)])
    assert np.abs(climbing.mean(axis=0) - batch[place].genome).max() < 0.12  # a step


def test_a_point_that_breaks_a_constraint_loses_to_one_that_does_not():
    optimizer = CoarseToFine(weights(), 1, line=3)
    batch = optimizer.ask(3)
    optimizer.tell([Result(0, (0.9,), 0.5), Result(1, (0.1,)), Result(2, (0.0,))])
    assert optimizer.mean().tolist() == batch[1].genome.tolist()


NORMALISED = replace(weights(starts=(np.full(18, 0.4),)), common_scale=False)


@pytest.mark.parametrize(
    ("problem", "line"), [(weights(starts=(np.full(18, 0.4),)), 0), (Problem(pieces(6)), 10), (NORMALISED, 10)]
)
def test_without_a_line_or_a_common_scale_it_climbs_from_the_start(problem, line):
    optimizer = CoarseToFine(problem, 1, line=line)
    assert optimizer.stage == 1
    assert optimizer.mean().tolist() == problem.start.tolist()


# ---------------------------------------------------------------- the stages


@pytest.mark.parametrize("score", [closeness, lambda c: 0.25, lambda c: -(10.0 ** (300 * c.genome[0]))])
def test_stages_end_with_the_batch_that_reaches_their_evaluations_whatever_is_told(score):
    optimizer = CoarseToFine(weights(), 1, line=10, first=60, per_variable=8, population=7)
    found = stages_of(optimizer, 45, score)
    # 10 + 8 x 7 = 66 >= 60; 66 + 11 x 7 = 143 >= 66 + 8 x 9
    assert ends_of(found) == {0: 10, 1: 66, 2: 143}
    assert {stage for stage, _, _ in found} == {0, 1, 2, 3}


def test_no_stage_ends_before_the_first_evaluations_nor_before_its_own():
    wide = CoarseToFine(weights(6, "abcdefgh"), 1, first=60, per_variable=15, population=10)
    assert ends_of(stages_of(wide, 20))[1] == 130  # 10 + 15 x 8 genes
    narrow = CoarseToFine(weights(), 1, first=200, per_variable=1, population=10)
    assert ends_of(stages_of(narrow, 24))[1] == 200


def test_a_batch_is_as_large_as_the_stage_under_way_wants_it():
    sizes = {stage: n for stage, n, _ in stages_of(CoarseToFine(weights(), 1), 40)}
    assert sizes == {0: 10, 1: 10, 2: 15, 3: 19}  # 6 + 4.5 ln D


@pytest.mark.parametrize("parts", [("rest",), ("mlp", "rest")])
@pytest.mark.parametrize("parts_from", [1, 2, 3])
def test_tied_genes_are_equal_in_every_genome_of_their_stage_and_not_in_the_next(parts, parts_from):
    problem = weights(parts=parts)
    steps = ladder(problem.variables, [1, 3, 6], parts_from=parts_from)
    optimizer = CoarseToFine(problem, 1, first=30, per_variable=2, parts_from=parts_from)
    found = stages_of(optimizer, 30)
    assert {stage for stage, _, _ in found} == set(range(len(steps) + 1))
    for stage, _, batch in found:
        held = [[tied.holds(g) for tied in steps] for g in batch]
        assert held == [[i >= max(stage, 1) for i in range(1, len(steps) + 1)]] * len(batch)


def test_a_stage_begins_at_the_mean_of_the_one_before_and_with_its_variance():
    target = np.tile([0.3, 0.6, 0.45], 6)
    optimizer = CoarseToFine(weights(), 1, first=400, per_variable=3, population=20)
    means, last = [], []
    while optimizer.stage < 2:
        means.append(optimizer.mean())
        last = optimizer.ask(100)
        optimizer.tell(results(last, lambda c: -float(((c.genome - target) ** 2).sum())))
    assert np.abs(optimizer.mean() - target).max() < 0.01
    assert np.abs(optimizer.mean() - means[-1]).max() < 0.01  # no jump
    batch = np.array([c.genome for c in optimizer.ask(100)]).reshape(20, 6, 3)[:, ::2]  # (n, thirds, parents)
    common = (batch.mean(axis=1) - target[:3]).std()
    apart = (batch - batch.mean(axis=1, keepdims=True)).std()
    assert common < 0.02  # the first stage had found it
    assert 0.03 < apart < 0.12  # what is new has the variables' own steps


def test_the_mean_is_the_average_of_the_later_half_of_a_run():
    optimizer = CoarseToFine(weights(1), 1, first=1000, line=0)
    plain = []
    for _ in range(6):
        optimizer.tell(results(optimizer.ask(100)))
        plain.append(optimizer._strategy.mean())
    assert np.allclose(optimizer.mean(), np.mean(plain[2:], axis=0), rtol=0, atol=1e-15)  # of 7 with the start


def test_a_start_that_only_a_finer_stage_can_say_begins_there_and_is_not_flattened():
    thirds = np.repeat(np.random.default_rng(0).random((3, 3)), 2, axis=0).ravel()
    optimizer = CoarseToFine(weights(starts=(thirds,)), 1)
    optimizer.tell(results(optimizer.ask(100), lambda c: float(c.id == 10)))
    assert optimizer.stage == 2
    assert optimizer.mean().tolist() == thirds.tolist()


def test_the_last_stage_begins_anew_with_twice_the_population_when_its_cma_es_has_converged():
    optimizer = CoarseToFine(weights(1), 1, first=30)
    found = stages_of(optimizer, 2)
    while optimizer.lag == 10 and len(found) < 300:
        found += stages_of(optimizer, 1)
    (stage, size, again), (_, _, last) = stages_of(optimizer, 1)[0], found[-1]
    assert (stage, size) == (1, 20)
    assert last.std(axis=0).max() < 1e-4  # it had converged
    assert again.std(axis=0).min() > 0.03  # and looks around with its first steps
    assert np.abs(again.mean(axis=0) - last.mean(axis=0)).max() < 0.12  # from where it was


@pytest.mark.parametrize(("population", "sizes"), [(None, [10, 20, 40, 80, 80, 80]), (4, [4, 8, 16, 32, 32, 32])])
def test_a_last_stage_begun_anew_again_and_again_has_eight_times_its_population_at_most(population, sizes):
    optimizer = CoarseToFine(weights(1), 1, line=0, population=population)
    found = [optimizer.lag]
    while len(found) < 6:
        optimizer._strategy.stopped = "at once"  # what cma says when it has converged
        optimizer._go_on(0)
        found.append(optimizer.lag)
    assert found == sizes


def test_a_stage_that_has_converged_gives_way_before_its_evaluations_are_spent():
    optimizer = CoarseToFine(weights(3), 1, first=100_000)
    found = []
    while optimizer.stage < 2 and len(found) < 300:
        found += stages_of(optimizer, 1)
    assert optimizer.stage == 2
    assert found[-1][2].std(axis=0).max() < 1e-4


def test_every_run_of_cma_es_has_a_stream_of_its_own():
    optimizer = CoarseToFine(weights(), 1, first=20, per_variable=1)
    seeds = {optimizer.stage: optimizer._strategy._seed}
    for _ in range(12):
        stages_of(optimizer, 1)
        seeds[optimizer.stage] = optimizer._strategy._seed
    assert sorted(seeds) == [0, 1, 2, 3]
    assert len(set(seeds.values())) == 4


# ---------------------------------------------------------------- spaces


def test_one_group_has_the_line_and_one_stage():
    found = stages_of(CoarseToFine(weights(1), 1), 30)
    assert {stage for stage, _, _ in found} == {0, 1}


def test_a_single_variable_is_searched_too():
    found = stages_of(CoarseToFine(weights(1, ("a",)), 1, line=3), 30, lambda c: -abs(float(c.genome[0]) - 0.637))
    assert {stage for stage, _, _ in found} == {0, 1}
    assert min(abs(float(g[0]) - 0.637) for _, _, batch in found for g in batch) < 1e-3


def test_two_variables_are_tied_and_then_apart():
    found = stages_of(CoarseToFine(weights(2, ("a",)), 1, first=20, per_variable=5), 30)
    assert {stage for stage, _, _ in found} == {0, 1, 2}
    assert min(-float(((g - np.array([0.21, 0.83])) ** 2).sum()) for g in found[-1][2]) > -0.01


# ---------------------------------------------------------------- replay and worth


@pytest.mark.parametrize("cut", [0, 1, 6, 9, 20])
def test_replay_is_exact_over_every_change_of_stage(cut):
    def make():
        return CoarseToFine(weights(parts=("mlp", "rest")), 3, line=4, first=40, per_variable=2)

    asked, told = go(make(), 24)
    again, _ = go(make(), 24, known=[through_json(batch) for batch in told[:cut]], between=pollute)
    assert genomes(again) == genomes(asked)
    assert len({len(batch) for batch in asked}) >= 4  # the stages did change


def noisy_score(target, seed):
    """A smooth hill whose top is .8, seen with an error of 2 points."""
    rng = np.random.default_rng(seed)

    def truth(genome):
        return 0.8 - 0.35 * (1 - np.exp(-6 * float(((genome - target) ** 2).mean())))

    return truth, lambda c: truth(c.genome) + 0.02 * float(rng.normal())


def worth_after(optimizer, evaluations, truth, score):
    """The truth of its mean after so many evaluations, whole batches only."""
    asked = 0
    while asked + optimizer.lag <= evaluations:
        batch = optimizer.ask(optimizer.lag)
        asked += len(batch)
        optimizer.tell(results(batch, score))
    return truth(optimizer.mean())


def hill(seed):
    """A common scale, each parent's own, and depth: what a merge of three experts wants."""
    rng = np.random.default_rng(100 + seed)
    slope = np.linspace(-1, 1, 6)[:, None] * rng.normal(0, 0.12, 3)
    return np.clip(rng.uniform(0.35, 0.6) + rng.normal(0, 0.1, 3) + slope, 0.05, 0.95).ravel()


@pytest.mark.parametrize(("evaluations", "gain"), [(60, 0.03), (200, 0.0)])
def test_under_noise_it_is_ahead_of_cma_es_in_all_dimensions_while_evaluations_are_few(evaluations, gain):
    def regret(kind):
        found = []
        for seed in range(8):
            truth, score = noisy_score(hill(seed), seed)
            found.append(0.8 - worth_after(kind(weights(), seed), evaluations, truth, score))
        return float(np.mean(found))

    assert regret(CoarseToFine) + gain < regret(CmaEs)


def test_depth_is_found_where_one_group_cannot_say_it():
    found = []
    for seed in range(5):
        truth, score = noisy_score(hill(seed), seed)
        flat = np.tile(hill(seed).reshape(6, 3).mean(axis=0), 6)
        after = worth_after(CoarseToFine(weights(), seed), 400, truth, score)
        found.append(after - truth(flat))
    assert np.mean(found) > 0


# ---------------------------------------------------------------- bad settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stages": []}, r"optimizer.stages is \[\]"),
        ({"stages": [0, 3]}, r"at least 1"),
        ({"stages": [2, 3]}, r"optimizer.stages is \[2, 3\].*multiple"),
        ({"stages": [3, 3]}, r"multiple"),
        ({"stages": [6, 3]}, r"multiple"),
        ({"stages": [1, -3]}, r"at least 1"),
        ({"parts_from": 0}, "optimizer.parts_from is 0; wanted 1 or more"),
        ({"line": -1}, "optimizer.line is -1; wanted 0 or more"),
        ({"first": -1}, "optimizer.first is -1"),
        ({"per_variable": 0.0}, "optimizer.per_variable is 0.0"),
        ({"per_variable": float("nan")}, "optimizer.per_variable is nan"),
        ({"sigma": 0.0}, "optimizer.sigma is 0.0"),
        ({"population": 2}, "optimizer.population is 2"),
        ({"ranks": "soft"}, "optimizer.ranks"),
    ],
)
def test_nonsense_is_refused_before_anything_is_asked(settings, message):
    with pytest.raises(ConfigError, match=message):
        CoarseToFine(weights(), 1, **settings)
