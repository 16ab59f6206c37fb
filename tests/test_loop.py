"""Draws, races and pooling in the loop: resumed at any step, in any order, they end with the same journal."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace

import numpy as np
import pytest

from evomerge.budget import Budget
from evomerge.estimators.mean import Mean
from evomerge.estimators.merit import Merit
from evomerge.journal import events, rows
from evomerge.optimizers.cma_es import CmaEs
from evomerge.optimizers.coarse_to_fine import CoarseToFine
from evomerge.optimizers.ga import Ga
from evomerge.optimizers.m2n2 import M2n2
from evomerge.optimizers.mixed_ga import MixedGa
from evomerge.optimizers.uniform import Uniform
from evomerge.races.halving import Halving
from evomerge.races.threshold import Threshold
from evomerge.subsets.neyman import Neyman
from evomerge.subsets.random import Random
from evomerge.types import Candidate, ItemScores
from tests.sphere import (
    CENTRE,
    TASKS,
    Shuffled,
    SphereEvaluator,
    SphereSpace,
    canonical,
    problem,
    recipe,
    run,
    run_and_die,
)

N = 40
ITEMS = {
    split: {t: tuple(f"{split}-{t}-{i}" for i in range(N)) for t in TASKS} for split in ("search", "selection", "test")
}


class Bits(SphereEvaluator):
    """An item is answered right if the weights come near enough for it."""

    def open(self):
        bench = super().open()
        plain = bench.evaluate

        def in_bits(work, **how):
            near = np.exp(-4 * ((np.array(work.recipe.slots[0].blends["*"].knobs["weight"]) - CENTRE) ** 2).sum())
            for e in plain(work, **how):
                yield replace(e, scores=tuple(ItemScores(s.task, s.items, right(s, near)) for s in e.scores))

        bench.evaluate = in_bits
        return bench


def right(scores, near):
    ease = [int(hashlib.sha256(f"{scores.task}{i}".encode()).hexdigest()[:4], 16) / 65536 for i in scores.items]
    return (np.array(ease) < near).astype(float)


def changes(regime):
    """Changes to a plan of bits."""
    space = SphereSpace()
    common = {"items": ITEMS, "evaluator": Bits(), "budget": Budget(evaluations=30), "make_control": None}
    return {
        **common,
        **{
            "pooling": {"subset": Neyman(n=16), "estimator": Merit()},
            "race": {"subset": Neyman(n=24), "estimator": Merit(), "race": Threshold(chance=0.2, chunks=4, top=1)},
            "halving": {"subset": Random(n=16), "estimator": Mean(), "race": Halving(chunks=3)},
            "steady": {
                "subset": Random(n=16),
                "estimator": Mean(),
                "make_optimizer": lambda starts: Climber(),
            },
            "living": {
                "subset": Random(n=16),
                "fresh": True,
                "estimator": Mean(),
                "make_optimizer": lambda starts: Ga(problem(space, starts), 1, population=6),
            },
        }[regime],
    }


class Climber:
    """A steady state: each candidate is the best told so far, moved a little; four may be out."""

    elitist = wants_answers = True
    many_goals = takes_choices = False
    lag, step = 4, 1

    def __init__(self, move=0.1):
        self._move = move
        self.asked, self.told = [], []
        self._best = (-np.inf, np.full(len(CENTRE), 0.5))

    def ask(self, n):
        k = len(self.asked)
        if not n or k - len(self.told) >= self.lag:
            return []
        moved = np.clip(self._best[1] + np.random.default_rng([7, k]).normal(0, self._move, len(CENTRE)), 0, 1)
        self.asked.append((len(self.told), moved))
        return [Candidate(k, moved.copy())]

    def tell(self, results):
        (result,) = results
        assert result.answers is not None and np.isfinite(result.answers).sum() == 16
        assert np.nanmean(result.answers) == pytest.approx(result.fitness[0])
        self.told.append(result)
        self._best = max(self._best, (result.fitness[0], self.asked[result.id][1]), key=lambda one: one[0])


REGIMES = ("pooling", "race", "halving", "living", "steady")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    made = {regime: tmp_path_factory.mktemp(regime) for regime in REGIMES}
    for regime, folder in made.items():
        run(folder, **changes(regime))
    return made


def searched(folder, kind="evaluation"):
    return [r for r in rows(folder) if r["row"] == kind and r["phase"] == "search"]


@pytest.mark.parametrize("regime", REGIMES)
def test_killed_again_and_again_it_ends_with_the_same_journal(tmp_path, undisturbed, regime):
    lives = 0
    while not run_and_die(tmp_path, step=9 + 11 * lives, **changes(regime)):
        lives += 1
    assert lives > 3
    assert canonical(tmp_path) == canonical(undisturbed[regime])


@pytest.mark.slow
@pytest.mark.parametrize("regime", REGIMES)
def test_killed_at_any_step_it_ends_with_the_same_journal(tmp_path, undisturbed, regime):
    steps = []
    run(tmp_path / "count", watch=lambda step, /, **facts: steps.append(step), **changes(regime))
    for step in range(0, len(steps), 23):
        folder = tmp_path / str(step)
        assert not run_and_die(folder, step=step, **changes(regime))
        run(folder, **changes(regime))
        assert canonical(folder) == canonical(undisturbed[regime]), step


@pytest.mark.parametrize("regime", REGIMES)
def test_the_order_of_answers_changes_nothing(tmp_path, undisturbed, regime):
    run(tmp_path, executor=Shuffled(), **changes(regime))
    assert canonical(tmp_path) == canonical(undisturbed[regime])


@pytest.mark.parametrize("regime", REGIMES)
def test_an_extended_run_has_the_rows_of_the_longer_run(tmp_path, undisturbed, regime):
    for n in (10, 30):
        run(tmp_path, **{**changes(regime), "budget": Budget(evaluations=n)})
    paid = ("evaluation", "commit")
    assert canonical(tmp_path, "search", paid) == canonical(undisturbed[regime], "search", paid)


@pytest.mark.parametrize("regime", REGIMES)
def test_a_finished_run_run_again_writes_nothing(undisturbed, regime):
    before = (undisturbed[regime] / "journal.jsonl").read_bytes()
    run(undisturbed[regime], **changes(regime))
    assert (undisturbed[regime] / "journal.jsonl").read_bytes() == before


def items_of(row):
    return {(task, i) for task, ids in row["items"].items() for i in ids}


def draws(folder):
    """Items by candidate, all rungs together."""
    found = {}
    for row in searched(folder):
        found.setdefault(row["id"], set()).update(items_of(row))
    return found


def test_a_batch_shares_its_draw_and_the_next_has_another(undisturbed):
    found = draws(undisturbed["pooling"])
    batches = [{frozenset(found[i]) for i in range(k, k + 8)} for k in (0, 8, 16)]
    assert [len(b) for b in batches] == [1, 1, 1]
    assert len(set.union(*batches)) == 3


def test_an_elitist_keeps_one_draw_unless_told_otherwise(tmp_path):
    run(tmp_path, **{**changes("living"), "fresh": None})
    assert len({frozenset(items) for items in draws(tmp_path).values()}) == 1


def test_references_are_scored_on_the_whole_bank(undisturbed):
    found = [r for r in rows(undisturbed["pooling"]) if r["row"] == "evaluation" and r["phase"] == "references"]
    assert [len(items_of(r)) for r in found] == [2 * N] * 3


def test_a_race_stops_some_and_asks_nobody_anything_twice(undisturbed):
    by_id = {}
    for row in searched(undisturbed["race"]):
        by_id.setdefault(row["id"], []).append(row)
    first = [by_id[i] for i in range(8)]
    assert all(len(rungs) == 4 for rungs in first), "nothing was told before the first batch: it runs in full"
    later = [rungs for i, rungs in by_id.items() if i >= 8]
    assert any(len(rungs) < 4 for rungs in later)
    for rungs in by_id.values():
        asked = [i for r in rungs for i in items_of(r)]
        assert len(asked) == len(set(asked))
        assert [r["last"] for r in rungs] == [False] * (len(rungs) - 1) + [True]
    stop = searched(undisturbed["race"], "stop")[-1]
    assert stop["items"] < stop["items_unraced"] == 30 * 24


def test_every_chunk_of_a_race_has_items_of_every_task(undisturbed):
    assert all(set(r["items"]) == set(TASKS) for r in searched(undisturbed["race"]))


def test_halving_asks_the_better_share_of_a_batch_more(undisturbed):
    counts = [sum(r["rung"] % 3 == k for r in searched(undisturbed["halving"]) if r["id"] < 8) for k in range(3)]
    assert counts == [8, 5, 3]  # ceil(0.6 x 8), ceil(0.6 x 5)


def test_halving_keeps_those_with_the_best_answers(undisturbed):
    first = {r["id"]: r for r in searched(undisturbed["halving"]) if r["id"] < 8 and r["rung"] % 3 == 0}
    on = {r["id"] for r in searched(undisturbed["halving"]) if r["id"] < 8 and r["rung"] % 3 == 1}
    mean = {i: np.mean([np.mean(values) for values in r["scores"].values()]) for i, r in first.items()}
    assert min(mean[i] for i in on) >= max(mean[i] for i in mean if i not in on)


def test_living_members_are_scored_on_every_new_draw(undisturbed):
    again = [r for r in searched(undisturbed["living"]) if r["rung"] > r["id"] // 6]
    commits = searched(undisturbed["living"], "commit")
    assert again and len(commits[1]["results"]) == 12
    assert [r["id"] for r in commits[1]["results"]] == list(range(12))


class LuckyOnce(Bits):
    """Candidate 2 answers everything right on its first draw, and nothing ever after."""

    def open(self):
        bench = super().open()
        plain = bench.evaluate

        def lucky(work, **how):
            for e in plain(work, **how):
                if work.phase == "search" and work.id == 2:
                    e = replace(
                        e,
                        scores=tuple(replace(s, values=np.full(len(s.items), float(work.rung == 0))) for s in e.scores),
                    )
                yield e

        bench.evaluate = lucky
        return bench


def test_a_lucky_member_dies_where_the_living_are_scored_again(tmp_path):
    survivors = {}
    for fresh in (True, False):
        made = []

        def optimizer(starts, made=made):
            made.append(Ga(problem(SphereSpace(), starts), 1, population=6))
            return made[-1]

        settings = {**changes("living"), "evaluator": LuckyOnce(), "fresh": fresh, "make_optimizer": optimizer}
        run(tmp_path / str(fresh), **settings)
        survivors[fresh] = made[0].living
    assert 2 in survivors[False], "without new draws luck lives on"
    assert 2 not in survivors[True]


def test_estimates_pool_all_draws_of_a_living_member(undisturbed):
    commit = searched(undisturbed["living"], "commit")[2]
    asked = {i: len(items) for i, items in draws(undisturbed["living"]).items()}
    told = {r["id"]: sum(e[2] for e in tasks) for r, tasks in zip(commit["results"], commit["tasks"], strict=True)}
    living = [i for i in told if i < 12]
    assert living and all(16 < told[i] <= asked[i] for i in living)


def test_the_level_of_every_batch_is_on_file(undisturbed):
    levels = [c["level"] for c in searched(undisturbed["pooling"], "commit")]
    assert all(len(level) == 2 and level[1] > 0 for level in levels)
    assert not any(c["robust"] for c in searched(undisturbed["pooling"], "commit"))


class Off(Merit):
    """An estimator whose level is off by a tenth."""

    def fit(self, bank):
        fitted = super().fit(bank)
        plain = fitted.estimate

        def high(observed, earlier=()):
            return [tuple(replace(e, value=e.value + 0.3) for e in tasks) for tasks in plain(observed, earlier)]

        object.__setattr__(fitted, "estimate", high)
        return fitted


def test_an_estimator_whose_level_is_off_is_replaced_and_the_report_says_so(tmp_path):
    from evomerge.reports.read import read

    run(tmp_path, **{**changes("pooling"), "estimator": Off(), "budget": Budget(evaluations=60)})
    robust = [c["robust"] for c in searched(tmp_path, "commit")]
    assert robust[0] is False and robust[-1] is True and robust == sorted(robust)
    report = read(tmp_path)
    assert report.level.alarm == robust.index(True)
    assert any("level was off" in w for w in report.warnings)


def test_the_report_tells_what_the_race_spared(undisturbed):
    from evomerge.reports.read import read

    raced = read(undisturbed["race"]).raced
    stop = searched(undisturbed["race"], "stop")[-1]
    assert (raced.items, raced.of) == (stop["items_unraced"] - stop["items"], stop["items_unraced"])
    assert read(undisturbed["pooling"]).raced is None


def test_a_fallback_of_the_estimator_is_in_the_report(tmp_path):
    from evomerge.estimators.p_irt import PIrt
    from evomerge.reports.read import read

    run(tmp_path, **{**changes("pooling"), "estimator": PIrt(), "budget": Budget(evaluations=8)})
    report = read(tmp_path)
    assert report.fallbacks["few-models"] == 8
    assert any("Estimates of 8 candidates fell back (few-models)" in w for w in report.warnings)


def test_what_the_calibration_did_without_is_in_the_report(tmp_path):
    from evomerge.plan import Known
    from evomerge.reports.read import read

    run(tmp_path, **changes("pooling"), known=Known(told=("the answers are not kept",)))
    assert "the answers are not kept" in read(tmp_path).notes


def test_parents_that_answer_alike_are_no_trouble(tmp_path):
    same = {"base": recipe((0.5,) * 4), "parent:a": recipe((0.5,) * 4), "average": recipe((0.5,) * 4)}
    run(tmp_path, **changes("race"), references=same)
    assert len({tuple(r["fitness"]) for c in searched(tmp_path, "commit") for r in c["results"]}) > 8


def test_more_items_than_there_are_is_all_of_them_and_one_draw(tmp_path):
    run(tmp_path, **{**changes("pooling"), "subset": Neyman(n=1000)})
    assert {len(items) for items in draws(tmp_path).values()} == {2 * N}
    told = [e for c in searched(tmp_path, "commit") for tasks in c["tasks"] for e in tasks]
    assert {e[1] for e in told} == {0.0}, "nothing is left to be estimated"


def test_in_a_steady_state_a_candidate_is_asked_right_after_the_one_lag_before_it_was_told(tmp_path):
    made = Climber()
    run(tmp_path, **{**changes("steady"), "make_optimizer": lambda starts: made})
    assert [told for told, _ in made.asked] == [max(0, k - 3) for k in range(30)]
    assert [r.id for r in made.told] == list(range(30))
    assert [row["batch"] for row in searched(tmp_path, "commit")] == list(range(30))


def test_in_a_steady_state_as_many_are_under_way_as_the_lag_allows(tmp_path):
    out, most = set(), []

    class Counting(Shuffled):
        def submit(self, works):
            out.update((w.phase, w.id) for w in works)
            most.append(sum(phase == "search" for phase, _ in out))
            super().submit(works)

        def next(self):
            row = super().next()
            out.discard((row.phase, row.id))
            return row

    run(tmp_path, executor=Counting(workers=4), **changes("steady"))
    assert max(most) == Climber.lag and not out


@pytest.mark.parametrize("seed", range(4))
def test_killed_with_several_under_way_it_ends_with_the_same_journal(tmp_path, undisturbed, seed):
    for regime in ("steady", "pooling", "race"):
        lives, folder = 0, tmp_path / regime
        while not run_and_die(folder, 23 + 17 * lives, executor=Shuffled(seed=10 * seed + lives), **changes(regime)):
            lives += 1
        assert lives > 1
        assert canonical(folder) == canonical(undisturbed[regime]), regime


@pytest.mark.parametrize("seed", range(4))
def test_equal_recipes_under_way_at_once_are_asked_once(tmp_path, seed):
    coarse = {
        **changes("steady"),
        "space": SphereSpace(digits=1),
        "make_optimizer": lambda starts: Climber(move=0.03),  # most of those under way round to the same recipe
        "budget": Budget(evaluations=40),
    }
    run(tmp_path / "one", **coarse)
    run(tmp_path / "many", executor=Shuffled(workers=4, seed=seed), **coarse)
    asked = [row["recipe"] for row in searched(tmp_path / "many") if not row.get("alias_of")]
    assert len(asked) == len(set(asked)) < 40
    assert canonical(tmp_path / "many") == canonical(tmp_path / "one")


def told_values(folder):
    return [r["fitness"][0] for row in searched(folder, "commit") for r in row["results"]]


def stop_of(folder):
    return [r for r in rows(folder) if r["row"] == "stop" and r["phase"] == "search"][-1]


def test_a_target_ends_the_search_when_a_told_estimate_reaches_it_and_not_before(tmp_path, undisturbed):
    target = max(told_values(undisturbed["pooling"])[:20])
    run(tmp_path, **{**changes("pooling"), "budget": Budget(evaluations=30, target=target)})
    values = told_values(tmp_path)
    assert stop_of(tmp_path)["reason"] == "target" and len(values) < 30
    assert max(values) >= target > max(values[:-8], default=-1)


def test_stagnation_ends_the_search_and_a_higher_limit_goes_on_as_if_it_had_been_there_all_along(tmp_path):
    class Flat(Climber):
        def tell(self, results):
            self.told += results

    def flat(limit):
        run(
            tmp_path,
            **{
                **changes("steady"),
                "evaluator": SphereEvaluator(),
                "space": SphereSpace(digits=0),
                "make_optimizer": lambda starts: Flat(),
                "budget": Budget(evaluations=30, stagnation=limit),
            },
        )
        return stop_of(tmp_path)

    values, stop = [], flat(5)
    values = told_values(tmp_path)
    best = values.index(max(values))
    assert (stop["reason"], stop["evaluations"]) == ("stagnation", len(values))
    since = len(values) - 1 - best
    assert 5 <= since <= 5 + 3, "what was out is told after the decision, no more is asked"
    assert flat(30)["reason"] == "evaluations" and len(told_values(tmp_path)) == 30


def test_an_optimizer_that_has_nothing_more_to_try_ends_the_search_with_its_reason(tmp_path):
    class Content(Climber):
        stopped = ""

        def tell(self, results):
            super().tell(results)
            self.stopped = "tolx" if len(self.told) >= 9 else ""

    run(tmp_path, **{**changes("steady"), "make_optimizer": lambda starts: Content()})
    assert stop_of(tmp_path)["reason"] == "optimizer: tolx"
    assert len(told_values(tmp_path)) == 9 + 3  # those that were out


def test_warm_starts_are_scored_before_the_search_begins_at_the_best_of_all(tmp_path):
    seen = []
    good, bad = recipe(tuple(CENTRE)), recipe((0.9, 0.1, 0.9, 0.9))

    def made(starts):
        seen.append(starts)
        return CmaEs(problem(SphereSpace(), starts), 1)

    for _ in range(2):
        run(tmp_path, make_optimizer=made, warm=(bad, good))
    warm = [r for r in rows(tmp_path) if r["row"] == "evaluation" and r["phase"] == "warm"]
    assert [r["genome"] for r in warm] == [[0.9, 0.1, 0.9, 0.9], CENTRE.tolist()]
    assert seen[0][0].tolist() == CENTRE.tolist() and len(seen[0]) == 5
    selection = next(r for r in rows(tmp_path) if r["row"] == "stop" and r["phase"] == "selection")
    assert "warm:1" in [f["id"] for f in selection["finalists"]], "the best of them is a finalist"


def failing_first(n):
    return SphereEvaluator(lambda work: "nan" if work.phase == "search" and work.id < n else None)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: Ga(p, 1, population=6, steady=True),
        lambda p: MixedGa(p, 1, population=6, steady=True),
        lambda p: CmaEs(p, 1, population=3),
        lambda p: M2n2(p, 1, lag=2),
        lambda p: CoarseToFine(p, 1, line=0, population=3),
    ],
    ids=["ga", "mixed_ga", "cma_es", "m2n2", "coarse_to_fine"],
)
def test_failures_before_anything_was_scored_are_told_as_finite_numbers(tmp_path, make):
    off = SphereSpace()
    off.variables = tuple(replace(v, default=0.4) for v in off.variables)  # no reference, so none is answered from file
    run(tmp_path, evaluator=failing_first(3), make_optimizer=lambda starts: make(problem(off)))
    values = told_values(tmp_path)
    assert len(values) == 24 and np.isfinite(values).all()
    errors = [r["error"] for row in searched(tmp_path, "commit") for r in row["results"]]
    assert errors == ["nan"] * 3 + [None] * 21


@pytest.mark.parametrize("regime", REGIMES)
def test_a_smaller_budget_reads_what_is_on_file_and_a_larger_one_goes_on(tmp_path, undisturbed, regime):
    folder = shutil.copytree(undisturbed[regime], tmp_path / "run")
    paid = canonical(folder, "search", ("evaluation", "commit"))
    run(folder, **{**changes(regime), "budget": Budget(evaluations=21)})
    assert stop_of(folder)["evaluations"] == 21
    run(folder, **changes(regime))
    assert canonical(folder, "search", ("evaluation", "commit")) == paid


@pytest.mark.parametrize("items", [400, 420, 500])
def test_members_that_are_scored_again_count_in_a_budget_of_items(tmp_path, items):
    run(tmp_path, **{**changes("living"), "budget": Budget(items=items)})
    stop = stop_of(tmp_path)
    assert stop["reason"] == "items" and stop["items"] <= items


class Clock:
    """Time that passes with every item that is answered, and with what the optimizer is told."""

    def __init__(self, monkeypatch, each=1.0):
        self.now, self._each = 0.0, each
        monkeypatch.setattr("evomerge.budget.time.monotonic", lambda: self.now)

    def evaluator(self):
        clock = self

        class Slow(SphereEvaluator):
            def open(self):
                bench = super().open()
                plain = bench.evaluate

                def evaluate(work, **how):
                    clock.now += clock._each
                    yield from plain(work, **how)

                bench.evaluate = evaluate
                return bench

        return Slow()


def test_time_that_ran_out_stays_out_though_the_end_took_no_time_on_file(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)

    def watch(step, /, **facts):
        clock.now += 3.0 * (step == "told")

    given = {"evaluator": clock.evaluator(), "budget": Budget(seconds=14.0), "make_control": None}
    run(tmp_path, watch=watch, **given)
    before = (tmp_path / "journal.jsonl").read_bytes()
    assert stop_of(tmp_path)["reason"] == "seconds"
    clock.now = 0.0
    run(tmp_path, **given)
    assert (tmp_path / "journal.jsonl").read_bytes() == before
    run(tmp_path, **{**given, "budget": Budget(seconds=1000.0, evaluations=40)})
    assert stop_of(tmp_path)["evaluations"] == 40, "more time goes on"


def test_a_batch_that_was_begun_in_time_is_finished_after_a_kill(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    given = {"evaluator": clock.evaluator(), "budget": Budget(seconds=10.0), "make_control": None}

    class Stop(Exception):
        pass

    def watch(step, /, **facts):
        if step == "evaluated" and facts["id"] == 14:
            raise Stop

    with pytest.raises(Stop):
        run(tmp_path, watch=watch, **given)
    run(tmp_path, **given)
    assert (stop_of(tmp_path)["reason"], stop_of(tmp_path)["evaluations"]) == ("seconds", 16)


def test_time_of_other_phases_is_no_search_time(tmp_path, monkeypatch):
    clock = Clock(monkeypatch, each=100.0)
    warm = tuple(recipe((x, 0.2, 0.3, 0.4)) for x in (0.1, 0.2, 0.3, 0.4))
    given = {"evaluator": clock.evaluator(), "warm": warm, "make_control": None}

    class Stop(Exception):
        pass

    def watch(step, /, **facts):
        if step == "committed":
            raise Stop

    with pytest.raises(Stop):
        run(tmp_path, watch=watch, **given)  # the warm starts took 400 seconds
    clock._each = 1.0
    run(tmp_path, **{**given, "budget": Budget(evaluations=24, seconds=300.0)})
    assert (stop_of(tmp_path)["reason"], stop_of(tmp_path)["evaluations"]) == ("evaluations", 24)


@pytest.mark.parametrize("phase", ["control", "warm"])
def test_a_search_does_without_helps_that_cannot_be_scored_and_says_so(tmp_path, phase):
    warm = tuple(recipe((x, 0.2, 0.3, 0.4)) for x in (0.1, 0.2, 0.3, 0.4))
    fails = SphereEvaluator(lambda work: "nan" if work.phase == phase else None)
    winner = run(tmp_path, evaluator=fails, warm=warm)
    assert winner.startswith(("search", "mean"))
    assert any("could be scored (nan)" in e.get("text", "") for e in events(tmp_path))


def test_a_space_without_new_recipes_ends_a_search_that_nothing_else_would_end(tmp_path):
    given = {"space": SphereSpace(digits=0), "budget": Budget(items=10**6), "make_control": None}
    run(tmp_path, **given, make_optimizer=lambda starts: Uniform(problem(SphereSpace()), 1))
    stop = stop_of(tmp_path)
    assert stop["reason"] == "exhausted" and 200 < stop["evaluations"] < 500
    assert len({r["recipe"] for r in searched(tmp_path)}) == 2 ** len(CENTRE)
