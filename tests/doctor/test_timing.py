"""The time estimate: its arithmetic against a run's own journal, its measuring against a task of known speed."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from evomerge import config, preparation
from evomerge.budget import Budget
from evomerge.doctor import timing
from evomerge.doctor.timing import Span, extrapolate, human, per_item
from evomerge.journal import rows
from evomerge.types import ItemScores

CPU = torch.device("cpu")
NOTHING, SECOND = Span(0.0, 0.0), Span(1.0, 1.0)


@pytest.fixture(scope="module")
def plan(command, finished):
    """The plan of the finished run."""
    cfg = config.settings([*command[1:], "space.method=ties", "budget.evaluations=9", f"run={finished}"])
    return preparation.prepare(cfg, finished).plan


def paid(folder, phase: str) -> int:
    """Items of all evaluations of a phase, those that stand for an equal recipe included."""
    found = [r for r in rows(folder) if r["row"] == "evaluation" and r["phase"] == phase]
    return sum(len(ids) for r in found for ids in r["items"].values())


def test_phases_have_the_items_that_a_run_pays_for(plan, finished):
    estimate = extrapolate(plan, 0.0, NOTHING, dict.fromkeys(plan.items["search"], SECOND))  # an item is a second
    for phase in ("references", "search", "control"):
        assert estimate.phases[phase] == Span(paid(finished, phase), paid(finished, phase))
    for phase in ("selection", "test"):
        assert estimate.phases[phase].low <= paid(finished, phase) <= estimate.phases[phase].high
    assert estimate.phases["search"].low > 0 and estimate.phases["control"].low > 0


def test_a_merge_is_paid_with_every_evaluation(plan):
    estimate = extrapolate(plan, 0.0, Span(1.0, 2.0), dict.fromkeys(plan.items["search"], NOTHING))
    assert estimate.phases["search"] == Span(9, 18)
    assert estimate.phases["references"] == Span(len(plan.references), 2 * len(plan.references))


def test_the_total_is_loading_and_all_phases(plan):
    estimate = extrapolate(plan, 7.0, SECOND, dict.fromkeys(plan.items["search"], Span(0.5, 1.0)))
    assert estimate.total.low == pytest.approx(7 + sum(s.low for s in estimate.phases.values()))
    assert estimate.total.high == pytest.approx(7 + sum(s.high for s in estimate.phases.values()))


@pytest.mark.parametrize(
    "budget, n",
    [
        (Budget(evaluations=50), 50),
        (Budget(evaluations=50, items=240), 10),  # 24 search items each
        (Budget(evaluations=50, seconds=100), 100 / 24),
    ],
)
def test_the_limit_that_is_reached_first_ends_the_search(plan, budget, n):
    each = sum(map(len, plan.items["search"].values()))
    assert each == 24
    shorter = SimpleNamespace(**{**vars(plan), "budget": budget})
    estimate = extrapolate(shorter, 0.0, NOTHING, dict.fromkeys(plan.items["search"], SECOND))
    assert estimate.phases["search"].low == pytest.approx(n * each)


def test_workers_share_what_can_be_shared(plan):
    seconds = dict.fromkeys(plan.items["search"], SECOND)
    one, three = (extrapolate(plan, 7.0, SECOND, seconds, workers=n) for n in (1, 3))
    assert three.candidate == one.candidate and three.loading == one.loading
    for phase, span in one.phases.items():
        assert span.low / 3 <= three.phases[phase].low <= span.low / 3 + one.phases["references"].low
    n = len(plan.references)
    assert three.phases["references"].low == pytest.approx(one.phases["references"].low * -(-n // 3) / n)


class Slow:
    """A task whose items take a known time after the first call."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.sizes = seconds, []

    def score(self, backend, items):
        self.sizes.append(len(items))
        time.sleep(self.seconds * len(items) + (0.2 if len(self.sizes) == 1 else 0.0))
        return ItemScores("slow", tuple(items), np.zeros(len(items)))


def test_an_item_takes_what_it_takes_without_the_warm_up():
    task, ids = Slow(0.002), [str(i) for i in range(100)]
    found = per_item(task, ids, 1.0, SimpleNamespace(batch_size=16), CPU)
    assert found.low == pytest.approx(0.002, rel=0.5) and found.high < 0.2 / 8
    assert len(task.sizes) == 4  # warm-up, a handful, two batches


def test_a_slow_task_is_not_asked_for_whole_batches(monkeypatch):
    monkeypatch.setattr(timing, "PATIENCE", 0.2)
    task = Slow(0.01)
    per_item(task, [str(i) for i in range(1000)], 1.0, SimpleNamespace(batch_size=500), CPU)
    assert 8 < max(task.sizes) <= 20 and len(task.sizes) == 4


@pytest.mark.parametrize(
    "span, words",
    [
        (Span(1.23, 4.56), "1.2 to 4.6 seconds"),
        (Span(40, 70), "40 to 70 seconds"),
        (Span(90, 150), "1.5 to 2.5 minutes"),
    ],
)
def test_ranges_in_words(span, words):
    assert human(span) == words
