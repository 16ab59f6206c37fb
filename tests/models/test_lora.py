"""Adapters read as factors give the weights that PEFT itself merges."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from evomerge.errors import ParentError
from evomerge.models.lora import is_adapter, open_adapter
from evomerge.models.parent import open_parent
from tests.models_pico import make_pico

# PEFT warns of tied embeddings, saved embeddings and Conv1D, which the cases below want, and of transformers' plans.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
CPU = torch.device("cpu")
TOLERANCE = {"rtol": 1e-6, "atol": 1e-6}


@pytest.fixture(scope="session")
def bases(tmp_path_factory) -> dict[str, Path]:
    """Tied and untied llama (linear layers) and gpt2 (Conv1D, biases, square projections)."""
    root = tmp_path_factory.mktemp("bases")
    return {
        "llama": make_pico(root / "llama", seed=0, tie=False),
        "llama-tied": make_pico(root / "llama-tied", seed=0),
        "gpt2": make_gpt2(root / "gpt2", tie=False),
        "gpt2-tied": make_gpt2(root / "gpt2-tied", tie=True),
    }


def make_gpt2(folder: Path, tie: bool) -> Path:
    config = GPT2Config(
        vocab_size=40,
        n_embd=16,
        n_layer=2,
        n_head=4,
        n_positions=16,
        tie_word_embeddings=tie,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def load(base: Path):
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


def make_adapter(base: Path, folder: Path, *, seed: int = 1, dtype=None, save_embeddings="auto", **options) -> Path:
    """An adapter of PEFT whose trainable tensors are all random, saved by PEFT."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # PEFT draws its own start from the global generator
        model = peft.get_peft_model(load(base), peft.LoraConfig(task_type="CAUSAL_LM", **options))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, weight in model.named_parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    model.to(dtype or torch.float32).save_pretrained(folder, save_embedding_layers=save_embeddings)
    return folder


def merged_by_peft(base: Path, adapter: Path):
    return peft.PeftModel.from_pretrained(load(base), adapter).merge_and_unload()


def merged_by_us(base: Path, folder: Path) -> dict[str, torch.Tensor]:
    parent = open_parent(str(base))
    adapter = open_adapter(str(folder), folder, parent)
    return {n: parent.read(n).float() + adapter.delta(n, parent.read(n)) for n in parent.files}


def assert_merges_as_peft(base: Path, folder: Path) -> None:
    live = merged_by_peft(base, folder).state_dict()
    for name, tensor in merged_by_us(base, folder).items():
        torch.testing.assert_close(tensor, live[name], **TOLERANCE, msg=lambda m, name=name: f"{name}: {m}")


LLAMA = ["q_proj", "v_proj", "down_proj"]
GPT2 = ["c_attn", "c_proj", "c_fc"]
CASES = {
    "plain": ("llama", {"target_modules": LLAMA, "r": 4, "lora_alpha": 16}),
    "tied base": ("llama-tied", {"target_modules": LLAMA}),
    "all linear": ("llama", {"target_modules": "all-linear", "r": 3, "lora_alpha": 7}),
    "rslora": ("llama", {"target_modules": LLAMA, "r": 9, "lora_alpha": 5, "use_rslora": True}),
    "patterns": (
        "llama",
        {
            "target_modules": LLAMA,
            "r": 4,
            "lora_alpha": 12,
            "rank_pattern": {r"layers\.1\.self_attn\..*": 2, "q_proj": 3, "^model.layers.0.mlp.down_proj": 5},
            "alpha_pattern": {"v_proj": 40, ".*_proj": 1},
            "use_rslora": True,
        },
    ),
    "embeddings": ("llama", {"target_modules": ["q_proj", "embed_tokens", "lm_head"], "lora_alpha": 3}),
    "modules_to_save": ("llama", {"target_modules": LLAMA, "modules_to_save": ["lm_head", "embed_tokens", "norm"]}),
    "saved embeddings beside": (
        "llama",
        {"target_modules": LLAMA, "modules_to_save": ["embed_tokens"], "save_embeddings": True},
    ),
    "fp16": ("llama", {"target_modules": LLAMA, "dtype": torch.float16}),
    "bf16": ("llama", {"target_modules": LLAMA, "dtype": torch.bfloat16, "modules_to_save": ["norm"]}),
    "one layer": ("llama", {"target_modules": LLAMA, "layers_to_transform": [1]}),
    "Conv1D": ("gpt2", {"target_modules": GPT2, "fan_in_fan_out": True}),
    "Conv1D on a tied base": ("gpt2-tied", {"target_modules": GPT2, "use_rslora": True}),
    "Conv1D and linear": ("gpt2", {"target_modules": [*GPT2, "lm_head"]}),
    "embeddings of gpt2": ("gpt2", {"target_modules": ["c_attn", "wte", "wpe"]}),
    "bias of all": ("gpt2", {"target_modules": ["c_attn"], "bias": "all"}),
    "bias of targets": ("gpt2", {"target_modules": GPT2, "bias": "lora_only"}),
    "bias of all and saved norm": ("gpt2", {"target_modules": ["c_fc"], "bias": "all", "modules_to_save": ["ln_f"]}),
    **{
        f"init {init}": ("llama", {"target_modules": LLAMA, "init_lora_weights": init})
        for init in (False, "gaussian", "orthogonal", "mica", "eva")
    },
}


