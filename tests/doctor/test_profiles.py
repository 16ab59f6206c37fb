"""Well-known models on well-known cards: parameters, bytes and verdicts against arithmetic done by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evomerge.doctor.profiles import MACHINES, MODELS, largest_batch, machine, plans, shape, typical
from evomerge.errors import ConfigError
from evomerge.memory.plan import plan

GB = 10**9


def by_hand(name: str) -> int:
    """Entries of a llama-like model: embeddings, head, attention with grouped heads, gated MLP, norms."""
    c = MODELS[name].settings
    hidden, head = c["hidden_size"], c["hidden_size"] // c["num_attention_heads"]
    keys = c["num_key_value_heads"] * head
    biases = hidden + 2 * keys if MODELS[name].kind == "Qwen2Config" else 0
    attention = 2 * hidden * hidden + 2 * hidden * keys + biases
    block = attention + 3 * hidden * c["intermediate_size"] + 2 * hidden
    return 2 * c["vocab_size"] * hidden + c["num_hidden_layers"] * block + hidden


@pytest.mark.parametrize(
    "name, published", [("7B", 7.6e9), ("8B", 8.03e9), ("14B", 14.8e9), ("32B", 32.8e9), ("70B", 70.6e9)]
)
def test_parameters_are_those_of_the_public_models(name, published):
    assert shape(name).parameters == by_hand(name)
    assert shape(name).parameters == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize("name", MODELS)
def test_a_base_and_three_parents_in_bfloat16_are_eight_bytes_a_parameter(name):
    found = plan(typical(name), machine("80gb"))
    assert found.parents == 8 * by_hand(name) and found.live == 2 * by_hand(name)


def test_the_logits_of_a_batch_of_prompts_are_held_three_times():
    found = plan(typical("7B"), machine("80gb"))
    assert found.evaluator == 3 * 32 * 1024 * 152064 * 2  # 29.9 GB: twice the model itself


def test_the_cache_of_the_70b_model_is_320_kib_a_token():
    found = shape("70B")
    assert 2 * found.layers * found.kv_heads * found.head_dim * 2 == 320 * 1024


@pytest.mark.parametrize(
    "profile, name, placement, batch_size",
    [
        ("24gb", "7B", "disk", 4),  # 15.2 of 24 GB for the model; 60.9 GB of parents do not fit 64 GB of host memory
        ("24gb", "14B", None, 32),
        ("24gb", "70B", None, 32),
        ("80gb", "7B", "host", 32),  # 76 GB of weights leave no room for logits
        ("80gb", "14B", "host", 32),
        ("80gb", "70B", None, 32),  # the model alone takes 141 GB
        ("8x80gb", "7B", "host", 32),
        ("8x80gb", "70B", "disk", 32),  # of two workers, who share what pinned copies would hold twice
    ],
)
def test_verdicts(profile, name, placement, batch_size):
    found = plans(profile)[name]
    assert (found.placement, found.job.load.batch_size) == (placement, batch_size)


def test_the_batch_is_halved_no_further_than_needed():
    found = plan(typical("7B"), MACHINES["24gb"])
    fitting = largest_batch(found).job
    twice = replace(fitting, load=replace(fitting.load, batch_size=2 * fitting.load.batch_size))
    assert plan(fitting, MACHINES["24gb"]).placement is not None
    assert plan(twice, MACHINES["24gb"]).placement is None


def test_eight_devices_are_eight_workers_or_as_few_as_a_model_needs():
    crews = {name: found.machine for name, found in plans("8x80gb").items()}
    assert (crews["7B"].workers, crews["7B"].devices) == (8, 1)
    assert crews["70B"].devices > 1 and crews["70B"].workers * crews["70B"].devices == 8


def test_an_unknown_profile_names_the_known():
    with pytest.raises(ConfigError, match="Did you mean '24gb'"):
        machine("24g")
