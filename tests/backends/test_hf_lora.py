"""Candidates served together over one base answer as the models they mean, and none knows of the others."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.backends import lora_hooks
from evomerge.backends.hf import HFBackend
from evomerge.backends.hf_lora import HFLora
from evomerge.errors import ConfigError, MergeError, TaskError
from evomerge.models.family import Family, open_family
from evomerge.tasks.distributions import at_prompts
from tests.backends.adapted import REQUESTS, added, answers_of, blended, logliks, make_adapter, texts
from tests.backends.asking import ask, choices, make
from tests.models_pico import make_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # PEFT's, of tied embeddings
CPU = torch.device("cpu")
WEIGHTS = [(1.0, 0.0), (0.5, 0.5), (-0.7, 1.3), (0.2, 0.9)]


@pytest.fixture(scope="module")
def family(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return pair(base_folder, tmp_path_factory.mktemp("adapters"), ["q_proj", "v_proj", "down_proj"])


def pair(base: Path, root: Path, modules: Any, **options: Any) -> Family:
    """Two adapters, the second of them over all linear layers but the head."""
    one = make_adapter(base, root / "one", seed=1, r=2, target_modules=modules, **options)
    two = make_adapter(base, root / "two", seed=2, r=3, target_modules="all-linear")
    return open_family([str(one), str(two)], str(base))


def opened(family: Family, dtype: str = "float32", **settings: Any) -> HFLora:
    backend = HFLora(**{"batch_size": 8, "together": 4, **settings})
    backend.open(family, CPU, dtype)
    return backend


@pytest.fixture(scope="module")
def backend(family: Family) -> HFLora:
    return opened(family)


@pytest.fixture(scope="module")
def recipes(family: Family) -> dict[int, Any]:
    return {slot: added(family, *weights) for slot, weights in enumerate(WEIGHTS)}


@pytest.fixture(scope="module")
def everyone(backend: HFLora, recipes: dict[int, Any]) -> dict[int, list[Any]]:
    return answers_of(backend, recipes)


def test_each_slot_answers_as_its_merged_weights(family: Family, recipes: dict[int, Any], everyone: dict[int, Any]):
    built = HFBackend(batch_size=8)
    built.open(family, CPU, "float32")
    for slot, recipe in recipes.items():
        built.write(recipe)
        wanted = built.answer(REQUESTS)
        assert logliks(everyone[slot]) == pytest.approx(logliks(wanted), rel=1e-5)
        assert texts(everyone[slot]) == texts(wanted)
    assert len({str(texts(answers)) for answers in everyone.values()}) == len(recipes)


@settings(max_examples=4, deadline=None)
@given(present=st.sets(st.integers(0, 3), min_size=1, max_size=3), other=st.integers(0, 3))
def test_no_bit_of_an_answer_depends_on_who_else_is_there(
    backend: HFLora, family: Family, recipes: dict[int, Any], everyone: dict[int, Any], present: set[int], other: int
):
    company = {slot: recipes[slot] for slot in sorted(present)}
    if other not in present:
        company[other] = added(family, 3.0, -2.0)
    found = answers_of(backend, company)
    assert all(found[slot] == everyone[slot] for slot in present)


def test_a_candidate_whose_weights_overflow_spoils_nobody_else(
    backend: HFLora, family: Family, recipes: dict[int, Any], everyone: dict[int, Any]
):
    backend.write_together({0: recipes[0], 1: added(family, 1e30, 1e30)})
    assert backend.answer(REQUESTS) == everyone[0]
    backend.turn_to(1)
    with pytest.raises(MergeError, match="answers with NaN"):
        backend.answer(REQUESTS)


def test_write_alone_is_slot_0_of_a_population(
    backend: HFLora, recipes: dict[int, Any], everyone: dict[int, list[Any]]
):
    backend.write(recipes[0])
    assert backend.answer(REQUESTS) == everyone[0]


def test_a_candidate_without_slots_beside_it_reads_no_tokens_for_them(
    backend: HFLora, recipes: dict[int, Any], everyone: dict[int, list[Any]]
):
    def read(write: Any) -> int:
        write(recipes[0])
        before = backend.tokens_forwarded
        assert logliks(backend.answer(REQUESTS)) == pytest.approx(logliks(everyone[0]), rel=1e-5)
        return backend.tokens_forwarded - before

    assert read(backend.write_alone) < 0.5 * read(backend.write)


def test_one_pass_answers_for_every_slot_and_a_write_forgets(
    backend: HFLora, recipes: dict[int, Any], everyone: dict[int, list[Any]]
):
    assert answers_of(backend, recipes) == everyone
    before = backend.tokens_forwarded
    for slot in (3, 1):
        backend.turn_to(slot)
        assert backend.answer(REQUESTS) == everyone[slot]
    assert backend.tokens_forwarded == before
    backend.write_together({3: recipes[0]})
    assert logliks(backend.answer(REQUESTS)) == pytest.approx(logliks(everyone[0]), rel=1e-5)


def test_the_base_is_never_written(base_folder: Path, backend: HFLora, everyone: dict[int, list[Any]]):
    own = HFBackend(batch_size=8)
    own.open(open_family([str(base_folder)], str(base_folder)), CPU, "float32")
    live = backend.lm.model.state_dict()
    assert all(torch.equal(tensor, live[name]) for name, tensor in own.lm.model.state_dict().items())


def test_passes_have_batch_size_rows_over_all_slots(backend: HFLora, recipes: dict[int, Any]):
    sizes: list[int] = []
    seen = backend.lm.model.register_forward_pre_hook(
        lambda m, args, kw: sizes.append(len(args[0] if args else kw["input_ids"])), with_kwargs=True
    )
    backend.write_together(recipes)
    backend.answer(REQUESTS)
    largest, backend.batch_size = max(sizes), 2  # as after memory ran out: fewer than slots
    sizes.clear()
    backend.answer(REQUESTS)
    seen.remove()
    backend.batch_size = 8
    assert (largest, max(sizes)) == (8, 4)


def test_outside_of_answer_every_row_is_of_the_candidate_whose_turn_it_is(
    backend: HFLora, family: Family, recipes: dict[int, Any]
):
    """As a divergence asks the live model."""
    built = HFBackend(batch_size=8)
    built.open(family, CPU, "float32")
    built.write(recipes[2])
    backend.write_together(recipes)
    backend.turn_to(2)
    found, wanted = (at_prompts(b, ["one", "two three", "4"], "all", lambda _, p: p) for b in (backend, built))
    for ours, own in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, own, rtol=1e-4, atol=1e-4)


def test_bfloat16_keeps_coefficients_that_are_nearer_than_its_own_steps(family: Family):
    live = opened(family, "bfloat16")
    near = {0: added(family, 1.0, 0.5), 1: added(family, 1.001, 0.5)}
    found = answers_of(live, near)
    assert torch.tensor(1.001, dtype=torch.bfloat16) == 1 and logliks(found[0]) != logliks(found[1])
    built = HFBackend(batch_size=8)
    built.open(family, CPU, "float32")
    built.write(near[0])
    assert logliks(found[0]) == pytest.approx(logliks(built.answer(REQUESTS)), rel=0.05)


KINDS = {
    "untied, head and embeddings": ("untied", {"modules": ["q_proj", "embed_tokens", "lm_head"]}),
    "tied embeddings": ("llama", {"modules": ["embed_tokens", "lm_head", "q_proj"], "ensure_weight_tying": True}),
    "Conv1D": ("learned_positions", {"modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_modules_answer_as_their_merged_weights_too(kind: str, tmp_path: Path):
    model, options = KINDS[kind]
    made = make(model)
    made.save_pretrained(tmp_path / "base")
    make_tokenizer().save_pretrained(tmp_path / "base")
    family = pair(tmp_path / "base", tmp_path, **options)
    requests = [*choices(2, items=2), ask("loglikelihood_rolling", "a text"), *REQUESTS[-12:-9]]
    found = answers_of(opened(family), {1: added(family, 0.6, -0.4)}, requests)[1]
    built = HFBackend(batch_size=8)
    built.open(family, CPU, "float32")
    built.write(added(family, 0.6, -0.4))
    wanted = built.answer(requests)
    assert logliks(found) == pytest.approx(logliks(wanted), rel=1e-4)
    assert texts(found) == texts(wanted)


def test_rows_wider_than_a_window_are_read_without_a_gap(tmp_path: Path):
    make("wide_window").save_pretrained(tmp_path / "base")
    make_tokenizer().save_pretrained(tmp_path / "base")
    family = pair(tmp_path / "base", tmp_path, ["q_proj"])
    requests = choices(9, items=3)
    assert len(requests[0].args[0]) > 150
    found = answers_of(opened(family), {1: added(family, 0.6, -0.4)}, requests)[1]
    built = HFBackend(batch_size=8)
    built.open(family, CPU, "float32")
    built.write(added(family, 0.6, -0.4))
    assert logliks(found) == pytest.approx(logliks(built.answer(requests)), rel=1e-5)


def test_a_model_whose_passes_cannot_be_shared_is_refused(tmp_path: Path):
    make("narrow_window").save_pretrained(tmp_path / "base")
    make_tokenizer().save_pretrained(tmp_path / "base")
    with pytest.raises(ConfigError, match=r"cannot share this model's passes: .* see 8 tokens only\. Set backend=hf"):
        opened(pair(tmp_path / "base", tmp_path, ["q_proj"]))


def test_experts_are_refused_for_their_routers(tmp_path: Path):
    make("experts").save_pretrained(tmp_path / "base")
    make_tokenizer().save_pretrained(tmp_path / "base")
    one = make_adapter(tmp_path / "base", tmp_path / "one", seed=1, target_modules=["q_proj"])
    with pytest.raises(ConfigError, match=r"routers .* Set backend=hf"):
        HFLora().check(open_family([str(one)], str(tmp_path / "base")))


def test_a_model_that_uses_a_weight_past_its_module_is_refused(family: Family, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lora_hooks.Change, "__call__", lambda self, module, args, output: output)
    with pytest.raises(ConfigError, match=r"logits with adapters added differ .* Set backend=hf"):
        opened(family)


def test_methods_that_do_more_than_add_are_refused_before_anything_is_opened(family: Family, recipes: dict[int, Any]):
    backend = HFLora()
    backend.check(family, recipes.values())
    with pytest.raises(ConfigError, match="by 'ties'"):
        backend.check(family, [*recipes.values(), blended(family, "ties")])


def test_an_answer_longer_than_the_model_reads_is_the_tasks_fault(family: Family):
    with pytest.raises(TaskError, match="at most 16 to score"):
        opened(family, max_length=16).answer([ask("loglikelihood", "a", "b" * 17)])


@pytest.mark.parametrize("together", [0, 9, 2.0, True])
def test_together_is_a_whole_number_up_to_the_batch_size(together: Any):
    with pytest.raises(ConfigError, match=r"backend\.together is"):
        HFLora(batch_size=8, together=together)


def test_a_backend_travels_without_its_model_and_says_what_it_does(backend: HFLora, recipes: dict[int, Any]):
    parcel = pickle.dumps(backend)
    again = pickle.loads(parcel)
    assert len(parcel) < 500
    assert (again.batch_size, again.max_length, again.together) == (8, None, 4)
    with pytest.raises(ConfigError, match=r"call open"):
        again.write(recipes[0])
    assert backend.notes == ("candidates were served as adapters over one base, 4 at a time",)


def test_tokenizer_and_template_are_the_bases(backend: HFLora):
    turn = [{"role": "user", "content": "hi"}]
    assert backend.apply_chat_template(turn) == "<|user|>hi\n<|assistant|>"
    assert backend.tokenizer.encode("ab") == make_tokenizer().encode("ab")
