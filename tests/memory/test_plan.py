"""The memory plan against what torch really allocates, and against arithmetic done another way."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MixtralConfig

from evomerge import build
from evomerge.backends.hf import HFBackend
from evomerge.doctor.profiles import MODELS, typical
from evomerge.engine.passes import Pass
from evomerge.engine.pieces import Inputs
from evomerge.engine.sources import Stored, reader
from evomerge.memory.building import COUNTING, TABLE, buffers, learned, learning, merging, tables
from evomerge.memory.jobs import job_of
from evomerge.memory.passes import cache_of, evaluating
from evomerge.memory.plan import (
    PROCESS,
    WORKER,
    Job,
    Load,
    Machine,
    Shape,
    plan,
    shape_of,
    usable,
)
from evomerge.methods import METHODS
from evomerge.methods.entries import Entries
from evomerge.methods.magnitudes import magnitudes
from evomerge.models import device_map
from evomerge.models.family import open_family
from evomerge.spaces.weights import WeightsSpace
from tests.models_pico import make_tokenizer

GB = 10**9
SHAPE = Shape(
    parameters=7 * GB,
    tensors=339,
    largest=5 * 10**8,
    layers=28,
    kv_heads=4,
    head_dim=128,
    hidden=3584,
    intermediate=18944,
    vocabulary=152064,
)
JOB = Job(SHAPE, (14 * GB,) * 4, 3, 2, 2, Load(8, 512))


def allocated(work) -> int:
    """Bytes at the highest point of what `work` allocates."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        work()
    events = [e for e in prof.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = highest = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        highest = max(highest, now)
    return highest


def llama(vocabulary, hidden, intermediate, layers, kv_heads, dtype):
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=kv_heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        model = LlamaForCausalLM(config).to(dtype).eval()
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    return model, shape_of(config, shapes)


def scored(n):
    return [SimpleNamespace(request_type="loglikelihood", args=(f"{i:02d}" + "x" * 97, "ab")) for i in range(n)]


# ---------------------------------------------------------------- against torch


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "numbers",
    [(20000, 64, 128, 2, 2), (300, 256, 512, 4, 8), (300, 128, 2048, 2, 4), (300, 64, 128, 24, 8)],
    ids=["logits", "states", "mlp", "cache"],
)
def test_scoring_holds_what_the_plan_says(numbers, dtype):
    model, shape = llama(*numbers, dtype)
    backend = HFBackend(batch_size=4, share_prefix=False).wrap(model, make_tokenizer())
    backend.answer(scored(1))
    held = allocated(lambda: backend.answer(scored(12)))  # three batches: the second still holds the first's logits
    counted = evaluating(shape, Load(4, 100), dtype.itemsize)
    assert held <= counted * 1.02 + 10_000
    assert counted <= held * 1.15


def test_generating_holds_what_the_plan_says():
    model, shape = llama(300, 64, 128, 24, 8, torch.float32)
    backend = HFBackend(batch_size=4, share_prefix=False).wrap(model, make_tokenizer())
    settings = {"until": ["\n"], "max_gen_toks": 20, "do_sample": False}
    asked = [SimpleNamespace(request_type="generate_until", args=(f"{i}" + "x" * 99, settings)) for i in range(4)]
    held = allocated(lambda: backend.answer(asked))
    counted = evaluating(shape, Load(4, 0, 120), 4)
    assert held <= counted * 1.1 and counted <= held * 1.3


def at_work(method, n_parents):
    """Bytes at the highest point of learning, without what is kept of it, and of merging, for entries of 16 bits."""
    whole, device = (256, 1024), torch.device("cpu")
    random = torch.Generator().manual_seed(0)
    values = [torch.randn(whole, generator=random).to(torch.bfloat16) for _ in range(n_parents + 1)]
    sources = [Stored(value, device) for value in values]
    knobs = {k.name: 0.5 if k.name == "density" else k.default for k in method.knobs if k.default is not None}
    base = sources.pop() if method.on_deltas(knobs) else None
    ground = None if base is None else lambda start, stop: base.flat(start, stop).float()
    read = reader(sources[:n_parents], base)
    entries = Entries(whole, read, tuple(range(n_parents + 1)), device, ground=ground)
    settled, out = [], torch.empty(whole, dtype=torch.bfloat16)
    kept = 2 * method.keeps * n_parents * out.numel()  # twice: put together of the parents' own
    learning = allocated(lambda: settled.append(method.settle(entries, **knobs))) - kept
    made = Pass(settled[0], Inputs(sources[:n_parents], base, entries))
    return learning, allocated(lambda: made.flat(0, out.numel(), out.view(-1)))


