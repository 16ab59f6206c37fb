"""Ranks and scales are those that PEFT gives to each module; a config that says more than LoRA is refused by name."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig
from peft.utils.other import get_pattern_key

from evomerge.errors import ParentError
from evomerge.models import lora_config

MODULES = [f"model.layers.{i}.{part}_proj" for i in (1, 11) for part in ("self_attn.q", "self_attn.v", "mlp.q")]
PATTERNS = ["q_proj", "proj", ".*proj", r"layers\.1\..*", "^model.layers.1.mlp.q_proj", "1.mlp.q_proj", "^q_proj", ".*"]
patterns = st.dictionaries(st.sampled_from(PATTERNS), st.integers(1, 64), max_size=4)


@given(
    module=st.sampled_from(MODULES),
    ranks=patterns,
    alphas=patterns,
    rslora=st.booleans(),
)
def test_rank_and_scale_are_those_of_peft(module, ranks, alphas, rslora):
    config = {"r": 4, "lora_alpha": 12, "rank_pattern": ranks, "alpha_pattern": alphas, "use_rslora": rslora}
    r = ranks.get(get_pattern_key(ranks.keys(), module), 4)
    alpha = alphas.get(get_pattern_key(alphas.keys(), module), 12)
    assert lora_config.rank(config, module) == r
    assert lora_config.scale(config, module) == pytest.approx(alpha / (r**0.5 if rslora else r), rel=1e-12)


def test_what_a_config_leaves_out_is_pefts_default():
    default = LoraConfig()
    assert lora_config.rank({}, "q_proj") == default.r
    assert lora_config.scale({}, "q_proj") == default.lora_alpha / default.r


def test_every_option_of_peft_is_either_known_or_refused():
    options = {f.name for f in dataclasses.fields(LoraConfig)}
    assert options <= lora_config.KNOWN | lora_config.REFUSED.keys()
    assert not lora_config.KNOWN & lora_config.REFUSED.keys()


REFUSED = {
    "another method": ({"peft_type": "IA3"}, r"peft_type 'IA3'; wanted 'LORA'.*merge_and_unload"),
    "no method": ({"peft_type": None}, "peft_type None; wanted 'LORA'"),
    "DoRA": ({"use_dora": True}, "use_dora=True: DoRA rescales.*merge_and_unload"),
    "bias of a factor": ({"lora_bias": True}, "lora_bias=True"),
    "token rows": ({"trainable_token_indices": [3]}, r"trainable_token_indices=\[3\]"),
    "parameters": ({"target_parameters": ["experts.up"]}, "target_parameters="),
    "repeated blocks": ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication="),
    "aLoRA": ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens="),
    "Arrow": ({"arrow_config": {"top_k": 3}}, "arrow_config="),
    "QA-LoRA": ({"use_qalora": True}, "use_qalora=True"),
    "BD-LoRA": ({"use_bdlora": {"nblocks": 2}}, "use_bdlora="),
    "KaSA": ({"kasa_config": {"beta": 1}}, "kasa_config="),
    "MonteCLoRA": ({"monteclora_config": {"num_samples": 8}}, "monteclora_config="),
    "an option of tomorrow": ({"use_xlora": True}, "use_xlora=True, an option not known here"),
    **{
        init: ({"init_lora_weights": init}, f"init_lora_weights='{init}'.*path_initial_model_for_weight_conversion")
        for init in ("pissa", "pissa_niter_4", "olora", "OLoRA", "corda", "loftq", "lora_ga", "unheard_of")
    },
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_plain_low_rank_addition_is_refused(case):
    config, message = REFUSED[case]
    lora_config.check_plain({"peft_type": "LORA"}, "one")
    with pytest.raises(ParentError, match=message):
        lora_config.check_plain({"peft_type": "LORA", **config}, "one")


@pytest.mark.parametrize("init", lora_config.PLAIN_INITS)
def test_starts_that_leave_the_base_alone_are_plain(init):
    lora_config.check_plain({"peft_type": "LORA", "init_lora_weights": init}, "one")


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_2", "olora"])
def test_the_refused_starts_change_the_base(init):
    from peft import get_peft_model

    model = torch.nn.Sequential(torch.nn.Linear(6, 5, bias=False))
    before = model[0].weight.detach().clone()
    after = get_peft_model(model, LoraConfig(r=2, target_modules=["0"], init_lora_weights=init))
    assert not torch.allclose(after.base_model.model[0].base_layer.weight, before, atol=1e-2)


NUMBERS = {
    "no rank": ({"r": 0}, "rank 0 to 'q_proj'"),
    "a broken rank": ({"r": 2.5}, "rank 2.5"),
    "a rank as text": ({"rank_pattern": {"q_proj": "8"}}, "rank '8'"),
    "alpha as text": ({"lora_alpha": "16"}, "lora_alpha '16' to 'q_proj'"),
    "infinite alpha": ({"alpha_pattern": {"q_proj": float("inf")}}, "lora_alpha inf"),
    "no pattern": ({"rank_pattern": {"(": 2}}, r"pattern '\(', no regular expression"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_a_rank_or_scale_that_is_none_is_told(case):
    config, message = NUMBERS[case]
    with pytest.raises(ParentError, match=message):
        lora_config.scale(config, "q_proj")


FILES = {"missing": (None, "has no adapter_config"), "broken": ("{", "is not JSON"), "a list": ("[]", "holds a list")}


@pytest.mark.parametrize("case", FILES)
def test_a_config_that_cannot_be_read_is_told(case, tmp_path):
    text, message = FILES[case]
    if text is not None:
        (tmp_path / lora_config.CONFIG).write_text(text)
    with pytest.raises(ParentError, match=message):
        lora_config.read_config(tmp_path)


def test_a_config_is_read_as_it_is(tmp_path):
    (tmp_path / lora_config.CONFIG).write_text(json.dumps({"r": 3}))
    assert lora_config.read_config(tmp_path) == {"r": 3}