@pytest.mark.parametrize("case", CASES)
def test_base_plus_delta_is_what_peft_merges(case, bases, tmp_path):
    kind, options = CASES[case]
    assert_merges_as_peft(bases[kind], make_adapter(bases[kind], tmp_path / "adapter", **options))


@pytest.mark.parametrize("case", ["patterns", "Conv1D and linear", "embeddings"])
def test_the_factors_are_the_delta_and_no_larger_than_the_rank(case, bases, tmp_path):
    kind, options = CASES[case]
    base = open_parent(str(bases[kind]))
    folder = make_adapter(bases[kind], tmp_path / "adapter", **options)
    adapter = open_adapter(str(folder), folder, base)
    low_rank = [name for name in base.files if adapter.low_rank(name)]
    assert len(low_rank) >= 4
    for name in low_rank:
        b, a = adapter.factors(name, CPU)
        torch.testing.assert_close(b @ a, adapter.delta(name, base.read(name)), rtol=0, atol=0)
        assert b.shape[1] == a.shape[0] <= 8
        assert b.dtype == a.dtype == torch.float32


def test_tensors_that_are_not_trained_are_untouched(bases, tmp_path):
    base = open_parent(str(bases["llama"]))
    folder = make_adapter(bases["llama"], tmp_path / "adapter", target_modules=["q_proj"])
    adapter = open_adapter(str(folder), folder, base)
    assert {n for n in base.files if adapter.touches(n)} == {n for n in base.files if "q_proj" in n}
    assert not adapter.delta("model.norm.weight", base.read("model.norm.weight")).any()
    with pytest.raises(ParentError, match=r"unknown low-rank tensor 'model\.norm\.weight'"):
        adapter.factors("model.norm.weight", CPU)


def test_a_bf16_base_keeps_the_small_deltas_that_a_bf16_sum_would_lose(bases, tmp_path):
    base = make_pico(tmp_path / "base", seed=0, tie=False, dtype="bfloat16")
    folder = make_adapter(bases["llama"], tmp_path / "adapter", target_modules=["q_proj"], lora_alpha=1, r=32)
    name = "model.layers.0.self_attn.q_proj.weight"
    over_bf16, over_float32 = (
        open_adapter(str(folder), folder, open_parent(str(b))).delta(name, open_parent(str(b)).read(name))
        for b in (base, bases["llama"])
    )
    assert torch.equal(over_bf16, over_float32)
    start = open_parent(str(base)).read(name)
    lost = (start.float() + over_bf16).bfloat16().float() - start.float() - over_bf16
    assert lost.norm() > 0.1 * over_bf16.norm()


@pytest.mark.parametrize("kind", ["llama-tied", "gpt2-tied"])
def test_copies_of_embeddings_that_were_not_trained_are_no_change(kind, bases, tmp_path):
    options = {"target_modules": LLAMA if "llama" in kind else GPT2, "save_embeddings": True}
    folder = make_adapter(bases[kind], tmp_path / "adapter", dtype=torch.float16, **options)
    assert any("embed" in key or "wte" in key for key in load_file(folder / "adapter_model.safetensors"))
    adapter = open_adapter(str(folder), folder, open_parent(str(bases[kind])))
    assert not [n for n in adapter.changes if "embed" in n or "wte" in n]


def test_embeddings_trained_tied_change_the_one_tensor_once(bases, tmp_path):
    """PEFT's own merge adds the delta twice here; the adapted model before merging is the reference."""
    targets = {"target_modules": ["q_proj", "embed_tokens", "lm_head"], "ensure_weight_tying": True}
    folder = make_adapter(bases["llama-tied"], tmp_path / "adapter", **targets)
    adapted = peft.PeftModel.from_pretrained(load(bases["llama-tied"]), folder).eval()
    ours = load(bases["llama-tied"])
    ours.load_state_dict(merged_by_us(bases["llama-tied"], folder), strict=False)
    ids = torch.tensor([[1, 2, 3, 250]])
    torch.testing.assert_close(ours(ids).logits, adapted(ids).logits, rtol=1e-4, atol=1e-4)