@pytest.mark.parametrize("n_parents", [1, 2, 5])
def test_pieces_at_work_are_no_more_than_the_plan_says_and_not_much_less(n_parents):
    counted = [count(SHAPE, n_parents, on_cpu=True) for count in (learning, merging)]
    fitting = {n: m for n, m in METHODS.items() if m.arity[0] <= n_parents <= (m.arity[1] or n_parents)}
    held = {name: at_work(method, n_parents) for name, method in fitting.items()}
    assert {name: h for name, h in held.items() if h[0] > counted[0] * METHODS[name].learns or h[1] > counted[1]} == {}
    largest = [max(sizes) for sizes in zip(*held.values(), strict=True)]
    assert counted[0] <= 2 * largest[0] and counted[1] <= 2 * largest[1]  # far too high would refuse what fits


@pytest.mark.parametrize("method", ["task_arithmetic", "dare_ties", "ties"])
def test_building_a_model_holds_no_more_than_the_plan_says_and_no_whole_tensor_in_float32(method, tmp_path):
    family = generated(tmp_path, n_parents=3)
    family.placement = "device"
    space = WeightsSpace(family.pool(), method=method, seed=1)
    recipe = space.decode([0.5] * space.size)
    job = job_of(family, recipe=recipe, dtype="bfloat16", load=Load(1, 1))
    found = plan(job, Machine(2**50, 2**50, unified=True))
    for parent in family.all:  # to map a file counts as if its memory were one's own
        for name in family.shapes:
            family.home(parent.digest, name, torch.device("cpu"))
    targets = {name: torch.empty(shape, dtype=torch.bfloat16) for name, shape in family.shapes.items()}
    held = allocated(lambda: build.write(recipe, family, targets))
    assert held <= found.building + found.learned + found.tables
    assert held < 3 * found.job.shape.largest * 4


def generated(folder, n_parents):
    """A family of bfloat16 whose largest tensor has a million entries."""
    config = LlamaConfig(
        vocab_size=4096, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4
    )
    with torch.random.fork_rng(devices=[]):
        for k in range(n_parents + 1):
            torch.manual_seed(k)
            LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder / str(k))
    return open_family([str(folder / str(k + 1)) for k in range(n_parents)], str(folder / "0"))


# ---------------------------------------------------------------- against other arithmetic


def test_a_cache_of_grouped_heads_is_that_much_smaller():
    alone = cache_of(replace(SHAPE, kv_heads=28), 1000, 2)
    assert cache_of(SHAPE, 1000, 2) == alone // 7 == 28 * 1000 * 2 * 4 * 128 * 2


def test_the_numbers_of_a_shape_come_from_the_config():
    model, shape = llama(300, 64, 128, 3, 2, torch.float32)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert (shape.layers, shape.kv_heads, shape.head_dim, shape.vocabulary) == (3, 2, 8, 300)
    assert (shape.largest, shape.tensors) == (300 * 64, 3 * 9 + 2)


def test_a_mixture_counts_the_experts_that_a_token_visits():
    config = MixtralConfig(hidden_size=8, intermediate_size=10, num_experts_per_tok=2, num_attention_heads=2)
    assert shape_of(config, {"a": (2, 2)}).intermediate == 20


def test_pieces_are_never_counted_larger_than_the_largest_tensor():
    small = replace(SHAPE, largest=1000)
    assert learning(small, 3, on_cpu=True) == learning(small, 3, on_cpu=False) == (6 * 3 + 5) * 1000 * 4
    assert merging(small, 3, on_cpu=True) == merging(small, 3, on_cpu=False) == (5 * 3 + 5) * 1000 * 4
    assert buffers(small, 4, 2) == 2 * 4 * 1000 * 2 and buffers(SHAPE, 4, 2) == 2 * 4 * (1 << 22) * 2


