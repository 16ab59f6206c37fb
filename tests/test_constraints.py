"""Constraints: by hand values in every unit, by probability, by the integral the shortfall stands for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import norm

from evomerge.constraints import Constraint, oriented, read, shown, violation
from evomerge.errors import ConfigError
from evomerge.plan import Scale
from evomerge.types import Estimate, Metric

ACC, TOKENS = Metric("acc", True), Metric("tokens", False)
BITS, WORDS, NATS = (Metric(n, False, "pairs") for n in ("bits_per_byte", "word_perplexity", "my_loglik"))
METRICS = {"acc": ACC, "tokens": TOKENS, "bits": BITS, "words": WORDS, "nats": NATS}
LN2 = math.log(2)
#: base, a, b, average: acc, tokens, bits per byte (in nats), log word perplexity, nats
ROWS = {
    "base": (0.2, -300.0, -2.0 * LN2, -math.log(50), -1.0),
    "parent:a": (0.6, -500.0, -1.5 * LN2, -math.log(20), -2.0),
    "parent:b": (0.4, -100.0, -1.0 * LN2, -math.log(30), -3.0),
    "average": (0.5, -250.0, -1.2 * LN2, -math.log(25), -1.5),
}
SCALE = Scale({name: tuple(Estimate(v, 0.01, 50) for v in row) for name, row in ROWS.items()})
SPREAD = {"acc": 0.4, "tokens": 400.0, "bits": LN2, "words": math.log(2.5), "nats": 2.0}


def broken(task, value, stderr=0.0, **node):
    """The violation of one constraint by a candidate with this oriented score, in the task's own spread."""
    found = read({task: node}, METRICS, SCALE.references)
    place = list(METRICS).index(task)
    tasks = [Estimate(0.0, 0.0, 10)] * len(METRICS)
    tasks[place] = Estimate(value, stderr, 10)
    return violation(tasks, SCALE, found) * SPREAD[task]


@pytest.mark.parametrize(
    ("task", "node", "value", "short"),
    [
        ("acc", {"min": 0.5}, 0.45, 0.05),
        ("acc", {"min": 0.5}, 0.5, 0.0),
        ("acc", {"max": 0.5}, 0.45, 0.0),
        ("acc", {"max": 0.5}, 0.75, 0.25),
        ("acc", {"min": 0.5, "max": 0.6}, 0.7, 0.1),
        ("acc", {"min": -0.02, "of": "best_parent"}, 0.57, 0.01),
        ("acc", {"min": -0.02, "of": "best_parent"}, 0.58, 0.0),
        ("acc", {"min": 0.0, "of": "b"}, 0.35, 0.05),
        ("acc", {"min": 0.1, "of": "base"}, 0.25, 0.05),
        ("acc", {"min": 0.0, "of": "average"}, 0.4, 0.1),
        ("tokens", {"max": 200}, -250.0, 50.0),
        ("tokens", {"max": 200}, -200.0, 0.0),
        ("tokens", {"min": 200}, -150.0, 50.0),
        ("tokens", {"max": 20, "of": "best_parent"}, -130.0, 10.0),
        ("tokens", {"max": -100, "of": "base"}, -210.0, 10.0),
        ("bits", {"max": 1.25}, -1.5 * LN2, 0.25 * LN2),
        ("bits", {"max": 0.1, "of": "best_parent"}, -1.05 * LN2, 0.0),
        ("bits", {"max": 0.1, "of": "best_parent"}, -1.3 * LN2, 0.2 * LN2),
        ("words", {"max": 20}, -math.log(25), math.log(25 / 20)),
        ("words", {"max": 5, "of": "a"}, -math.log(25), 0.0),
        ("words", {"max": 5, "of": "a"}, -math.log(30), math.log(30 / 25)),
        ("words", {"min": 20}, -math.log(10), math.log(2)),
        ("nats", {"min": -1.2}, -1.5, 0.3),
        ("nats", {"max": -1.2}, -1.0, 0.2),
    ],
)
def test_bounds_are_in_the_metrics_own_units_and_hand_values_come_out(task, node, value, short):
    assert broken(task, value, **node) == pytest.approx(short, abs=1e-12)


@given(st.sampled_from(list(METRICS.values())), st.floats(-5, 5))
def test_units_are_turned_there_and_back(metric, value):
    assert oriented(metric, shown(metric, value)) == pytest.approx(value, abs=1e-12)


