"""A plan of real parents and tasks: it counts their prompts, and fails with a sentence where it cannot."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from evomerge.backends.hf import HFBackend
from evomerge.backends.vllm import VLLMBackend
from evomerge.backends.vllm_lora import VLLMLora
from evomerge.doctor.profiles import typical
from evomerge.errors import ConfigError, ParentError
from evomerge.memory import words
from evomerge.memory.jobs import methods_of
from evomerge.memory.plan import Machine, plan
from evomerge.memory.planning import beside_engine, dearest, devices_of, plan_search, settle
from evomerge.models.family import open_family
from evomerge.spaces.method_choice import MethodChoice
from evomerge.spaces.references import references
from evomerge.spaces.weights import WeightsSpace
from evomerge.tasks import harness
from evomerge.types import Pool
from tests.task_folder import TASKS

LARGE = Machine(10**12, 10**12)


@pytest.fixture(scope="module")
def tasks(task_folder):
    return harness.load(list(TASKS), include_path=task_folder)


def planned(pico, tasks, machine=LARGE, base="base", **settings):
    family = open_family([str(pico["a"]), str(pico["b"])], str(pico[base]))
    recipe = references(family.pool(), seed=0, dtype="float32")["average"]
    return plan_search(family, tasks, recipe, machine, **{"dtype": "float32", "batch_size": 4, **settings})


def test_the_load_is_what_the_tasks_ask(pico, tasks):
    plan, asked = planned(pico, tasks)
    assert set(asked) == set(TASKS)
    assert plan.job.load.batch_size == 4
    assert plan.job.load.scored == asked["sums"].scored and plan.job.load.generated == asked["letters"].generated
    assert plan.placement == "device"


def test_a_setting_of_the_backend_cuts_the_prompts(pico, tasks):
    assert planned(pico, tasks, max_length=3)[0].job.load.scored == 3


def test_a_device_is_asked_for_its_free_memory(pico, tasks):
    machine = planned(pico, tasks, torch.device("cpu"))[0].machine
    assert machine.unified and machine.device > 10**6


def test_half_precision_halves_the_live_model_and_leaves_the_parents(pico, tasks):
    full, half = (planned(pico, tasks, dtype=d)[0] for d in ("float32", "bfloat16"))
    assert full.live == 2 * half.live and full.parents == half.parents


def test_a_base_without_a_tokenizer_is_refused(pico, tasks, tmp_path):
    bare = shutil.copytree(pico["base"], tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(ParentError, match="has no tokenizer"):
        planned({**pico, "base": bare}, tasks)


def test_an_unknown_dtype_is_refused(pico, tasks):
    with pytest.raises(ConfigError, match="Did you mean 'float16'"):
        planned(pico, tasks, dtype="float1")


def test_of_a_space_with_choices_the_plan_sees_the_method_that_keeps_most():
    pool = Pool(("a", "b"), ("da", "db"), "base", {"layers": 2})
    space = MethodChoice(pool, methods=["linear", "della", "task_arithmetic"], groups=1)
    assert "della" in methods_of(dearest(space))
    assert methods_of(dearest(WeightsSpace(pool, method="linear"))) == {"linear"}


def test_where_parents_are_wanted_is_planned_for(pico, tasks):
    assert [planned(pico, tasks, residency=where)[0].placement for where in (None, "host", "disk")] == [
        "device",
        "host",
        "disk",
    ]


def test_workers_and_their_devices_are_planned_for(pico, tasks):
    machine = planned(pico, tasks, workers=3, devices=2)[0].machine
    assert (machine.workers, machine.devices, machine.device) == (3, 2, LARGE.device)
    half = planned(pico, tasks, workers=2, devices=0.5)[0].machine
    assert (half.workers, half.devices, half.device) == (2, 1, LARGE.device // 2)


@pytest.mark.parametrize(
    "settings, given, devices",
    [
        ({}, 4, 1),
        ({"device_map": "balanced"}, 4, 4),
        ({"device_map": {"a": 0, "b": 2, "c": "cpu"}}, 4, 2),
        ({"device_map": "auto"}, 0.5, 0.5),
    ],
)
def test_a_backend_uses_the_devices_it_spreads_over(settings, given, devices):
    assert devices_of(HFBackend(**settings), given) == devices


@pytest.mark.parametrize("kind", [VLLMBackend, VLLMLora])
def test_a_backend_that_cuts_tensors_uses_as_many_devices(kind):
    assert devices_of(kind(tensor_parallel=4), 8) == 4


@pytest.mark.parametrize("share, placement", [(0.3, "device"), (0.9, "host")])
def test_parents_lie_on_a_device_if_they_fit_beside_the_engine(share, placement):
    found = plan(typical("7B"), Machine(100 * 10**9, 10**12))
    evaluator = SimpleNamespace(backend=VLLMBackend(gpu_memory_utilization=share), family=SimpleNamespace())
    after = settle(found, evaluator)
    assert after.placement == placement and evaluator.family.placement == placement
    held = sum(found.job.checkpoints) + found.learned + found.building
    assert after.resident_peak == share * 100 * 10**9 + held
    assert (placement == "device") == (held <= 0.95 * (1 - share) * 100 * 10**9)


@pytest.mark.parametrize("share, told", [(0.99, "Lower it"), (0.1, "Raise it")])
def test_an_engine_that_leaves_too_little_is_refused_before_it_starts(share, told):
    found = beside_engine(plan(typical("7B"), Machine(80 * 10**9, 10**12)), VLLMBackend(gpu_memory_utilization=share))
    with pytest.raises(ConfigError, match=rf"gpu_memory_utilization={share} leaves the engine .* {told}"):
        words.check(found)


def test_on_a_cpu_no_engine_takes_a_share():
    found = plan(typical("7B"), Machine(10**12, 10**12, unified=True))
    assert beside_engine(found, VLLMBackend()) == found
    assert beside_engine(replace(found, machine=Machine(10**12, 10**12)), HFBackend()).machine.engine == 0


@pytest.mark.parametrize("setting", [None, "auto", "balanced"])
@pytest.mark.parametrize("free, spread", [(80, None), (40, "balanced")])
def test_only_auto_is_decided_by_the_plan(setting, free, spread):
    found = plan(typical("7B"), Machine(free * 10**9, 10**12, devices=8))
    backend = HFBackend(device_map=setting)
    evaluator = SimpleNamespace(backend=backend, family=SimpleNamespace())
    after = settle(found, evaluator)
    assert backend.device_map == (spread if setting == "auto" else setting)
    assert after.machine.devices == (1 if (setting, spread) == ("auto", None) else 8)
    assert evaluator.family.placement == after.placement


def test_where_limits_are_set_auto_is_left_to_the_backend_that_knows_them():
    backend = HFBackend(device_map="auto", max_memory={0: "20GiB", 1: "20GiB"})
    found = plan(typical("7B"), Machine(80 * 10**9, 10**12, devices=8))
    settle(found, SimpleNamespace(backend=backend, family=SimpleNamespace()))
    again = pickle.loads(pickle.dumps(backend))
    assert (again.device_map, again.max_memory) == ("auto", {0: "20GiB", 1: "20GiB"})