def test_what_a_method_keeps_is_counted_for_every_entry_and_parent():
    words = 4 * SHAPE.parameters * 4 // 1024
    assert learned(SHAPE, 3, keeps=0) == words and learned(SHAPE, 3, keeps=2) == words + 2 * 3 * SHAPE.parameters
    assert (
        plan(replace(JOB, keeps=2), Machine(80 * GB, 64 * GB)).resident_peak
        - plan(JOB, Machine(80 * GB, 64 * GB)).resident_peak
        == 6 * SHAPE.parameters
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_tables_of_magnitudes_are_no_larger_than_the_plan_says(dtype):
    shape = (1024, 1024)
    random = torch.Generator().manual_seed(0)
    base = (0.02 * torch.randn(shape, generator=random)).to(dtype)
    parent = (base.float() + 0.002 * torch.randn(shape, generator=random)).to(dtype)
    entries = Entries.of((parent.float() - base.float())[None])
    found = magnitudes(entries)
    made = [found.around(entries, keep) for keep in range(1, entries.n, max(1, entries.n // 8))]
    distinct = {id(table): 8 * len(table.sizes) for table in made[-8:]}
    one = replace(SHAPE, parameters=entries.n, tensors=1)
    assert sum(distinct.values()) <= tables(one, 1, dtype.itemsize) - COUNTING


def test_large_tensors_of_16_bits_have_no_larger_tables():
    more = replace(SHAPE, parameters=10 * SHAPE.parameters)
    assert tables(SHAPE, 3, 2) == tables(more, 3, 2) and tables(more, 3, 4) > tables(SHAPE, 3, 4)
    assert tables(SHAPE, 3, 2) - tables(SHAPE, 2, 2) == 339 * TABLE


def test_adapters_cost_their_factors_at_rest_and_what_of_them_is_made_whole():
    both = replace(JOB, checkpoints=(14 * GB,), adapters=(10**8,) * 3, whole=3 * 7 * 10**7)
    there = Machine(80 * GB, 64 * GB)
    assert plan(both, there).parents == 14 * GB + 3 * 10**8
    assert plan(both, there).building - plan(JOB, there).building == 3 * 7 * 10**7 * 4


# ---------------------------------------------------------------- placement


def test_parents_lie_on_the_device_while_everything_fits_there():
    need = plan(JOB, Machine(10**15, 10**15)).resident_peak
    enough = int(need / 0.95) + 2
    assert plan(JOB, Machine(enough, 64 * GB)).placement == "device"
    assert plan(JOB, Machine(enough - 100, 64 * GB)).placement == "host"


def test_parents_lie_on_disk_where_the_host_cannot_hold_them():
    held = int((56 * GB + PROCESS + plan(JOB, Machine(0, 0)).tables) / 0.95) + 2
    assert plan(JOB, Machine(40 * GB, held)).placement == "host"
    assert plan(JOB, Machine(40 * GB, held - 100)).placement == "disk"


def test_every_worker_pins_parents_of_its_own_on_the_host():
    machine = Machine(40 * GB, 200 * GB)
    assert [plan(JOB, replace(machine, workers=n)).placement for n in (3, 4)] == ["host", "disk"]


@pytest.mark.parametrize(
    "free, places", [(80, ("device", "host", "disk")), (40, (None, "host", "disk")), (9, (None, None, None))]
)
def test_parents_lie_where_they_are_wanted_or_nowhere(free, places):
    for wanted, where in zip(("device", "host", "disk"), places, strict=True):
        assert plan(replace(JOB, residency=wanted), Machine(free * GB, 128 * GB)).placement == where


def test_on_one_memory_host_and_device_are_one():
    there = Machine(90 * GB, 90 * GB, unified=True)
    assert plan(replace(JOB, residency="host"), there).placement == "device"


def test_four_parents_of_7b_fit_a_card_of_24_gb():
    job = replace(JOB, checkpoints=(14 * GB,) * 5, n_parents=4)
    assert [plan(job, Machine(24 * GB, host * GB)).placement for host in (128, 64)] == ["host", "disk"]


def test_nothing_fits_where_the_live_model_and_its_logits_do_not():
    need = plan(JOB, Machine(10**15, 10**15)).streamed_peak
    enough = int(need / 0.95) + 2
    assert plan(JOB, Machine(enough, 64 * GB)).placement is not None
    assert plan(JOB, Machine(enough - 100, 64 * GB)).placement is None


def test_the_host_must_hold_the_live_model_while_it_is_loaded():
    assert plan(JOB, Machine(80 * GB, 12 * GB)).placement is None
    assert plan(JOB, Machine(80 * GB, 12 * GB, unified=True)).placement is not None


def test_on_one_memory_there_is_no_host_to_copy_from():
    assert plan(JOB, Machine(40 * GB, 40 * GB, unified=True)).placement == "disk"


# ---------------------------------------------------------------- several devices, several workers


@pytest.fixture(scope="module", params=["7B", "14B", "70B"])
def large(request):
    """A well-known model without weights, and the typical search over it."""
    known = MODELS[request.param]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(getattr(transformers, known.kind)(**known.settings))
    return model, typical(request.param)


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_no_device_gets_more_of_the_live_model_than_the_plan_says(large, devices):
    model, job = large
    found = device_map.split(model, {i: 150 * GB for i in range(devices)}, torch.bfloat16)
    held = dict.fromkeys(range(devices), 0)
    for name, tensor in model.named_parameters():
        held[device_map.device_of(found, name)] += 2 * tensor.numel()
    planned = plan(job, Machine(80 * GB, 999 * GB, devices=devices))
    assert sum(held.values()) == planned.live
    assert planned.live / devices <= max(held.values()) <= planned.share(planned.live)


def test_each_of_several_devices_holds_its_piece_and_what_is_computed_there():
    one, four = (plan(JOB, Machine(80 * GB, 512 * GB, devices=n)) for n in (1, 4))
    assert four.share(four.live) == 14 * GB // 4 + 2 * 14 * GB // 28
    assert four.parents == one.parents and four.building == one.building
    assert four.buffers == one.buffers and four.resident_peak < one.resident_peak and four.placement == "device"
    deep = replace(JOB, shape=replace(SHAPE, vocabulary=1, layers=80))
    caches = [plan(deep, Machine(80 * GB, 512 * GB, devices=n)).evaluator for n in (1, 4)]
    assert caches[1] - caches[0] == cache_of(replace(deep.shape, layers=22 - 80), 8 * 512, 2)


def test_workers_on_one_memory_share_the_parents_and_nothing_else():
    one, three = (plan(JOB, Machine(10**15, 10**15, unified=True, workers=n)) for n in (1, 3))
    assert three.resident_peak - one.resident_peak == 2 * (one.resident_peak - one.parents + WORKER)
    assert one.tables > 0 and three.streamed_peak - one.streamed_peak == 2 * (one.streamed_peak + WORKER)


def test_workers_with_devices_of_their_own_share_the_host_alone():
    one, eight = (plan(JOB, Machine(80 * GB, 512 * GB, workers=n)) for n in (1, 8))
    assert (eight.resident_peak, eight.streamed_peak) == (one.resident_peak, one.streamed_peak)
    assert eight.loading - one.loading == 7 * (PROCESS + one.tables), "the files are mapped, and lie there once"
    cast = [plan(replace(JOB, live_itemsize=4), Machine(80 * GB, 512 * GB, workers=n)) for n in (1, 8)]
    assert cast[1].loading - cast[0].loading == 7 * (PROCESS + one.tables + 28 * GB), "each worker casts its own copy"


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 200), st.booleans())
def test_more_devices_never_need_more_of_one_and_more_workers_never_less(devices, workers, memory, unified):
    def found(devices, workers):
        there = Machine(memory * GB, 10 * memory * GB, unified, 1 if unified else devices, workers)
        return plan(JOB, there)

    before = found(devices, workers)
    assert found(devices + 1, workers).streamed_peak <= before.streamed_peak
    after = found(devices, workers + 1)
    assert after.streamed_peak >= before.streamed_peak and after.loading >= before.loading


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 100))
def test_more_memory_never_places_parents_farther_away(device, host, more):
    ranks = [None, "disk", "host", "device"]
    before = plan(JOB, Machine(device * GB, host * GB))
    after = plan(JOB, Machine((device + more) * GB, (host + more) * GB))
    assert ranks.index(after.placement) >= ranks.index(before.placement)
    if before.placement is not None:
        assert before.streamed_peak <= usable(before.machine.device)
