"""The memory plan in words: the error has the numbers, the ways out lead out."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from evomerge.doctor.profiles import plans, typical
from evomerge.errors import ConfigError
from evomerge.memory import words as memory
from evomerge.memory.jobs import job_of
from evomerge.memory.plan import Load, Machine, plan
from evomerge.methods import METHODS
from evomerge.models.family import open_family
from evomerge.spaces.references import references, uniform
from evomerge.spaces.weights import WeightsSpace
from evomerge.types import Blend
from tests.test_adapters import make_adapter

GB = 10**9
SMALL_CARD, CARD = Machine(24 * GB, 64 * GB), Machine(80 * GB, 512 * GB)


def with_setting(job, words):
    """The job that a way out describes."""
    if found := re.search(r"batch_size=(\d+)", words):
        job = replace(job, load=replace(job.load, batch_size=int(found[1])))
    if found := re.search(r"max_length=(\d+)", words):
        job = replace(job, load=replace(job.load, scored=int(found[1])))
    if "bfloat16" in words:
        job = replace(job, live_itemsize=2)
    if found := re.search(r"to (\d+) parents", words):
        n = int(found[1])
        job = replace(job, n_parents=n, checkpoints=job.checkpoints[: n + 1])
    return job


def with_devices(machine, words):
    found = re.search(r"over (\d+) devices|executor.workers=(\d+)", words)
    if not found:
        return machine
    return replace(machine, devices=int(found[1])) if found[1] else replace(machine, workers=int(found[2]))


@pytest.mark.parametrize("job", [typical("7B"), replace(typical("7B"), live_itemsize=4)], ids=["bf16", "float32"])
@pytest.mark.parametrize(
    "card",
    [SMALL_CARD, CARD, Machine(40 * GB, 64 * GB), Machine(99 * GB, 99 * GB, unified=True, workers=4)],
    ids=["24", "80", "40", "4 workers"],
)
def test_every_way_out_is_one(job, card):
    found = plan(job, card)
    for words in memory.ways_out(found):
        after = plan(with_setting(job, words), with_devices(card, words))
        assert memory.RANKS.index(after.placement) > memory.RANKS.index(found.placement), words


def test_a_search_that_does_not_fit_is_refused_with_numbers_and_ways_out():
    found = plan(typical("7B"), SMALL_CARD)
    with pytest.raises(ConfigError) as refused:
        memory.check(found)
    words = str(refused.value)
    assert "24.0 GB are free" in words and "15.2 GB for the live model" in words and "29.9 GB for scoring" in words
    assert "Set backend.batch_size=4, or backend.max_length=128." in words


def test_a_model_too_large_for_any_setting_is_told_so():
    with pytest.raises(ConfigError, match=r"needs 169\.8 GB.*Use a larger device or a smaller model"):
        memory.check(plan(typical("70B"), Machine(24 * GB, 512 * GB)))


def test_a_host_too_small_to_load_the_model_is_named():
    with pytest.raises(ConfigError, match=r"15\.2 GB of host memory while it is loaded, and 16\.0 GB are free"):
        memory.check(plan(typical("7B"), Machine(80 * GB, 16 * GB)))


def test_workers_too_many_for_one_memory_are_told_of_fewer():
    found = plan(typical("7B"), Machine(120 * GB, 120 * GB, unified=True, workers=4))
    with pytest.raises(ConfigError, match=r"the search needs \d+\.\d GB for 4 workers, each:.*executor\.workers=2"):
        memory.check(found)


def test_a_model_too_large_for_one_device_is_told_of_several():
    with pytest.raises(ConfigError, match=r"backend\.device_map=balanced over 4 devices"):
        memory.check(plan(typical("70B"), Machine(80 * GB, 999 * GB)))


def test_a_plan_over_devices_and_workers_says_whose_peak_it_tells():
    spread = plan(typical("70B"), Machine(80 * GB, 999 * GB, devices=4, workers=2))
    assert memory.sentence(spread).endswith("free on each of its 4 devices, for each of 2 workers")
    shared = plan(typical("7B"), Machine(400 * GB, 400 * GB, unified=True, workers=2))
    assert "peak of all 2 workers" in memory.sentence(shared)


def test_what_fits_passes():
    for found in plans("80gb").values():
        if found.placement:
            memory.check(found)
            assert memory.where(found) in memory.sentence(found)


def test_float32_on_a_small_card_is_told_of_bfloat16():
    job = replace(typical("7B"), live_itemsize=4, load=Load(1, 64))
    assert "dtype=bfloat16" in memory.ways_out(plan(job, SMALL_CARD))


def test_the_job_of_a_family_has_its_files_and_methods(pico):
    family = open_family([str(pico["a"]), str(pico["b"])], str(pico["base"]))
    pool = family.pool()
    average = references(pool, seed=0, dtype="float32")["average"]
    job = job_of(family, recipe=average, dtype="bfloat16", load=Load(4, 10))
    size = (pico["base"] / "model.safetensors").stat().st_size
    assert job.checkpoints == (size,) * 3 and job.n_parents == 2
    assert (job.itemsize, job.live_itemsize, job.learns, job.keeps) == (4, 2, False, 0)
    della = WeightsSpace(pool, method="della", seed=0)
    other = job_of(family, recipe=della.decode([0.5] * della.size), dtype="float32", load=Load(4, 10), residency="disk")
    assert (other.learns, other.keeps, other.residency) == (True, METHODS["della"].keeps, "disk") and other.keeps > 0


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # PEFT's, of tied embeddings
def test_of_adapters_only_what_is_not_made_of_factors_is_counted_whole(pico, tmp_path):
    one = make_adapter(pico["base"], tmp_path / "one", seed=1, r=2, target_modules=["q_proj"])
    two = make_adapter(pico["base"], tmp_path / "two", seed=2, r=2, target_modules=["q_proj"])
    family = open_family([str(one), str(two)], str(pico["base"]))
    largest = max(math.prod(shape) for shape in family.shapes.values())
    for method, whole in (("task_arithmetic", 0), ("linear", 2 * largest)):
        recipe = uniform(family.pool(), family.pool().digests, Blend(method), 0, "float32")
        assert job_of(family, recipe=recipe, dtype="float32", load=Load(4, 10)).whole == whole


@pytest.mark.parametrize("wanted", ["device", "host"])
def test_parents_that_do_not_fit_where_they_are_wanted_are_told_with_both_numbers(wanted):
    job = replace(typical("7B"), residency=wanted, load=Load(8, 512))
    with pytest.raises(ConfigError) as refused:
        memory.check(plan(job, Machine(40 * GB, 64 * GB)))
    words = str(refused.value)
    assert words.startswith(f"merge.residency={wanted} cannot be: ") and "Set merge.residency=auto" in words
    needs = {
        "device": "with all parents on the device, and 40.0 GB are free",
        "host": "the parents take 60.9 GB, and 64.0 GB are free",
    }
    assert needs[wanted] in words


def test_a_wanted_residency_is_not_blamed_where_nothing_fits():
    found = plan(replace(typical("7B"), residency="device"), SMALL_CARD)
    with pytest.raises(ConfigError, match=r"24\.0 GB are free on the device .* Set backend\.batch_size"):
        memory.check(found)


@pytest.mark.parametrize("size, words", [(15_231_000_000, "15.2 GB"), (310_000_000, "310 MB"), (6_070_000, "6.1 MB")])
def test_bytes_in_words(size, words):
    assert memory.gb(size) == words
