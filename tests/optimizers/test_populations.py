"""What all searchers over pymoo share: ids, the first population, the grid, steady state, exhaustion."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.errors import ConfigError
from evomerge.optimizers.de import De
from evomerge.optimizers.ga import Ga
from evomerge.optimizers.mixed_ga import MixedGa
from evomerge.optimizers.nsga2 import Nsga2
from evomerge.optimizers.nsga3 import Nsga3
from evomerge.optimizers.smsemoa import Smsemoa
from evomerge.problem import Problem, gene_of, level_of
from evomerge.types import Result, Variable
from tests.optimizers.driving import closeness, drive, genomes, plain, pollute, through_json

ALL = [Ga, MixedGa, De, Nsga2, Nsga3, Smsemoa]
ON_GRIDS = [Ga, MixedGa, Nsga2, Nsga3, Smsemoa]
STEADY = [Ga, MixedGa]
FREE = {De: None}  # all genes mean something, always


def knob(name: str, levels: int, scale="linear") -> Variable:
    return Variable(name, name, 0.0, 1.0, scale, gene_of(0, levels) if levels else 0.4, 0.2, levels=levels)


#: A method, a knob that only method 1 has, a count of which only method 2 has, and two weights.
MIXED = (knob("method", 3, "choice"), knob("density", 0), knob("copies", 7), knob("a", 0), knob("b", 0))


def active(genome):
    method = level_of(genome[0], 3)
    return np.array([True, method == 1, method == 2, True, True])


def goals_of(kind) -> int:
    return 2 if kind.many_goals else 1


def judged(number, batch):
    """Failures, broken constraints and plain results; as many goals as an optimizer of one or two is told."""
    return [_result(c) for c in batch]


def _result(candidate, goals=1):
    error = "merge" if candidate.id % 13 == 5 else None
    violation = max(0.0, float(candidate.genome[0]) - 0.6)
    return Result(candidate.id, (closeness(candidate), -float(candidate.genome.sum()))[:goals], violation, error)


def rejudged(optimizer, goals):
    """As `judged`, all the living scored anew before each batch, with luck that depends on the batch's number."""
    seen = {}

    def judge(number, batch):
        seen.update({c.id: c for c in batch})
        luck = np.random.default_rng(number)
        again = [seen[i] for i in optimizer.living]
        return [
            Result(r.id, tuple(f + luck.normal() for f in r.fitness), r.violation, r.error_code)
            for r in (_result(c, goals) for c in (*again, *batch))
        ]

    return judge


# ---------------------------------------------------------------- first population


@pytest.mark.parametrize("kind", ALL)
def test_starts_come_first_in_their_order_and_each_once(kind):
    starts = [np.full(4, 0.2), np.full(4, 0.9), np.full(4, 0.2), np.array([0.0, 1.5, 0.3, -0.1])]
    problem = Problem(plain(4).variables, goals=goals_of(kind), starts=tuple(starts))
    first = [c.genome.tolist() for c in kind(problem, 1, population=10).ask(10)]
    assert first[:3] == [[0.2] * 4, [0.9] * 4, [0.0, 1.0, 0.3, 0.0]]
    assert len({tuple(g) for g in first}) == 10


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(("population", "kept"), [(6, 3), (7, 4)])
def test_the_best_starts_are_half_of_the_first_population_at_most(kind, population, kept):
    starts = tuple(np.full(3, k / 20) for k in range(20))
    first = kind(Problem(plain(3).variables, goals=goals_of(kind), starts=starts), 1, population=population).ask(99)
    assert [c.genome[0] for c in first[:kept]] == [k / 20 for k in range(kept)]
    assert all(np.ptp(c.genome) > 0 for c in first[kept:]), "drawn, not the next start"


# ---------------------------------------------------------------- grids and genes at rest


@pytest.mark.parametrize("kind", ON_GRIDS)
@pytest.mark.parametrize("seed", range(3))
def test_no_gene_ever_leaves_its_grid_and_none_that_means_nothing_ever_moves(kind, seed):
    """pymoo's operators alone have half of all discrete genes off the grid by the fourth generation."""
    problem = Problem(MIXED, goals=goals_of(kind), active=active)
    asked, _ = drive(
        kind(problem, seed, population=12), 25, lambda n, batch: [_result(c, problem.goals) for c in batch]
    )
    found = [c.genome for batch in asked for c in batch]
    assert len(found) == 300
    for genome in found:
        assert genome.tobytes() == problem.settled(genome).tobytes()
        at_rest = ~active(genome)
        assert (genome[at_rest] == problem.default[at_rest]).all()
    assert {level_of(g[0], 3) for g in found[12:]} == {0, 1, 2}


