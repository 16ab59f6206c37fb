"""MERIT: exact where all is known, close and honest in simulated worlds, unmoved by order and by collapsed merges."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from evomerge.errors import ConfigError
from evomerge.estimators.mean import Mean, weighted_mean
from evomerge.estimators.merit import Merit, differ
from evomerge.estimators.merit_fit import Answers
from evomerge.items import Observed
from evomerge.subsets.neyman import Neyman
from evomerge.types import Metric
from tests.estimators.irt_world import bank_of
from tests.estimators.irt_world import world as world_of_abilities
from tests.estimators.merge_world import Merges, errors_of, merges, values_of


def off(world, found):
    """float64 (M,): absolute error of the mean over tasks."""
    return np.abs(values_of(found).mean(1) - world.truth().mean(1))


def test_all_items_answered_is_the_exact_score_whatever_their_order_and_weights():
    world = merges(0, candidates=5, items=60, tasks=2)
    index = np.random.default_rng(1).permutation(60)
    found = Merit().fit(world.bank).estimate([world.saw(m, index, np.arange(1.0, 61)) for m in range(5)])
    np.testing.assert_allclose(values_of(found), world.truth(), atol=1e-12)
    assert errors_of(found).max() == 0 and {e.fallback for each in found for e in each} == {None}


@pytest.mark.parametrize("n", [1, 20, 59])
@pytest.mark.parametrize("bit", [0.0, 1.0])
def test_all_right_or_all_wrong_is_finite_and_uncertain(bit, n):
    world = merges(0, candidates=3, items=60)
    alike = [Observed(m, np.arange(n), np.full(n, bit), np.ones(n)) for m in range(3)]
    for (found,) in Merit().fit(world.bank).estimate(alike):
        assert 0 < found.value < 1 and 0 < found.stderr < 1


@pytest.mark.parametrize("own_items", [True, False])
def test_in_a_logistic_world_errors_are_below_those_of_the_mean_and_intervals_hold(own_items):
    errors, plain, covered = [], [], []
    for seed in range(4):
        world = merges(seed)
        sampler = Neyman(n=60).fit(world.bank, seed)
        draws = [sampler.draw(m if own_items else 0) for m in range(40)]
        seen = [world.saw(m, draw.index, draw.weights) for m, draw in enumerate(draws)]
        random = [world.common(60, 1000 * seed + (m if own_items else 0), [m])[0] for m in range(40)]
        found = Merit().fit(world.bank).estimate(seen)
        errors.append(off(world, found))
        plain.append(off(world, Mean().fit(world.bank).estimate(random)))
        covered.append(off(world, found) < 1.96 * errors_of(found)[:, 0])
    assert np.mean(errors) < 0.8 * np.mean(plain)
    assert np.mean(covered) >= 0.88


def test_intervals_of_the_mean_over_three_tasks_hold_as_if_tasks_were_independent():
    covered = []
    for seed in range(4):
        world = merges(seed, tasks=3)
        found = (
            Merit()
            .fit(world.bank)
            .estimate(
                [world.common(60, 100 * seed + m, [m])[0] for m in range(40)]  # own items: no error is shared
            )
        )
        covered.append(off(world, found) < 1.96 * np.sqrt((errors_of(found) ** 2).sum(1)) / 3)
    assert 0.88 <= np.mean(covered) <= 0.995


def test_the_order_of_candidates_changes_no_bit_and_that_of_items_next_to_nothing():
    world = merges(0, candidates=12, tasks=3)
    seen, fitted = world.common(60, 0), Merit().fit(world.bank)
    found = fitted.estimate(seen)
    assert fitted.estimate(seen[::-1])[::-1] == found
    turned = [replace(o, index=o.index[::-1], values=o.values[::-1], weights=o.weights[::-1]) for o in seen]
    np.testing.assert_allclose(values_of(fitted.estimate(turned)), values_of(found), atol=1e-9)


def test_the_same_candidates_give_the_same_estimates_however_they_came_in_batches():
    world = merges(0, candidates=12)
    seen, fitted = world.common(60, 0), Merit().fit(world.bank)
    whole = fitted.estimate(seen)
    assert fitted.estimate(seen[8:], seen[:8]) == whole[8:]
    assert fitted.estimate(seen[8:], [*seen[3:8], *seen[:3], *seen[8:]]) == whole[8:]  # itself is not counted twice


def test_a_missing_answer_is_no_answer():
    world = merges(0, candidates=6)
    seen, fitted = world.common(40, 0), Merit().fit(world.bank)
    holes = [
        Observed(
            o.id, np.append(o.index, 999 - o.index[0]), np.append(o.values, np.nan), np.append(o.weights, o.weights[0])
        )
        for o in seen
    ]
    assert fitted.estimate(holes) == fitted.estimate(seen)


def test_what_earlier_candidates_showed_makes_the_next_one_better():
    alone, after = [], []
    for seed in range(6):
        world = merges(seed, candidates=60)
        fitted, seen = Merit().fit(world.bank), [world.common(25, 100 * seed + m, [m])[0] for m in range(60)]
        truth = world.truth()[50:]
        alone.append(np.abs(values_of([fitted.estimate([o])[0] for o in seen[50:]]) - truth))
        after.append(np.abs(values_of([fitted.estimate([o], seen[:50])[0] for o in seen[50:]]) - truth))
    assert np.mean(after) < 0.9 * np.mean(alone)


def test_only_the_newest_earlier_candidates_count():
    world = merges(0, candidates=20)
    seen, fitted = world.common(30, 0), Merit(window=5).fit(world.bank)
    assert fitted.estimate(seen[15:], seen[:15]) == fitted.estimate(seen[15:], seen[10:15])
    assert fitted.estimate(seen[15:], seen[:15]) != fitted.estimate(seen[15:], seen[9:14])
    nobody = Merit(window=0).fit(world.bank)
    assert nobody.estimate(seen[15:], seen[:15]) == nobody.estimate(seen[15:])


def test_merges_made_before_the_search_make_the_first_candidates_better():
    without, with_designs = [], []
    for seed in range(4):
        world = merges(seed, candidates=30)
        seen, truth = world.common(30, seed, range(3)), world.truth()[:3]
        known = replace(world.bank, designs=world.answers[10:])
        without.append(np.abs(values_of(Merit().fit(world.bank).estimate(seen)) - truth))
        with_designs.append(np.abs(values_of(Merit().fit(known).estimate(seen)) - truth))
    assert np.mean(with_designs) < 0.8 * np.mean(without)


def test_one_candidate_alone_is_estimated_under_a_weak_prior():
    world = merges(0)
    ((found,),) = Merit().fit(world.bank).estimate(world.common(100, 0, [0]))
    assert abs(found.value - world.truth()[0, 0]) < 3 * found.stderr < 0.3


def test_a_candidate_without_answers_is_expected_to_be_like_the_others():
    world = merges(0)
    nothing = Observed("new", np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))
    *_, (found,) = Merit().fit(world.bank).estimate([*world.common(60, 0), nothing])
    assert (found.n_items, found.fallback) == (0, "no-items")
    assert abs(found.value - world.truth().mean()) < 0.05
    assert world.truth().std() / 2 < found.stderr < 4 * world.truth().std()


def test_nobody_with_answers_is_the_endpoints_word():
    bank = bank_of([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]])
    nothing = Observed(0, np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))
    ((found,),) = Merit().fit(bank).estimate([nothing])
    assert (found.value, found.fallback) == (0.5, "no-items")
    assert found.stderr == pytest.approx(np.std([0.25, 0.75], ddof=1))


def test_a_task_without_answers_is_predicted_from_the_others():
    world = merges(0, tasks=2)
    index = world.bank.places(0)[::5]
    found = Merit().fit(world.bank).estimate([world.saw(m, index) for m in range(40)])
    assert {each[1].fallback for each in found} == {"no-items"} and {each[0].fallback for each in found} == {None}
    assert np.abs(values_of(found) - world.truth())[:, 1].mean() < 0.06


# ---------------------------------------------------------------- odd banks


@pytest.mark.parametrize(
    "endpoints",
    [np.ones((3, 40)), np.tile([1.0, 0.0], (3, 20)), np.tile([1.0, 0.0], (1, 20)), np.zeros((0, 40))],
    ids=["all-right", "equal", "one", "none"],
)
def test_endpoints_that_tell_little_do_no_harm(endpoints):
    bank, rng = bank_of(endpoints), np.random.default_rng(0)
    seen = [Observed(m, np.arange(30), (rng.random(30) < 0.7).astype(float), np.ones(30)) for m in range(8)]
    found = values_of(Merit().fit(bank).estimate(seen))
    assert np.isfinite(found).all() and abs(found.mean() - 0.7) < 0.1


def test_endpoints_with_missing_answers_still_help():
    world = merges(0)
    holes = np.where(np.random.default_rng(2).random(world.bank.endpoints.shape) < 0.2, np.nan, world.bank.endpoints)
    found = Merit().fit(replace(world.bank, endpoints=holes)).estimate(world.common(60, 0))
    assert off(world, found).mean() < off(world, Mean().fit(world.bank).estimate(world.common(60, 0))).mean()


def test_fractions_of_little_spread_have_smaller_errors_than_bits():
    world = merges(0)
    rng = np.random.default_rng(0)
    soft = replace(
        world, answers=np.clip(0.25 + 0.5 * world.answers + 0.1 * rng.normal(size=world.answers.shape), 0, 1)
    )
    bits, fractions = (errors_of(Merit().fit(w.bank).estimate(w.common(60, 0))).mean() for w in (world, soft))
    assert fractions < 0.7 * bits


def test_errors_that_are_better_low_are_the_mirror_image():
    world = merges(0, candidates=6)
    low = replace(
        world.bank, metrics=(Metric("error", False),), endpoints=world.bank.endpoints - 1
    )  # 1 - accuracy, negated
    seen = world.common(40, 0)
    negated = [replace(o, values=o.values - 1) for o in seen]
    up, down = Merit().fit(world.bank).estimate(seen), Merit().fit(low).estimate(negated)
    np.testing.assert_allclose(values_of(down), values_of(up) - 1, atol=1e-12)
    np.testing.assert_allclose(errors_of(down), errors_of(up), atol=1e-12)


def test_unbounded_tasks_are_regressed_beside_logistic_ones():
    world = merges(0, tasks=2, candidates=20)
    bank = replace(world.bank, metrics=(Metric("acc", True), Metric("loglik", True, "pairs")))
    found = Merit().fit(bank).estimate(world.common(80, 0))
    assert {each[0].fallback for each in found} == {None} and {each[1].fallback for each in found} == {"greg"}
    assert np.abs(values_of(found) - world.truth()).mean() < 0.06


# ---------------------------------------------------------------- settings


def test_margins_tell_more_than_bits():
    rng = np.random.default_rng(0)
    better = []
    for seed in range(4):
        world = merges(seed)
        strength = np.abs(rng.normal(size=(3, 1000))) * 2
        margins = np.where(world.bank.endpoints > 0, strength, -strength)
        x = np.concatenate([np.ones((1, 1000)), np.tanh(margins / 2)])
        p = 1 / (1 + np.exp(-((np.array([0.3, 1.5, 1.5, 1.5]) + 0.2 * rng.normal(size=(40, 4))) @ x)))
        world = replace(
            world, answers=(rng.random(p.shape) < p).astype(float), bank=replace(world.bank, margins=margins)
        )
        found = [
            off(world, Merit(kind).fit(world.bank).estimate(world.common(60, seed))) for kind in ("bits", "margins")
        ]
        better.append(np.mean(found, axis=1))
    bits, margins = np.mean(better, axis=0)
    assert margins < bits


def test_margins_without_any_are_bits():
    world = merges(0, candidates=6)
    seen = world.common(40, 0)
    margins, bits = (Merit(kind).fit(world.bank).estimate(seen) for kind in ("margins", "bits"))
    assert margins == bits


def test_items_have_effects_of_their_own_only_for_many_candidates_on_different_items():
    own = [Answers(np.arange(m, m + 5), np.ones(5), np.ones(5)) for m in range(40)]
    assert differ(own)
    assert not differ(own[:39])
    assert not differ([own[0]] * 21 + own[:19])


def test_a_leaderboard_makes_estimates_better_where_items_differ_beyond_what_parents_tell():
    without, with_others = [], []
    for seed in range(2):
        answers = world_of_abilities(seed, models=93, items=400).answers
        bank = bank_of(answers[:3])
        known = Merges(replace(bank, leaderboard=answers[33:]), answers[3:33])
        seen = known.common(25, seed)
        for errors, each in ((without, bank), (with_others, known.bank)):
            errors.append(off(known, Merit().fit(each).estimate(seen)).mean())
    assert np.mean(with_others) < 0.97 * np.mean(without)


@pytest.mark.parametrize("settings", [{"covariates": "logits"}, {"window": -1}])
def test_settings_that_mean_nothing_are_refused_by_name(settings):
    with pytest.raises(ConfigError, match=f"estimator.{next(iter(settings))} is"):
        Merit(**settings)


def test_a_batch_is_estimated_in_a_moment():
    world = merges(0, candidates=200)
    fitted, seen = Merit().fit(world.bank), world.common(60, 0)
    start = time.process_time()
    fitted.estimate(seen)
    assert time.process_time() - start < 3  # 0.3 s on one quiet core


# ---------------------------------------------------------------- collapsed merges


def test_collapsed_merges_are_given_their_weighted_mean_and_leave_the_others_alone():
    world = merges(0, candidates=24, collapsed=2)
    seen, fitted = world.common(60, 0), Merit().fit(world.bank)
    found, healthy = fitted.estimate(seen), fitted.estimate(seen[:22])
    assert [e.fallback for (e,) in found] == [None] * 22 + ["misfit"] * 2
    assert [e.value for (e,) in found[22:]] == [weighted_mean(o, world.bank, 0).value for o in seen[22:]]
    assert found[:22] == healthy


def test_usual_merges_are_not_taken_for_collapsed_ones():
    flagged = 0
    for seed in range(10):
        world = merges(seed)
        found = Merit().fit(world.bank).estimate(world.common(100, seed))
        flagged += sum(e.fallback == "misfit" for (e,) in found)
    assert flagged <= 1  # of 400
