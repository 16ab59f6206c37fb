"""What every optimizer of conf/optimizer/ keeps: order, bounds, exact replay, and its hands off the global streams."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module

import numpy as np
import pytest
from omegaconf import OmegaConf

from evomerge.config import CONF, choices
from evomerge.families import Optimizer
from evomerge.problem import gene_of
from evomerge.types import Candidate, Genome, Result
from tests.optimizers.driving import Batches, Told, drive, genomes, member, pollute, through_json
from tests.optimizers.worlds import FEW, PROBLEMS, World, active, answers_of, goals_of

WITHOUT_CHANCE = {"lambda_grid", "greedy"}  # the seed changes nothing
WITHOUT_LEARNING = {"lambda_grid", "sobol", "uniform"}  # what is told changes nothing
BY_PLAN = {"greedy"}  # tries the worst parent last, whatever it has learned: its own tests show what it keeps


def class_of(name: str) -> type[Optimizer]:
    module, _, title = OmegaConf.load(CONF / "optimizer" / f"{name.split()[0]}.yaml")._target_.rpartition(".")
    return getattr(import_module(module), title)


def able(name: str) -> list[str]:
    """Kinds of problem that a member says it can solve."""
    kind = class_of(name)
    return [
        title
        for title, p in PROBLEMS.items()
        if (p.goals == 1 or kind.many_goals) and (not p.discrete or kind.takes_choices)
    ]


#: Steady states of which several are out, and lags that change early.
OTHERWISE = (
    "ga steady=true offspring=3",
    "m2n2 lag=4",
    "coarse_to_fine line=4 first=4 per_variable=1",
    "ipop patience=1",
)
MEMBERS = [*choices("optimizer"), *OTHERWISE]
CASES = [(name, title) for name in MEMBERS for title in able(name)]

each_member = pytest.mark.parametrize("name", MEMBERS)
each_case = pytest.mark.parametrize(("name", "title"), CASES)


# ---------------------------------------------------------------- a search to be held against


def made(name: str, title: str = "one goal", *, seed: int = 1, starts: Sequence[Genome] = ()) -> Optimizer:
    return member(name, seed=seed, problem=replace(PROBLEMS[title], starts=tuple(starts)))


def batches_of(name: str) -> int:
    """Enough of them for three dozen candidates in a steady state, too."""
    return 12 if made(name).step > 1 else 40


def search(
    name: str,
    title: str,
    n: int | None = None,
    *,
    seed: int = 1,
    starts: Sequence[Genome] = (),
    known: Sequence[Sequence[Result]] = (),
    between: Callable[[int], None] = lambda number: None,
) -> tuple[Batches, Told]:
    """A search of n batches in the World; batches in `known` are told as given."""
    optimizer = made(name, title, seed=seed, starts=starts)
    world = World(optimizer, PROBLEMS[title].goals)

    def judge(number: int, batch: Sequence[Candidate]) -> Sequence[Result]:
        found = world(number, batch)
        return known[number] if number < len(known) else found

    return drive(optimizer, batches_of(name) if n is None else n, judge, between=between)


@cache
def whole(name: str, title: str) -> tuple[Batches, Told]:
    """A search that nothing disturbed; not to be written to."""
    return search(name, title)


def flat(asked: Sequence[Sequence[Candidate]]) -> np.ndarray:
    return np.array([c.genome for batch in asked for c in batch])


def told_of(optimizer: Optimizer, batch: Sequence[Candidate]) -> list[Result]:
    """Scores without surprises."""
    return [Result(c.id, goals_of(c, 1), answers=answers_of(c)) for c in batch]


# ---------------------------------------------------------------- abilities


@each_member
def test_what_it_can_do_is_said_before_it_is_made(name):
    kind = class_of(name)
    assert all(isinstance(getattr(kind, a), bool) for a in ("elitist", "many_goals", "takes_choices", "wants_answers"))
    assert isinstance(getattr(made(name), "stopped", ""), str)


@each_case
def test_ids_count_up_from_zero_without_gaps(name, title):
    ids = [c.id for batch in whole(name, title)[0] for c in batch]
    assert len(ids) >= 8
    assert ids == list(range(len(ids)))


@each_case
def test_genomes_are_float64_vectors_in_the_unit_cube(name, title):
    for candidate in (c for batch in whole(name, title)[0] for c in batch):
        assert (candidate.genome.dtype, candidate.genome.shape) == (np.float64, (5,))
        assert (candidate.genome >= 0).all() and (candidate.genome <= 1).all()


@pytest.mark.parametrize(("name", "title"), [case for case in CASES if PROBLEMS[case[1]].discrete])
def test_of_genomes_that_mean_the_same_the_settled_one_is_asked(name, title):
    problem = PROBLEMS[title]
    for genome in flat(whole(name, title)[0]):
        assert genome.tobytes() == problem.settled(genome).tobytes()
        assert (genome[~active(genome)] == problem.default[~active(genome)]).all()


@pytest.mark.parametrize("name", ["uniform", "sobol", "ga", "mixed_ga"])
def test_a_space_of_which_every_point_was_asked_is_told_to_be_through(name):
    optimizer = member(name, problem=FEW)
    asked: set[bytes] = set()
    points = {FEW.settled(np.array([gene_of(a, 3), gene_of(b, 4)])).tobytes() for a, b in np.ndindex(3, 4)}
    for _ in range(60):
        batch = optimizer.ask(optimizer.lag)
        asked |= set(genomes([batch]))
        assert not optimizer.stopped, "a batch is out"
        optimizer.tell([Result(c.id, (0.0,)) for c in batch])
        assert bool(optimizer.stopped) == (asked == points)
        if optimizer.stopped:
            break
    assert optimizer.stopped == "every point of the space was asked"
    assert len(points) == 9


@pytest.mark.parametrize("name", ["uniform", "sobol", "cma_int"])
def test_a_space_without_end_keeps_no_account_of_what_was_asked(name):
    optimizer = made(name, "choices")
    drive(optimizer, 5, lambda number, batch: told_of(optimizer, batch))
    assert optimizer._coverage._asked == set()


# ---------------------------------------------------------------- ask and tell


@each_member
def test_lag_is_what_may_be_out_and_step_what_is_told_and_asking_changes_neither(name):
    optimizer = made(name)
    assert optimizer.step in (1, optimizer.lag)
    for _ in range(4):
        lag, step = optimizer.lag, optimizer.step
        batch = optimizer.ask(lag)
        assert len(batch) in (0, lag)
        assert (optimizer.lag, optimizer.step) == (lag, step)
        if not batch or step < lag:
            break
        optimizer.tell(told_of(optimizer, batch))


@each_member
def test_no_more_than_lag_are_handed_out_before_one_is_told(name):
    optimizer = made(name)
    lag, step = optimizer.lag, optimizer.step
    out = optimizer.ask(lag + 100)
    assert len(out) == lag
    assert optimizer.ask(1) == optimizer.ask(100) == []
    optimizer.tell(told_of(optimizer, out[:step]))
    more = [c.id for c in optimizer.ask(100)]
    assert more == list(range(lag, lag + (1 if step < lag else len(more))))
    assert optimizer.ask(1) == []


@each_member
def test_asking_for_none_gives_none_and_draws_nothing(name):
    optimizer, other = made(name), made(name)
    assert optimizer.ask(0) == []
    assert genomes([optimizer.ask(optimizer.lag)]) == genomes([other.ask(other.lag)])


@each_member
@pytest.mark.parametrize("pieces", [[1] * 60, [0, 2, 1, 0, 3, 5, 100]])
def test_a_batch_in_pieces_equals_the_batch_as_a_whole(name, pieces):
    one, other = made(name), made(name)
    for _ in range(3):
        batch = one.ask(one.lag)
        given = [c for n in pieces for c in other.ask(n)]
        assert [c.id for c in given] == [c.id for c in batch]
        assert genomes([given]) == genomes([batch])
        for optimizer in (one, other):
            for first in range(0, len(batch), optimizer.step):
                optimizer.tell(told_of(optimizer, batch[first : first + optimizer.step]))
                break  # in a steady state the rest stays out
        if one.step < one.lag:
            break


@each_member
@pytest.mark.parametrize("wrong", ["a part", "permuted", "twice", "another"])
def test_results_told_other_than_whole_and_in_order_are_refused(name, wrong):
    optimizer = made(name)
    told = told_of(optimizer, optimizer.ask(optimizer.lag)[: optimizer.step])
    another = [replace(r, id=r.id + 1) for r in told]
    given = {"a part": told[:-1], "permuted": told[::-1], "twice": told + told, "another": another}[wrong]
    if wrong != "permuted" or len(told) > 1:
        with pytest.raises(AssertionError, match="in id order"):
            optimizer.tell(given)
    optimizer.tell(told)  # what was refused left no trace


@each_case
def test_the_living_are_told_candidates_of_an_elitist_in_id_order(name, title):
    optimizer = made(name, title)
    world, known = World(optimizer, PROBLEMS[title].goals), set()
    assert getattr(optimizer, "living", ()) == ()

    def judge(number, batch):
        nonlocal known
        living = getattr(optimizer, "living", ())
        assert optimizer.elitist or not living
        assert list(living) == sorted(set(living))
        assert set(living) <= known
        known |= {c.id for c in batch}
        return world(number, batch)

    asked, _ = drive(optimizer, batches_of(name), judge)
    assert len(known) == len(flat(asked))


@each_member
def test_the_mean_is_a_genome_and_asking_for_it_changes_nothing(name):
    optimizer = made(name)
    world = World(optimizer, 1)

    def judge(number, batch):
        if hasattr(optimizer, "mean") and number:
            mean = optimizer.mean()
            assert mean.shape == (5,) and (mean >= 0).all() and (mean <= 1).all()
            mean[:] = np.nan
        return world(number, batch)

    asked, _ = drive(optimizer, batches_of(name), judge)
    assert genomes(asked) == genomes(whole(name, "one goal")[0])


# ---------------------------------------------------------------- replay


@each_case
@pytest.mark.parametrize("cut", [0.1, 0.3, 0.6, 0.9])
def test_replayed_results_give_the_same_later_candidates_whatever_the_global_streams_do(name, title, cut):
    asked, told = whole(name, title)
    np.random.seed(21)
    random.seed(22)
    known = [through_json(batch) for batch in told[: max(1, round(cut * len(told)))]]
    again, told_again = search(name, title, known=known, between=pollute)
    assert genomes(again) == genomes(asked)
    assert told_again == told


@each_case
def test_what_was_asked_and_not_told_before_a_kill_is_asked_again(name, title):
    asked, told = whole(name, title)
    half = len(told) // 2
    optimizer = made(name, title)
    drive(optimizer, half, lambda number, batch: through_json(told[number]))
    again = optimizer.ask(optimizer.lag)
    all_asked = {c.id: c.genome.tobytes() for batch in asked for c in batch}
    assert {c.id: c.genome.tobytes() for c in again}.items() <= all_asked.items()
    assert again[-1].id == sum(map(len, asked[:half])) + optimizer.lag - 1


@each_member
def test_global_random_states_are_left_as_they_were(name):
    np.random.seed(5)
    random.seed(6)
    before = np.random.get_state(), random.getstate()

    def untouched() -> bool:
        now = np.random.get_state()
        same = all(np.array_equal(a, b) for a, b in zip(before[0], now, strict=True))
        return same and before[1] == random.getstate()

    optimizer = made(name)
    assert untouched(), "constructor"

    def judge(number, batch):
        assert untouched(), "ask or tell"
        return told_of(optimizer, batch)

    drive(optimizer, 3, judge)
    assert untouched()


@each_member
def test_two_of_a_kind_do_not_disturb_each_other(name):
    other = made(name, seed=4)
    rival, out = World(other, 1), []

    def between(number: int) -> None:
        out.extend(other.ask(other.lag - len(out)))
        batch = [out.pop(0) for _ in out[: other.step]]
        if batch:
            other.tell(rival(number, batch))

    assert genomes(search(name, "one goal", 5, between=between)[0]) == genomes(whole(name, "one goal")[0][:5])


@each_case
def test_another_seed_gives_other_candidates(name, title):
    other, _ = search(name, title, seed=2)
    assert (genomes(other) == genomes(whole(name, title)[0])) == (name in WITHOUT_CHANCE)


@each_member
@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_the_ends_of_the_seed_range_are_seeds_like_others(name, seed):
    asked, _ = search(name, "one goal", 3, seed=seed)
    again, _ = search(name, "one goal", 3, seed=seed, between=pollute)
    assert genomes(asked) == genomes(again)


# ---------------------------------------------------------------- what is told


def steered(name: str, result: Callable[[Candidate, float], Result], sign: float) -> float:
    """How close the last third of the candidates comes."""
    judge = lambda number, batch: [result(c, sign * goals_of(c, 1)[0]) for c in batch]  # noqa: E731
    found = flat(drive(made(name), 2 * batches_of(name), judge)[0])
    return float(np.mean([goals_of(Candidate(0, g), 1)[0] for g in found[-len(found) // 3 :]]))


@pytest.mark.parametrize("name", sorted({*MEMBERS} - WITHOUT_LEARNING - BY_PLAN))
def test_fitness_is_maximised(name):
    def result(candidate: Candidate, value: float) -> Result:
        kept = answers_of(candidate)
        return Result(candidate.id, (value,), answers=kept if value < 0 else 1 - kept)

    assert steered(name, result, 1.0) > steered(name, result, -1.0)


@pytest.mark.parametrize("name", sorted({*MEMBERS} - WITHOUT_LEARNING - BY_PLAN))
def test_the_violation_is_minimised_whatever_the_fitness(name):
    def result(candidate: Candidate, value: float) -> Result:
        return Result(candidate.id, (-value,), 10.0 - value, answers=np.full(15, 0.5))

    assert steered(name, result, 1.0) > steered(name, result, -1.0)


@pytest.mark.parametrize("name", sorted(WITHOUT_LEARNING & {*MEMBERS}))
def test_what_learns_nothing_is_told_what_it_may(name):
    asked, _ = drive(made(name), 12, lambda number, batch: [Result(c.id, (float(c.id % 3),)) for c in batch])
    assert genomes(asked) == genomes(whole(name, "one goal")[0])


@each_member
def test_a_plateau_does_not_derail_it(name):
    judge = lambda number, batch: [Result(c.id, (0.25,), answers=np.full(15, 0.25)) for c in batch]  # noqa: E731
    found = flat(drive(made(name), 2 * batches_of(name), judge)[0])
    assert np.isfinite(found).all() and (found >= 0).all() and (found <= 1).all()
    assert len(np.unique(found[-8:], axis=0)) == 8


@each_case
def test_enormous_differences_do_not_break_it(name, title):
    goals = PROBLEMS[title].goals

    def judge(number, batch):
        values = [-(10.0 ** (300 / goals * c.genome[:goals])) for c in batch]
        return [Result(c.id, tuple(v.tolist()), answers=answers_of(c)) for c, v in zip(batch, values, strict=True)]

    found = flat(drive(made(name, title), batches_of(name), judge)[0])
    assert np.isfinite(found).all() and (found >= 0).all() and (found <= 1).all()


# ---------------------------------------------------------------- genomes of others


@each_member
@pytest.mark.parametrize("start", [[0.0] * 5, [1.0] * 5, [0.0, 1.0, 0.5, 1.0, 0.0]])
def test_starts_on_the_bounds_are_starts_like_others_and_not_written_to(name, start):
    starts = [np.array(start), np.full(5, 0.31)]
    found = flat(search(name, "one goal", starts=starts)[0])
    assert np.isfinite(found).all() and (found >= 0).all() and (found <= 1).all()
    assert len(np.unique(found, axis=0)) > 0.95 * len(found), "it does not fold onto the corner"
    assert [s.tolist() for s in starts] == [start, [0.31] * 5]


@each_member
def test_candidates_may_be_overwritten_by_their_receiver(name):
    optimizer, seen = made(name), []
    world = World(optimizer, 1)

    def judge(number, batch):
        told = world(number, batch)
        seen.extend(genomes([batch]))
        for candidate in batch:
            candidate.genome[:] = np.nan
        return told

    drive(optimizer, batches_of(name), judge)
    assert seen == genomes(whole(name, "one goal")[0])