@given(st.floats(-1, 1), st.floats(0.001, 0.5), st.floats(0.05, 0.95))
def test_a_bound_is_kept_from_the_asked_probability_on_and_its_shortfall_is_the_expected_one(value, stderr, sure):
    kept = norm.cdf(value / stderr)  # P(score >= 0)
    assume(abs(kept - sure) > 1e-9)
    found = broken("acc", value, stderr, min=0.0, sure=sure)
    if kept >= sure:
        assert found == 0.0
    else:
        grid = np.linspace(value - 10 * stderr, value + 10 * stderr, 20001)
        expected = np.trapezoid(np.maximum(0, -grid) * norm.pdf(grid, value, stderr), grid)
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-9) and found > 0


def test_half_a_chance_is_enough_by_default_and_a_score_without_error_is_taken_at_its_word():
    assert broken("acc", 0.5, 0.1, min=0.5) == 0.0
    assert broken("acc", 0.4999, 0.1, min=0.5) > 0.03
    assert broken("acc", 0.6, 0.1, min=0.5, sure=0.9) > 0
    for stderr in (0.0, math.inf, math.nan):
        assert broken("acc", 0.4, stderr, min=0.5) == pytest.approx(0.1)
        assert broken("acc", 0.6, stderr, min=0.5, sure=0.99) == 0.0


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 0.5))
def test_a_better_score_is_never_the_larger_violation(one, other, stderr):
    worse, better = sorted((one, other))
    assert broken("acc", better, stderr, min=0.3) <= broken("acc", worse, stderr, min=0.3) + 1e-12


def test_constraints_add_up_in_spreads_of_the_references():
    found = read({"acc": {"min": 0.5}, "tokens": [{"max": 200}, {"max": 50, "of": "base"}]}, METRICS, SCALE.references)
    assert [c.place for c in found] == [0, 1, 1]
    tasks = [Estimate(v, 0.0, 10) for v in (0.4, -450.0, 0.0, 0.0, 0.0)]
    assert violation(tasks, SCALE, found) == pytest.approx(0.1 / 0.4 + 250 / 400 + 100 / 400)
    assert violation(tasks, SCALE, ()) == 0.0


def test_references_that_are_all_alike_leave_the_plain_units():
    alike = Scale({name: (Estimate(0.5, 0.0, 10),) for name in ("parent:a", "average")})
    assert violation([Estimate(0.2, 0.0, 10)], alike, (Constraint("acc", 0, ACC, low=0.5),)) == pytest.approx(0.3)


def test_a_broken_model_of_infinite_perplexity_has_a_finite_violation():
    assert 100 < broken("words", -1e5, max=20) < math.inf
    assert broken("words", -math.log(20), max=-1000, of="a") < math.inf


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"ac": {"min": 0}}, r"unknown task or measure in constraints 'ac'\. Did you mean 'acc'"),
        ({"acc": 0.5}, r"constraints\.acc is 0\.5; wanted bounds such as"),
        ({"acc": {}}, r"constraints\.acc bounds nothing\. Set min, max"),
        ({"acc": {"of": "base"}}, "bounds nothing"),
        ({"acc": {"mini": 0.5}}, r"unknown setting 'constraints\.acc\.mini'\. Did you mean 'constraints\.acc\.min'"),
        ({"acc": {"min": 0.5, "max": 0.4}}, r"min 0\.5 is above max 0\.4"),
        ({"acc": {"min": "high"}}, r"constraints\.acc\.min is 'high'; wanted a finite number"),
        ({"acc": {"min": True}}, "wanted a finite number"),
        ({"acc": {"max": math.nan}}, "wanted a finite number"),
        ({"acc": {"min": 0.5, "sure": 1}}, r"constraints\.acc\.sure is 1\.0; wanted a probability"),
        ({"acc": {"min": 0.5, "sure": None}}, "wanted a probability"),
        (
            {"acc": {"min": 0, "of": "c"}},
            r"unknown reference in constraints\.acc\.of 'c'.*Known: a, average, b, base, best_parent",
        ),
        ({"acc": [{"min": 0.5}, {"of": "base"}]}, "bounds nothing"),
    ],
)
def test_constraints_that_cannot_be_are_refused(given, told):
    with pytest.raises(ConfigError, match=told):
        read(given, METRICS, SCALE.references)


def test_without_a_base_none_can_be_asked_for():
    with pytest.raises(ConfigError, match="'base'"):
        read({"acc": {"min": 0, "of": "base"}}, METRICS, ["parent:a", "average"])