@pytest.mark.parametrize("kind", ALL)
def test_no_genome_is_asked_twice_and_no_batch_falls_short_before_the_space_ends(kind):
    """216 points: long before, all that mating gives has been asked."""
    variables = plain(3).variables if kind is De else (knob("x", 6), knob("y", 6, "choice"), knob("z", 6))
    problem = Problem(variables, goals=goals_of(kind))
    asked, _ = drive(kind(problem, 1, population=10), 16, lambda n, b: [_result(c, problem.goals) for c in b])
    found = genomes(asked)
    assert len(set(found)) == len(found) == 160


# ---------------------------------------------------------------- replay


@pytest.mark.parametrize(("kind", "steady"), [*((k, False) for k in ALL), *((k, True) for k in STEADY)])
@pytest.mark.parametrize("cut", [1, 3, 7, 20])
def test_replay_is_exact_with_the_living_scored_anew_failures_and_broken_constraints(kind, steady, cut):
    problem = Problem(plain(5).variables if kind is De else MIXED, goals=goals_of(kind), active=FREE.get(kind, active))
    settings = {"steady": True} if steady else {}

    def run(known, between):
        optimizer = kind(problem, 7, population=9, **settings)
        judge = rejudged(optimizer, problem.goals)

        def told(number, batch):
            new = judge(number, batch)
            return known[number] if number < len(known) else new

        return drive(optimizer, 25, told, between=between)

    asked, told = run([], lambda number: None)
    again, told_again = run([through_json(batch) for batch in told[:cut]], pollute)
    assert genomes(again) == genomes(asked)
    assert told_again == told


# ---------------------------------------------------------------- steady state


@pytest.mark.parametrize("kind", STEADY)
@pytest.mark.parametrize("offspring", [1, 3, 7])
def test_in_a_steady_state_as_many_are_out_as_children_are_drawn_ahead(kind, offspring):
    optimizer = kind(plain(4), 1, population=9, offspring=offspring, steady=True)
    assert (optimizer.lag, optimizer.step) == (offspring, 1)
    out = optimizer.ask(99)
    for told in range(60):
        assert [c.id for c in out] == list(range(told, told + offspring))
        optimizer.tell([_result(out.pop(0))])
        assert len(optimizer.living) == min(told + 1, 9)
        out += optimizer.ask(99)


@pytest.mark.parametrize("kind", STEADY)
def test_in_a_steady_state_a_child_depends_on_what_was_told_up_to_its_lag_and_on_nothing_later(kind):
    def children(changed):
        optimizer = kind(plain(4), 1, population=9, offspring=4, steady=True)

        def judge(number, batch):
            return [Result(c.id, (9.0 if c.id == changed else closeness(c),)) for c in batch]

        asked, _ = drive(optimizer, 40, judge)
        return genomes(asked)

    plainly = children(None)
    for told in range(20, 25):
        assert children(told)[: told + 4] == plainly[: told + 4]
    assert any(children(told)[told + 4] != plainly[told + 4] for told in range(20, 25))


@pytest.mark.parametrize("kind", STEADY)
def test_a_child_does_not_depend_on_when_it_is_asked(kind):
    prompt, _ = drive(kind(plain(4), 1, steady=True), 40, judged)
    late, found = kind(plain(4), 1, steady=True), []
    while len(found) < 40:
        batch = late.ask(late.lag)
        for candidate in batch:
            late.tell([_result(candidate)])
        found += batch
    assert [c.genome.tobytes() for c in found[:40]] == genomes(prompt)


@pytest.mark.parametrize("kind", STEADY)
def test_children_out_are_half_the_population_in_a_steady_state_and_all_of_it_else(kind):
    assert kind(plain(4), 1, population=11, steady=True).lag == 5
    optimizer = kind(plain(4), 1, population=11)
    drive(optimizer, 2, judged)
    assert optimizer.lag == 11


@pytest.mark.parametrize("kind", STEADY)
def test_batches_after_the_first_have_as_many_children_as_asked_for(kind):
    asked, _ = drive(kind(plain(4), 1, population=11, offspring=3), 5, judged)
    assert [len(batch) for batch in asked] == [11, 3, 3, 3, 3]


