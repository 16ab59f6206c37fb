"""The transformers backend: answers in order, plain settings, no memory of old weights."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.backends.hf import HFBackend
from evomerge.errors import ConfigError, MergeError
from evomerge.models.family import open_family
from evomerge.types import Blend, Recipe, Slot
from tests.backends.asking import choices
from tests.models_pico import make_pico


def ask(kind: str, *arguments: object) -> Instance:
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


REQUESTS = [
    ask("loglikelihood", "one two", " three"),
    ask("loglikelihood_rolling", "a longer text that stands alone"),
    ask("generate_until", "two and", {"until": ["\n"], "max_gen_toks": 5, "do_sample": False}),
    ask("loglikelihood", "one", " twelve"),
    ask("loglikelihood_rolling", "short"),
]


@pytest.fixture(scope="module")
def backend(base_folder: Path) -> HFBackend:
    return wrapped(base_folder)


def wrapped(folder: Path, **settings: Any) -> HFBackend:
    model = AutoModelForCausalLM.from_pretrained(folder)
    return HFBackend(**settings).wrap(model, AutoTokenizer.from_pretrained(folder))


def test_answers_come_in_the_order_of_mixed_requests(backend: HFBackend):
    kinds = [type(a) for a in backend.answer(REQUESTS)]
    assert kinds == [tuple, float, str, tuple, float]
    assert backend.answer(REQUESTS[::-1]) == backend.answer(REQUESTS)[::-1]


def test_a_loglikelihood_is_the_models_own(backend: HFBackend):
    context, text = "one two", " three"
    ids = torch.tensor([backend.tokenizer.encode(context + text)])
    with torch.no_grad():
        logprobs = backend.lm.model(ids).logits[0].log_softmax(-1)
    start = len(backend.tokenizer.encode(context))
    own = sum(logprobs[k - 1, ids[0, k]].item() for k in range(start, ids.shape[1]))
    assert backend.answer([ask("loglikelihood", context, text)])[0][0] == pytest.approx(own, rel=1e-5)


def test_weights_written_in_place_answer_as_a_fresh_model(base_folder: Path, expert_folder: Path):
    live, fresh = wrapped(base_folder), wrapped(expert_folder)
    before = live.answer(REQUESTS)
    parameters = dict(live.lm.model.named_parameters())
    with torch.no_grad():
        for name, tensor in load_file(expert_folder / "model.safetensors").items():
            parameters[name].copy_(tensor)
    assert live.answer(REQUESTS) == fresh.answer(REQUESTS) != before


def test_a_recipe_is_built_into_the_open_model(base_folder: Path, expert_folder: Path):
    family = open_family([str(expert_folder)], str(base_folder))
    (expert,) = family.parents
    copy = {"*": Blend("passthrough", {})}
    slots = tuple(Slot(((0, "model.layers", block),), copy) for block in range(2))
    backend = HFBackend(batch_size=3)
    with pytest.raises(ConfigError, match="call open"):
        backend.write(Recipe((expert.digest,), None, slots, copy))
    state = torch.get_rng_state()
    backend.open(family, torch.device("cpu"), "float32")
    assert torch.equal(torch.get_rng_state(), state)
    asked = [*REQUESTS, *choices(5, items=2)]  # with examples, whose cache must not outlive the weights
    assert backend.answer(asked) == wrapped(base_folder, batch_size=3).answer(asked)
    backend.write(Recipe((expert.digest,), None, slots, copy))
    assert backend.lm.shared.prefixes._kept == {}
    assert backend.answer(asked) == wrapped(expert_folder, batch_size=3).answer(asked)


@pytest.mark.parametrize("share_prefix", [True, False])
def test_a_lowered_batch_size_takes_effect(base_folder: Path, share_prefix: bool):
    backend, sizes = wrapped(base_folder, share_prefix=share_prefix), []
    backend.lm.model.register_forward_pre_hook(
        lambda m, args, kw: sizes.append(len(args[0] if args else kw["input_ids"])), with_kwargs=True
    )
    questions = [ask("loglikelihood", f"{k} question", f" {k}") for k in range(8)]
    for size in (8, 3):
        backend.batch_size = size
        backend.answer(questions)
    assert sizes == [8, 3, 3, 2]


def test_a_backend_travels_without_its_model(base_folder: Path):
    backend = wrapped(base_folder, batch_size=5, max_length=100, share_prefix=False)
    parcel = pickle.dumps(backend)
    again = pickle.loads(parcel)
    assert len(parcel) < 500
    assert (again.batch_size, again.max_length, again.share_prefix) == (5, 100, False)
    with pytest.raises(ConfigError, match=r"holds no model yet"):
        again.answer(REQUESTS)


def test_tokens_are_counted_with_their_padding(base_folder: Path):
    backend = wrapped(base_folder, share_prefix=False)
    assert backend.tokens_forwarded == 0
    backend.answer([ask("loglikelihood", "abc", "de"), ask("loglikelihood", "f", "g")])  # the last token is not read
    assert backend.tokens_forwarded == 2 * 4
    backend.answer([ask("generate_until", "abcde", {"until": ["\n"], "max_gen_toks": 3, "do_sample": False})])
    assert 8 + 5 <= backend.tokens_forwarded <= 8 + 5 + 2


@pytest.mark.parametrize("batch_size", ["auto", 0, 2.0, True])
def test_batch_size_is_a_whole_number(batch_size: object):
    with pytest.raises(ConfigError, match=r"backend.batch_size is"):
        HFBackend(batch_size=batch_size)


def test_max_length_bounds_the_window(base_folder: Path):
    assert wrapped(base_folder, max_length=16).lm.max_length == 16
    with pytest.raises(ConfigError, match=r"at least 2 tokens"):
        HFBackend(max_length=1)


def test_the_chat_template_is_the_tokenizers(backend: HFBackend):
    turn = [{"role": "user", "content": "hi"}]
    assert backend.apply_chat_template(turn) == "<|user|>hi\n<|assistant|>"


def test_wrapping_a_model_is_silent(base_folder: Path, capfd: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base_folder), AutoTokenizer.from_pretrained(base_folder)
    capfd.readouterr()
    caplog.clear()
    HFBackend().wrap(model, tokenizer)
    assert capfd.readouterr() == ("", "") and not caplog.records


def test_pico_models_are_reproducible_and_experts_near_their_base(
    base_folder: Path, expert_folder: Path, tmp_path: Path
):
    state = torch.get_rng_state()
    again = load_file(make_pico(tmp_path / "again", seed=1) / "model.safetensors")
    assert torch.equal(torch.get_rng_state(), state)
    base, expert = (load_file(f / "model.safetensors") for f in (base_folder, expert_folder))
    assert all(torch.equal(base[n], again[n]) for n in base)
    assert all(0 < (expert[n] - base[n]).std() < 0.1 for n in base)
    assert "lm_head.weight" not in base
    untied = load_file(make_pico(tmp_path / "untied", seed=1, tie=False, dtype="bfloat16") / "model.safetensors")
    assert untied["lm_head.weight"].dtype == torch.bfloat16


def test_a_model_that_answers_nan_is_a_failed_merge(base_folder: Path):
    broken = wrapped(base_folder)
    with torch.no_grad():
        next(broken.lm.model.parameters()).fill_(float("nan"))
    for kind in (ask("loglikelihood", "one", " two"), ask("loglikelihood_rolling", "text")):
        with pytest.raises(MergeError, match="answers with NaN"):
            broken.answer([kind])
