"""The loop on a numpy sphere: resume, extension, failures, budgets."""

from __future__ import annotations

import random

import numpy as np
import pytest

from evomerge.budget import Budget
from evomerge.errors import ConfigError, JournalError, SearchFailed
from evomerge.journal import Journal, events, rows
from evomerge.optimizers.uniform import Uniform
from tests.sphere import (
    CENTRE,
    Shuffled,
    SphereEvaluator,
    SphereSpace,
    canonical,
    plan,
    problem,
    recipe,
    run,
    run_and_die,
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return folder


def count_steps(folder):
    steps = []
    run(folder, watch=lambda step, /, **facts: steps.append(step))
    return steps


def test_search_finds_the_centre_of_the_sphere(tmp_path):
    run(tmp_path, budget=Budget(evaluations=400))
    stop = next(r for r in rows(tmp_path) if r["row"] == "stop" and r["phase"] == "selection")
    winner = next(f for f in stop["finalists"] if f["id"] == stop["winner"])
    found = winner["recipe"]["slots"][0]["blends"][0]["knobs"]["weight"]
    assert np.abs(np.array(found) - CENTRE).max() < 1e-3


def test_same_seed_writes_the_same_journal_whatever_the_global_random_state(tmp_path, undisturbed):
    np.random.seed(99)
    run(tmp_path)
    assert (tmp_path / "journal.jsonl").read_bytes() == (undisturbed / "journal.jsonl").read_bytes()


def test_another_seed_searches_elsewhere(tmp_path, undisturbed):
    run(tmp_path, seed=2)
    assert canonical(tmp_path, "search") != canonical(undisturbed, "search")


def test_a_finished_run_run_again_writes_nothing(undisturbed):
    before = (undisturbed / "journal.jsonl").read_bytes()
    run(undisturbed)
    assert (undisturbed / "journal.jsonl").read_bytes() == before


def test_killed_every_few_steps_it_still_ends_with_the_same_journal(tmp_path, undisturbed):
    lives = 0
    while not run_and_die(tmp_path, step=5 + 7 * lives):  # a replay takes steps too: let each life live longer
        lives += 1
        assert lives < 200
    assert lives > 5
    assert canonical(tmp_path) == canonical(undisturbed)


@pytest.mark.parametrize("offset", range(6))
def test_killed_at_sampled_steps_it_resumes_to_the_same_journal(tmp_path, undisturbed, offset):
    steps = len(count_steps(tmp_path / "count"))
    for step in range(offset, steps, 30):
        folder = tmp_path / str(step)
        assert not run_and_die(folder, step)
        run(folder)
        assert canonical(folder) == canonical(undisturbed), f"killed at step {step}"


@pytest.mark.slow
def test_killed_at_every_single_step_it_resumes_to_the_same_journal(tmp_path, undisturbed):
    steps = count_steps(tmp_path / "count")
    assert {"write", "written", "synced", "asked", "evaluated", "committed", "told"} <= set(steps)
    for step in range(len(steps)):
        folder = tmp_path / str(step)
        assert not run_and_die(folder, step)
        run(folder)
        assert canonical(folder) == canonical(undisturbed), f"killed at step {step} ({steps[step]})"


def test_a_torn_last_line_is_cut_off_and_paid_again(tmp_path, undisturbed):
    whole = (undisturbed / "journal.jsonl").read_bytes()
    for keep in random.Random(0).sample(range(1000, len(whole)), 6):
        folder = tmp_path / str(keep)
        folder.mkdir()
        (folder / "journal.jsonl").write_bytes(whole[:keep])
        run(folder)
        assert canonical(folder) == canonical(undisturbed)


def test_results_in_any_order_give_the_same_journal(tmp_path, undisturbed):
    run(tmp_path, executor=Shuffled())
    assert canonical(tmp_path) == canonical(undisturbed)


@pytest.mark.parametrize("first", [1, 7, 8, 24])
def test_an_extended_run_has_the_search_rows_of_the_longer_run(tmp_path, first):
    run(tmp_path / "long", budget=Budget(evaluations=40))
    run(tmp_path / "short", budget=Budget(evaluations=first))
    run(tmp_path / "short", budget=Budget(evaluations=40))
    paid = ("evaluation", "commit")
    assert canonical(tmp_path / "short", "search", paid) == canonical(tmp_path / "long", "search", paid)
    assert len(canonical(tmp_path / "short", "search", ("evaluation",))) == 40


def test_the_budget_is_never_overshot(tmp_path):
    run(tmp_path / "evaluations", budget=Budget(evaluations=13))
    run(tmp_path / "items", budget=Budget(items=100))
    assert len(canonical(tmp_path / "evaluations", "search", ("evaluation",))) == 13
    assert len(canonical(tmp_path / "items", "search", ("evaluation",))) == 100 // 12
    stop = next(r for r in rows(tmp_path / "items") if r["row"] == "stop" and r["phase"] == "search")
    assert (stop["reason"], stop["items"]) == ("items", 96)


def test_a_seconds_budget_counts_the_seconds_of_earlier_processes(tmp_path):
    run(tmp_path, budget=Budget(seconds=0.3))
    before = (tmp_path / "journal.jsonl").read_bytes()
    assert canonical(tmp_path, "search", ("commit",))
    run(tmp_path, budget=Budget(seconds=0.3))
    assert (tmp_path / "journal.jsonl").read_bytes() == before, "what was paid for is replayed, whatever the time"


def test_equal_recipes_are_scored_once(tmp_path):
    run(tmp_path, space=SphereSpace(digits=1), budget=Budget(evaluations=60))
    found = [r for r in rows(tmp_path) if r["row"] == "evaluation" and r["phase"] == "search"]
    aliases = [r for r in found if r["alias_of"]]
    assert aliases and len(found) == 60
    assert len({r["recipe"] for r in found if not r["alias_of"]}) == len(found) - len(aliases)
    resumed = canonical(tmp_path)
    run(tmp_path, space=SphereSpace(digits=1), budget=Budget(evaluations=60))
    assert canonical(tmp_path) == resumed


def test_a_failed_candidate_is_told_as_worse_than_the_worst(tmp_path):
    run(tmp_path, evaluator=SphereEvaluator(lambda w: "nan" if w.phase == "search" and w.id == 3 else None))
    first = next(r for r in rows(tmp_path) if r["row"] == "commit" and r["phase"] == "search")
    told = {r["id"]: r["fitness"][0] for r in first["results"]}
    assert told[3] < min(value for ident, value in told.items() if ident != 3)
    assert first["results"][3]["error"] == "nan"


def test_a_batch_that_fails_whole_stops_the_search_and_stays_stopped(tmp_path):
    broken = SphereEvaluator(lambda w: "nan" if w.phase == "search" else None)
    for _ in range(2):
        with pytest.raises(SearchFailed, match=r"8 of 8 candidates failed in phase search \(nan\)"):
            run(tmp_path, evaluator=broken)
    stop = rows(tmp_path)[-1]
    assert (stop["row"], stop["reason"]) == ("stop", "failures")


def test_a_failing_reference_stops_before_the_search(tmp_path):
    with pytest.raises(SearchFailed, match="reference 'base' cannot be scored"):
        run(tmp_path, evaluator=SphereEvaluator(lambda w: "nan" if w.id == "base" else None))
    assert not canonical(tmp_path, "search", ("evaluation",))


def test_another_identity_is_refused_with_the_difference(tmp_path):
    run(tmp_path)
    journal = Journal(tmp_path)
    with pytest.raises(JournalError, match="seed was 1, now 2"):
        journal.begin({"seed": 2}, {})
    journal.close()


def test_a_replay_that_asks_another_genome_is_refused(tmp_path):
    run(tmp_path)
    space = SphereSpace()
    with pytest.raises(JournalError, match="asked another genome"):
        run(tmp_path, make_optimizer=lambda starts: Uniform(problem(space), 5))


def test_attempts_are_on_file_before_they_are_made(tmp_path):
    run(tmp_path)
    kinds = [e["event"] for e in events(tmp_path) if e.get("phase") == "search"]
    assert kinds[:3] == ["attempt", "done", "evaluated"]


def test_a_retry_halves_the_batch_for_that_attempt_only(tmp_path):
    class Tight(SphereEvaluator):
        def open(self):
            bench = super().open()
            evaluate = bench.evaluate

            def once(work, *, shrink, record):
                if work.id == 2 and shrink == 1:
                    raise MemoryError("full")
                return evaluate(work, shrink=shrink, record=record)

            bench.evaluate = once
            return bench

    run(tmp_path, evaluator=Tight())
    sizes = {r["id"]: r["batch_size"] for r in rows(tmp_path) if r["row"] == "evaluation" and r["phase"] == "search"}
    assert (sizes[1], sizes[2], sizes[3]) == (8, 4, 8)


def test_references_are_finalists_and_duplicates_are_not(tmp_path):
    run(tmp_path)
    stop = next(r for r in rows(tmp_path) if r["row"] == "stop" and r["phase"] == "selection")
    digests = [f["digest"] for f in stop["finalists"]]
    assert {"base", "parent:a", "average"} <= {f["id"] for f in stop["finalists"]}
    assert len(set(digests)) == len(digests)
    assert recipe((0.0,) * 4).digest in digests


def test_the_start_is_the_best_reference(tmp_path):
    seen = []
    made = plan()
    run(tmp_path, make_optimizer=lambda starts: seen.append(starts) or made.make_optimizer(starts))
    assert seen[0][0].tolist() == [0.5] * 4


@pytest.mark.parametrize("bad", [{}, {"evaluations": 0}, {"items": -5}, {"seconds": 0.0}])
def test_a_budget_without_a_positive_limit_is_refused(bad):
    with pytest.raises(ConfigError, match="budget"):
        Budget(**bad)