def test_embeddings_saved_whole_and_tied_change_the_one_tensor(bases, tmp_path):
    options = {"target_modules": LLAMA, "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}
    folder = make_adapter(bases["llama-tied"], tmp_path / "adapter", **options)
    assert_merges_as_peft(bases["llama-tied"], folder)


def test_a_pissa_adapter_that_peft_converted_is_read_as_lora(bases, tmp_path):
    torch.manual_seed(0)
    model = peft.get_peft_model(load(bases["llama"]), peft.LoraConfig(target_modules=LLAMA, init_lora_weights="pissa"))
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(tmp_path / "start")
    model.peft_config["default"].init_lora_weights = "pissa"
    with torch.no_grad():
        for weight in (w for w in model.parameters() if w.requires_grad):
            weight.add_(0.1)
    model.save_pretrained(tmp_path / "adapter", path_initial_model_for_weight_conversion=str(tmp_path / "start"))
    trained = model.merge_and_unload().state_dict()
    for name, tensor in merged_by_us(bases["llama"], tmp_path / "adapter").items():
        torch.testing.assert_close(tensor, trained[name], rtol=1e-4, atol=1e-5)


def test_names_without_the_models_prefix_are_the_same_tensors(bases, tmp_path):
    """Files of gpt2's first checkpoints say h.0..., the live model transformer.h.0..."""
    folder = make_adapter(bases["gpt2"], tmp_path / "adapter", target_modules=GPT2)
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_bytes((bases["gpt2"] / "config.json").read_bytes())
    tensors = load_file(bases["gpt2"] / "model.safetensors")
    save_file({n.removeprefix("transformer."): t for n, t in tensors.items()}, bare / "model.safetensors")
    with_prefix = merged_by_us(bases["gpt2"], folder)
    for name, tensor in merged_by_us(bare, folder).items():
        assert torch.equal(tensor, with_prefix[name if name in with_prefix else f"transformer.{name}"])


# ------------------------------------------------------------------------------------------------ name and digest


@pytest.fixture
def adapter(bases, tmp_path) -> Path:
    return make_adapter(bases["llama"], tmp_path / "one", target_modules=LLAMA, lora_alpha=8)


def digest(folder: Path, bases) -> str:
    return open_adapter(str(folder), folder, open_parent(str(bases["llama"]))).digest


def copy(folder: Path, to: Path, *, metadata=None, change=lambda tensors: None, **config) -> Path:
    """The adapter in another folder, with other metadata, tensors or settings."""
    to.mkdir()
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, to / "adapter_model.safetensors", metadata=metadata)
    old = json.loads((folder / "adapter_config.json").read_text())
    (to / "adapter_config.json").write_text(json.dumps({**old, **config}))
    return to


def test_the_digest_names_content_and_not_folder_metadata_or_training(adapter, bases, tmp_path):
    other = copy(adapter, tmp_path / "two", metadata={"by": "another"}, lora_dropout=0.5, base_model_name_or_path="x")
    assert digest(other, bases) == digest(adapter, bases)
    assert len(digest(adapter, bases)) == 16


@pytest.mark.parametrize("config", [{"lora_alpha": 9}, {"use_rslora": True}, {"alpha_pattern": {"0.*q_proj": 1}}])
def test_another_scale_is_another_digest(config, adapter, bases, tmp_path):
    assert digest(copy(adapter, tmp_path / "two", **config), bases) != digest(adapter, bases)


def test_one_changed_entry_is_another_digest(adapter, bases, tmp_path):
    def nudge(tensors):
        tensors["base_model.model.model.layers.1.mlp.down_proj.lora_A.weight"][0, 0] += 1e-6

    assert digest(copy(adapter, tmp_path / "two", change=nudge), bases) != digest(adapter, bases)


def test_an_adapter_is_told_from_a_model_and_travels_to_workers(adapter, bases):
    assert is_adapter(adapter)
    assert not is_adapter(bases["llama"])
    base = open_parent(str(bases["llama"]))
    here = open_adapter(str(adapter), adapter, base)
    there = pickle.loads(pickle.dumps(here))
    name = next(iter(here.changes))
    assert torch.equal(there.delta(name, base.read(name)), here.delta(name, base.read(name)))


def test_a_hub_id_keeps_its_name_and_a_folder_its_place(adapter, bases):
    base = open_parent(str(bases["llama"]))
    assert open_adapter("someone/adapter", adapter, base).name == "someone/adapter"
    assert open_adapter(str(adapter), adapter, base).name == str(adapter)