@pytest.mark.parametrize("kind", STEADY)
@pytest.mark.parametrize(
    ("offspring", "steady", "most"), [(0, False, 90), (91, False, 90), (8, True, 7), (-1, True, 7)]
)
def test_children_that_cannot_be_drawn_are_refused(kind, offspring, steady, most):
    with pytest.raises(ConfigError, match=rf"optimizer.offspring is {offspring}; wanted 1 to {most} with .*=9"):
        kind(plain(4), 1, population=9, offspring=offspring, steady=steady)


# ---------------------------------------------------------------- a space that ends


@pytest.mark.parametrize("kind", ON_GRIDS)
@pytest.mark.parametrize("population", [4, 6, 20])
def test_a_small_space_is_asked_whole_and_once_and_then_no_more(kind, population):
    problem = Problem((knob("x", 3), knob("y", 3, "choice")), goals=goals_of(kind))
    optimizer = kind(problem, 1, population=population)
    asked, _ = drive(optimizer, 40, lambda n, batch: [_result(c, problem.goals) for c in batch])
    assert len(set(genomes(asked))) == len(genomes(asked)) == 9
    assert optimizer.ask(1) == []
    assert optimizer.stopped == "every point of the space was asked"


@pytest.mark.parametrize("kind", STEADY)
def test_a_small_space_is_asked_whole_in_a_steady_state_too(kind):
    optimizer = kind(Problem((knob("x", 3), knob("y", 3, "choice"))), 1, population=6, steady=True)
    asked, _ = drive(optimizer, 40, judged)
    assert len(set(genomes(asked))) == len(asked) == 9
    assert optimizer.stopped == "every point of the space was asked"


def test_points_that_differ_only_where_nothing_is_meant_are_one():
    variables = (knob("method", 2, "choice"), knob("copies", 5))
    problem = Problem(variables, active=lambda g: np.array([True, g[0] > 0.5]))  # 1 + 5 points
    optimizer = MixedGa(problem, 1, population=4)
    asked, _ = drive(optimizer, 40, judged)
    assert len(genomes(asked)) == 6
    assert optimizer.stopped == "every point of the space was asked"


def test_nothing_is_stopped_before_the_last_candidate_is_out():
    optimizer = Ga(Problem((knob("x", 3), knob("y", 3))), 1, population=20)
    assert optimizer.stopped == ""
    first = optimizer.ask(8)
    assert (len(first), optimizer.stopped) == (8, "")
    first += optimizer.ask(8)
    optimizer.tell([_result(c) for c in first])
    assert optimizer.stopped == "every point of the space was asked"


# ---------------------------------------------------------------- survival


@pytest.mark.parametrize("kind", ALL)
def test_members_that_keep_their_constraints_come_before_all_others_and_failures_last(kind):
    """Members: two good, two that break a constraint, four failed; then a good child for each place."""
    goals = goals_of(kind)
    optimizer = kind(Problem(plain(3).variables, goals=goals), 1, population=8)
    kinds = [(0.0, None)] * 2 + [(1.0, None), (2.0, None)] + [(0.0, "merge")] * 4
    batch = optimizer.ask(8)
    optimizer.tell([Result(c.id, (50.0,) * goals, *k) for c, k in zip(batch, kinds, strict=True)])
    worse = [Result(c.id, (-90.0,) * goals, 1.5) for c in optimizer.ask(8)]
    optimizer.tell(worse)
    left = set(optimizer.living)
    assert {0, 1, 2} <= left and not left & {4, 5, 6, 7}
    optimizer.tell([Result(c.id, (-99.0 - c.id,) * goals) for c in optimizer.ask(8)])
    assert {0, 1} <= set(optimizer.living)
    assert len(set(optimizer.living) - {0, 1}) == len([i for i in optimizer.living if i >= 16]) == 6


@pytest.mark.parametrize("kind", ALL)
def test_a_member_that_is_told_to_break_a_constraint_now_makes_room(kind):
    goals = goals_of(kind)
    optimizer = kind(Problem(plain(3).variables, goals=goals), 1, population=8)
    optimizer.tell([Result(c.id, (1.0,) * goals) for c in optimizer.ask(8)])
    again = [Result(i, (1.0,) * goals, float(i == 3)) for i in optimizer.living]
    optimizer.tell(again + [Result(c.id, (0.5,) * goals) for c in optimizer.ask(8)])
    assert 3 not in optimizer.living and len(optimizer.living) == 8
