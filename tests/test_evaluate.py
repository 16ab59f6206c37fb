"""The bench: the one place where a candidate's failure becomes data."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from evomerge.errors import MachineFailed, MergeError, TaskError
from evomerge.evaluate import Bench
from evomerge.types import ItemScores, Work
from tests.sphere import recipe


class Backend:
    batch_size = 8

    def __init__(self, raises: Exception | None = None):
        self.raises = raises

    def write(self, recipe):
        if self.raises:
            raise self.raises


class Task:
    name = "task"

    def __init__(self, value: float = 1.0):
        self.value, self.sizes = value, []

    def score(self, backend, items):
        self.sizes.append(backend.batch_size)
        return ItemScores("task", tuple(items), np.full(len(items), self.value))


def evaluate(backend, task, record=lambda kind, **facts: None, shrink=1):
    work = Work(3, "search", recipe((0.5,) * 4), {"task": ("x", "y")}, genome=(0.5,))
    (found,) = Bench(backend, {"task": task}).evaluate(work, shrink=shrink, record=record)
    return found


def test_a_good_candidate_comes_back_with_its_items_and_scores():
    found = evaluate(Backend(), Task())
    assert (found.id, found.phase, found.genome, found.error_code, found.batch_size) == (3, "search", (0.5,), None, 8)
    assert found.scores[0].items == ("x", "y") and found.scores[0].values.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("error", "code"),
    [(MergeError("bad weights"), "merge"), (ValueError("odd"), "ValueError"), (KeyError("k"), "KeyError")],
)
def test_an_error_becomes_a_code_with_its_traceback_on_file(error, code):
    told = []
    found = evaluate(Backend(error), Task(), lambda kind, **facts: told.append((kind, facts)))
    assert found.error_code == code and found.scores == ()
    assert told[0][0] == "failed" and "Traceback" in told[0][1]["traceback"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_scores_are_a_failure_that_names_the_task(value):
    assert evaluate(Backend(), Task(value)).error_code == "non_finite_score:task"


@pytest.mark.parametrize("error", [MemoryError("host"), torch.OutOfMemoryError("device")])
def test_running_out_of_memory_is_not_the_candidates_fault(error):
    with pytest.raises(MemoryError):
        evaluate(Backend(error), Task())


@pytest.mark.parametrize(
    "error", [OSError("stale file handle"), SafetensorError("incomplete"), RuntimeError("CUDA error: illegal access")]
)
def test_a_fault_of_the_machine_is_no_candidates_failure(error):
    with pytest.raises(MachineFailed, match=r"while search 3 was evaluated: .*run the same command again"):
        evaluate(Backend(error), Task())


def test_an_error_of_the_settings_passes_with_its_remedy():
    with pytest.raises(TaskError, match="set the template"):
        evaluate(Backend(TaskError("set the template")), Task())


def test_an_interrupt_passes():
    with pytest.raises(KeyboardInterrupt):
        evaluate(Backend(KeyboardInterrupt()), Task())


class Stops:
    """A judge that ends a race after so many rungs."""

    def __init__(self, after):
        self.after = after

    def stops(self, answered):
        return len(answered) >= self.after


def raced(**changes):
    chunks = tuple({"task": (i,)} for i in "abcd")
    return replace(Work(3, "search", recipe((0.5,) * 4), {"task": tuple("abcd")}, chunks=chunks), **changes)


def test_a_race_is_built_once_and_ends_where_the_judge_says():
    backend = Backend()
    backend.write = lambda recipe, written=[]: written.append(1) or setattr(backend, "written", len(written))
    found = list(Bench(backend, {"task": Task()}).evaluate(raced(judge=Stops(3), rung=8)))
    assert [(e.rung, e.last, e.items["task"]) for e in found] == [
        (8, False, ("a",)),
        (9, False, ("b",)),
        (10, True, ("c",)),
    ]
    assert backend.written == 1


def test_a_race_goes_on_after_what_is_on_file():
    known = tuple((ItemScores("task", (i,), np.ones(1)),) for i in "ab")
    found = list(Bench(Backend(), {"task": Task()}).evaluate(raced(answered=known)))
    assert [(e.rung, e.last, e.items["task"]) for e in found] == [(2, False, ("c",)), (3, True, ("d",))]


def test_an_error_in_a_race_is_its_last_rung():
    found = list(Bench(Backend(), {"task": Task(np.nan)}).evaluate(raced()))
    assert [(e.error_code, e.last) for e in found] == [("non_finite_score:task", True)]


def test_margins_are_kept_of_references_only():
    class Choices(Task):
        def score(self, backend, items):
            return replace(super().score(backend, items), margins=np.ones(len(items)))

    for phase, kept in (("references", True), ("search", False)):
        (found,) = Bench(Backend(), {"task": Choices()}).evaluate(replace(raced(phase=phase), chunks=()))
        assert (found.scores[0].margins is not None) == kept


def test_a_retry_shrinks_the_batch_of_that_attempt():
    task = Task()
    assert evaluate(Backend(), task, shrink=4).batch_size == 2
    assert evaluate(Backend(), task, shrink=100).batch_size == 1
    assert task.sizes == [2, 1]


def test_an_evaluator_travels_and_scores_the_same(command, tmp_path):
    from evomerge import config, preparation

    plan = preparation.prepare(config.settings([c for c in command[1:]]), tmp_path).plan
    work = Work("average", "references", plan.references["average"], plan.items["search"])
    (here,) = plan.evaluator.open().evaluate(work)
    (there,) = pickle.loads(pickle.dumps(plan.evaluator)).open().evaluate(work)  # our own bytes, made a line above
    assert here.error_code is None
    assert all(np.array_equal(a.values, b.values) for a, b in zip(here.scores, there.scores, strict=True))


class Together(Backend):
    """Serves four at once; a score is the first weight of the recipe in the slot."""

    together = 4

    def __init__(self, refuses: float | None = None, error: type[Exception] = MergeError):
        super().__init__()
        self.refuses, self.error, self.written = refuses, error, []

    def write_together(self, recipes):
        self.written.append(sorted(recipes))
        self._weights = {slot: one.slots[0].blends["*"].knobs["weight"][0] for slot, one in recipes.items()}
        if self.refuses in self._weights.values():
            raise self.error("bad weights")

    def turn_to(self, slot):
        self.weight = self._weights[slot]


class Weighing(Task):
    def score(self, backend, items):
        return ItemScores("task", tuple(items), np.full(len(items), backend.weight))


def works_of(*ids):
    items = {"task": ("x", "y")}
    return [Work(i, "search", recipe((i / 10, 0.0, 0.0, 0.0)), items, genome=(i / 10,)) for i in ids]


def together(backend, *ids):
    found = Bench(backend, {"task": Weighing()}).evaluate_together(works_of(*ids))
    return {e.id: e.error_code or e.scores[0].values.tolist() for e in found}


def test_candidates_served_together_are_scored_each_in_a_slot_of_its_own():
    backend = Together()
    assert together(backend, 5, 4, 7) == {5: [0.5, 0.5], 4: [0.4, 0.4], 7: [0.7, 0.7]}
    assert backend.written == [[0, 1, 3]]


def test_a_candidate_alone_has_the_slot_it_has_among_others():
    backend = Together()
    (found,) = Bench(backend, {"task": Weighing()}).evaluate(works_of(6)[0])
    assert found.scores[0].values.tolist() == [0.6, 0.6] and backend.written == [[2]]


@pytest.mark.parametrize(("error", "code"), [(MergeError, "merge"), (RuntimeError, "RuntimeError")])
def test_of_candidates_that_cannot_be_built_together_the_one_at_fault_fails_alone(error, code):
    assert together(Together(0.5, error), 4, 5, 6) == {4: [0.4, 0.4], 5: code, 6: [0.6, 0.6]}


def test_memory_that_is_full_for_all_is_nobodys_fault():
    class Full(Together):
        def write_together(self, recipes):
            raise torch.OutOfMemoryError("device")

    with pytest.raises(MemoryError):
        together(Full(), 4, 5)
