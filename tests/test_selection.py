"""What is believed of finalists: hand-computed posteriors, paired noise, calibrated intervals."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.constraints import read
from evomerge.estimators.mean import task_mean
from evomerge.objectives.pareto import Pareto
from evomerge.objectives.weighted_mean import WeightedMean
from evomerge.plan import Goals, Scale
from evomerge.selection import apart, goal_noise, mean_covariance, paired_gains, posterior, shrunk
from evomerge.types import Evaluation, ItemScores, Metric
from tests.sphere import plan

UP, PAIRS = Metric("acc", True), Metric("word_perplexity", True, "pairs")


def scores(values, items=None):
    values = np.asarray(values, dtype=float)
    return ItemScores("t", tuple(items or map(str, range(len(values)))), values)


def test_two_finalists_by_hand():
    # For a prior of variance s and equal noise v, the mean of both is m = 1/2 and each is drawn to it by s / (s + v).
    # Only their difference tells of s: it is normal with variance 2 (s + v). Flat in the deviation, summed coarsely:
    deviations, v = np.linspace(0, 2, 200), 1 / 8
    total = deviations**2 + v
    weight = np.exp(-1 / (4 * total)) / np.sqrt(total)
    drawn = float((weight * deviations**2 / total).sum() / weight.sum())
    means, _ = shrunk(np.array([0.0, 1.0]), np.eye(2) * v)
    assert means == pytest.approx([0.5 - drawn / 2, 0.5 + drawn / 2], abs=1e-6)
    assert 0.5 < drawn < 0.95


def test_a_noisy_score_is_drawn_further_to_the_mean_than_a_sharp_one():
    means, _ = shrunk(np.array([1.0, 1.05, 0.0]), np.diag([1e-4, 0.25, 1e-4]))
    assert means[0] > means[1]


def test_differences_within_the_noise_nearly_vanish():
    means, stderrs = shrunk(np.array([0.50, 0.51, 0.49]), np.eye(3) * 0.01)
    assert np.ptp(means) < 0.01 and (stderrs > 0.02).all()


def test_noise_that_all_share_does_not_shrink_their_order():
    raw, own = np.array([0.50, 0.53, 0.56]), 1e-5 * np.eye(3)
    shared, _ = shrunk(raw, own + 0.01)  # hard items for everybody
    independent, _ = shrunk(raw, own + 0.01 * np.eye(3))
    assert np.ptp(shared) > 0.8 * np.ptp(raw)
    assert np.ptp(independent) < 0.5 * np.ptp(raw)


def test_equal_finalists_are_believed_equal():
    means, stderrs = shrunk(np.array([0.4, 0.4]), np.full((2, 2), 0.01))
    assert means == pytest.approx([0.4, 0.4]) and np.isfinite(stderrs).all()


def test_one_finalist_is_as_measured():
    means, stderrs = shrunk(np.array([0.4]), np.array([[0.04]]))
    assert (means[0], stderrs[0]) == (0.4, pytest.approx(0.2))


def test_the_winner_of_a_posterior_is_worth_what_is_believed():
    rng = np.random.default_rng(5)
    off, raw_off, covered = [], [], []
    for _ in range(400):
        truth = rng.normal(0.5, 0.03, 8)
        noise = np.diag(rng.uniform(0.02, 0.06, 8) ** 2)
        raw = truth + rng.multivariate_normal(np.zeros(8), noise)
        means, stderrs = shrunk(raw, noise)
        best = int(np.argmax(means))
        off.append(means[best] - truth[best])
        raw_off.append(raw.max() - truth[np.argmax(raw)])
        covered.append(abs(off[-1]) < 1.96 * stderrs[best])
    assert np.mean(raw_off) > 0.03
    assert abs(np.mean(off)) < np.mean(raw_off) / 3
    assert np.mean(covered) > 0.92


@pytest.mark.parametrize("metric", [UP, PAIRS])
def test_the_diagonal_of_the_noise_is_the_standard_error_of_the_mean(metric):
    rng = np.random.default_rng(1)
    values = rng.random((3, 40, 2)) + 0.1 if metric is PAIRS else rng.random((3, 40))
    made = [scores(v) for v in values]
    found = mean_covariance(made, metric)
    assert np.sqrt(np.diag(found)) == pytest.approx([task_mean(s, metric).stderr for s in made])
    assert np.linalg.eigvalsh(found).min() > -1e-12


def test_the_noise_is_paired_by_item_whatever_the_order():
    rng = np.random.default_rng(2)
    values, turned = rng.random(30), rng.permutation(30)
    names = [f"i{k}" for k in range(30)]
    found = mean_covariance([scores(values, names), scores(values[turned], [names[k] for k in turned])], UP)
    assert found[0, 1] == pytest.approx(found[0, 0])


def test_all_right_has_the_noise_of_jeffreys_and_no_correlation():
    found = mean_covariance([scores([1.0] * 20), scores([1.0, 0.0] * 10)], UP)
    assert found[0, 0] == pytest.approx(task_mean(scores([1.0] * 20), UP).stderr ** 2) and found[0, 1] == 0.0


def evaluation(name, *values):
    return Evaluation(
        name, "selection", name, {}, tuple(ItemScores(t, tuple("abcdef"), np.array(v)) for t, v in values)
    )


def test_a_feasible_finalist_stands_above_a_better_one_that_breaks_a_constraint():
    made = plan()
    limits = read({"beta": {"min": 0.5}}, made.metrics, made.references)
    made = plan(goals=Goals(made.goals.objective, (0,), limits))
    step = np.linspace(-0.01, 0.01, 6)
    found = [
        evaluation("base", ("alpha", 0.2 + step), ("beta", 0.6 + step)),
        evaluation("good", ("alpha", 0.5 + step), ("beta", 0.6 + step)),
        evaluation("broken", ("alpha", 0.9 + step), ("beta", 0.1 + step)),
    ]
    tasks = {e.id: tuple(task_mean(s, UP) for s in e.scores) for e in found}
    beliefs = posterior(found, made, Scale({"base": tasks["base"], "parent:a": tasks["good"]}))
    assert sorted(range(3), key=lambda i: beliefs[i].rank) == [2, 0, 1]
    assert beliefs[2].goals[0].value > beliefs[1].goals[0].value


# ---------------------------------------------------------------- several goals


@pytest.fixture
def noisy():
    """Five finalists with random answers to both tasks, and the references among them."""
    rng = np.random.default_rng(3)
    names = ("base", "parent:a", "x", "y", "z")
    found = [evaluation(name, ("alpha", rng.random(6)), ("beta", rng.random(6))) for name in names]
    tasks = {e.id: tuple(task_mean(s, UP) for s in e.scores) for e in found}
    return found, Scale({name: tasks[name] for name in ("base", "parent:a")})


def test_each_goal_is_believed_as_if_it_were_the_only_one(noisy):
    found, scale = noisy
    both = posterior(found, plan(goals=Goals(Pareto())), scale)
    for place in (0, 1):
        alone = posterior(found, plan(goals=Goals(Pareto(), on=(place,))), scale)
        assert [b.goals[place] for b in both] == [b.goals[0] for b in alone]
        assert [b.raw[place] for b in both] == [b.raw[0] for b in alone]


def test_the_noise_of_a_weighted_mean_is_the_weighted_noise_of_its_tasks(noisy):
    found, scale = noisy
    alpha, beta = (mean_covariance([e.scores[t] for e in found], UP) for t in (0, 1))
    noise = goal_noise(found, plan(goals=Goals(WeightedMean([3, 1]))), scale)
    assert noise.shape == (1, 5, 5)
    assert noise[0] == pytest.approx(0.75**2 * alpha + 0.25**2 * beta, abs=1e-9)


def test_gains_have_the_error_of_paired_items():
    rng = np.random.default_rng(4)
    hard = rng.normal(0, 1, 6)  # items that are hard for all
    found = [evaluation(n, ("alpha", hard + up), ("beta", rng.random(6))) for n, up in (("base", 0.0), ("x", 0.3))]
    tasks = tuple(task_mean(s, UP) for s in found[0].scores)
    made = plan(goals=Goals(Pareto(min_gap=1.0)))
    gains = paired_gains(found, 1, made, Scale({"base": tasks, "parent:a": tasks}))
    assert gains[0][0].value == pytest.approx(0.3) and gains[0][0].stderr == pytest.approx(0.0, abs=1e-6)
    apart = [found[i].scores[1].values for i in (1, 0)]
    assert gains[0][1].value == pytest.approx(float(np.mean(apart[0] - apart[1])))
    assert gains[0][1].stderr == pytest.approx(np.std(apart[0] - apart[1], ddof=1) / np.sqrt(6))
    assert [(g.value, g.stderr) for g in gains[1]] == [(0.0, 0.0), (0.0, 0.0)]


def test_finalists_with_equal_answers_do_not_make_all_the_others_equal():
    """Two that answered alike must not pass for proof that nobody differs: their noise is small, not nothing."""
    rng = np.random.default_rng(3)
    ease = rng.random(80)
    answers = [(ease < p).astype(float) for p in (0.75, 0.8, 0.8, 0.9)]
    answers[1] = answers[2]
    for row in (answers[0], answers[3]):
        flipped = rng.choice(80, 12, replace=False)
        row[flipped] = 1 - row[flipped]
    items = tuple(map(str, range(80)))
    scores = [ItemScores("t", items, row) for row in answers]
    raw = np.array([row.mean() for row in answers])
    means, _ = shrunk(raw, apart(mean_covariance(scores, Metric("acc", True)), 80))
    assert np.ptp(means) > 0.3 * np.ptp(raw)
