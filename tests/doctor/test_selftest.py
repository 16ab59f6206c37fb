"""The self-test passes on a machine that works, and finds what is broken on purpose."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from evomerge import config, preparation
from evomerge.doctor import live_steps, steps
from evomerge.doctor.checks import Examination, memory_plan
from evomerge.doctor.findings import Findings
from evomerge.doctor.selftest import attempt, selftest
from evomerge.engine import fused, loops
from evomerge.engine.merging import Merging
from evomerge.methods import METHODS
from evomerge.methods.entries import Entries
from evomerge.methods.kernels import Sum

CPU = torch.device("cpu")
EARLY = ["device", "masks", "slices", "methods", "compiled", "settings"]
ALL = [*EARLY, "parent_alone", "memory", "write_back", "batch_noise", "speed"]


@pytest.fixture
def cfg(command, tmp_path):
    return config.settings([*command[1:], "space.method=ties", f"run={tmp_path / 'run'}"])


@pytest.fixture
def small_copies(monkeypatch):
    monkeypatch.setitem(steps.COPIED, "cpu", 2**20)


def steps_of(found):
    return {s["step"]: s for s in found["steps"]}


def test_this_machine_passes_every_step(cfg, small_copies):
    heard = []
    found = json.loads(json.dumps(selftest(cfg, heard.append), allow_nan=False))
    assert [s["step"] for s in found["steps"]] == ALL
    assert found["passed"] and all(s["passed"] for s in found["steps"])
    assert [line for line in heard if "FAILED" in line] == []
    by_name = steps_of(found)
    assert by_name["write_back"]["figures"]["away"] == "parent:a"
    assert by_name["speed"]["figures"]["tokens_per_second"] > 0
    assert by_name["device"]["figures"]["bytes_per_second"] > 1e6


def test_settings_that_make_no_search_fail_one_step_and_leave_the_figures_of_the_others(cfg, small_copies):
    cfg.space.method = "tiez"
    found = selftest(cfg)
    assert [s["step"] for s in found["steps"]] == EARLY and not found["passed"]
    assert "tiez" in steps_of(found)["settings"]["error"]


def test_a_step_that_fails_does_not_end_the_test(cfg, small_copies, monkeypatch):
    monkeypatch.setattr(live_steps, "memory", lambda plan, planned: 1 / 0)
    found = selftest(cfg)
    assert [s["step"] for s in found["steps"] if s["error"] and "ZeroDivisionError" in s["error"]] == ["memory"]
    assert len(found["steps"]) == len(ALL) and not found["passed"]


@dataclass(frozen=True)
class Sloppy(Sum):
    """A sum that depends on the shape it is given."""

    def __call__(self, values, numbers, column, words, extras):
        return super().__call__(values, numbers, column, words, extras) + len(values[0]) * 1e-6


def test_a_method_whose_slices_are_not_those_of_the_whole_is_found(monkeypatch):
    honest = METHODS["linear"]
    sloppy = replace(honest, settle=lambda entries, **knobs: replace(honest.settle(entries, **knobs), kernel=Sloppy()))
    monkeypatch.setitem(METHODS, "linear", sloppy)
    found = attempt("slices", lambda: steps.slices(CPU))
    assert not found["passed"] and "linear" in found["error"]
    assert found["figures"]["unequal"]["linear"] > 0 and found["figures"]["unequal"]["ties"] == 0


def test_masks_that_are_drawn_anew_are_found(monkeypatch):
    monkeypatch.setattr(Entries, "words", lambda self: torch.randint(2**31, (self.parents + 1, 96), dtype=torch.int32))
    assert not attempt("masks", lambda: steps.masks(CPU))["passed"]


def test_a_method_that_differs_between_devices_is_found(monkeypatch):
    honest, calls = METHODS["slerp"], []

    def elsewhere(entries, **knobs):
        calls.append(1)
        found = honest.settle(entries, **knobs)
        return replace(found, numbers=tuple(tuple(c + 1e-4 * (len(calls) > 1) for c in row) for row in found.numbers))

    monkeypatch.setitem(METHODS, "slerp", replace(honest, settle=elsewhere))
    found = attempt("methods", lambda: steps.methods(CPU))
    assert not found["passed"] and "slerp" in found["error"] and "ties" not in found["error"]


def test_a_compiler_whose_loops_give_other_numbers_is_found(monkeypatch):
    monkeypatch.setattr(loops, "possible", lambda device: True)

    def wrong(work, kernel, given, operands, out):
        fused.eager(work, kernel, given, operands, out)
        out[0, 0] += 1e-3

    monkeypatch.setattr(loops, "compiled", wrong)
    found = attempt("compiled", lambda: steps.compiled(CPU))
    assert not found["passed"] and found["figures"]["largest"] == pytest.approx(1e-3, rel=0.01)


def test_a_compiler_that_fails_is_found_and_a_missing_one_is_no_failure(monkeypatch):
    monkeypatch.setattr(loops, "possible", lambda device: True)

    def fails(*operands):
        raise loops.NotCompiled

    monkeypatch.setattr(loops, "compiled", fails)
    assert "it fails" in attempt("compiled", lambda: steps.compiled(CPU))["error"]
    monkeypatch.setattr(loops, "possible", lambda device: False)
    assert attempt("compiled", lambda: steps.compiled(CPU))["figures"] == {"compiler": False}


# ---------------------------------------------------------------- on a live model


@pytest.fixture
def opened(cfg):
    """A plan with its live model, its memory plan, and what its first parent is by itself."""
    prepared = preparation.prepare(cfg, Path(cfg.run))
    evaluator = prepared.plan.evaluator
    planned = memory_plan(cfg, Examination(Findings(), prepared, evaluator.family, evaluator.tasks), None)
    evaluator.open()
    alone: dict[str, live_steps.Alone] = {}
    live_steps.parent_alone(prepared.plan, alone)
    return prepared.plan, planned, alone


def followed_by(work):
    """Merging.prepared, and work(merging, target) after each tensor is written."""
    prepared = Merging.prepared

    def both(merging, family, target, **how):
        write = prepared(merging, family, target, **how)
        return lambda: (write(), work(merging, target))

    return both


def test_weights_that_are_not_written_exactly_are_found(opened, monkeypatch):
    plan, _, alone = opened

    def nearly(merging, target):
        if merging.name.endswith("mlp.up_proj.weight"):
            target.view(-1)[0] += 1e-3

    monkeypatch.setattr(Merging, "prepared", followed_by(nearly))
    found = attempt("write_back", lambda: live_steps.write_back(plan, alone))
    assert not found["passed"] and found["figures"]["tensors_unequal"] == 2  # blocks
    assert found["figures"]["answers_unequal"] > 0 and found["figures"]["tensors_not_restored"] == 0


def test_weights_that_do_not_come_back_are_found(opened, monkeypatch):
    plan, _, alone = opened
    calls = []

    def drifting(merging, target):
        calls.append(merging.name)
        target.add_(len(calls) * 1e-6)

    monkeypatch.setattr(Merging, "prepared", followed_by(drifting))
    found = attempt("write_back", lambda: live_steps.write_back(plan, alone))
    assert not found["passed"] and found["figures"]["tensors_not_restored"] > 0


def test_answers_that_depend_on_the_batch_are_found(opened, monkeypatch):
    plan, _, _ = opened
    backend = plan.evaluator.backend
    honest = backend.answer

    def shifted(requests):
        return [(a[0] + 0.01 * backend.batch_size, a[1]) if isinstance(a, tuple) else a for a in honest(requests)]

    monkeypatch.setattr(backend, "answer", shifted)
    found = attempt("batch_noise", lambda: live_steps.batch_noise(plan))
    assert not found["passed"] and found["figures"]["largest_shift"] == pytest.approx(0.31, abs=0.01)
    assert backend.batch_size == 32, "the setting is put back"


def test_a_peak_above_the_plan_is_found(opened, monkeypatch):
    plan, planned, _ = opened
    monkeypatch.setattr(live_steps, "ALLOWANCE", -(10**12))
    found = attempt("memory", lambda: live_steps.memory(plan, planned))
    assert not found["passed"] and found["figures"]["planned_bytes"] == planned.resident_peak


def test_what_a_process_grows_by_is_seen():
    with live_steps.peak(CPU) as reached:
        block = torch.ones(50_000_000)
        del block
    assert 150_000_000 < reached() < 400_000_000  # 200 MB were asked for; some may have been there already
