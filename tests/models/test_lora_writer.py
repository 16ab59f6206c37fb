"""What is written is an adapter that PEFT, and we, read as the same change."""

from __future__ import annotations

import json
import stat

import peft
import pytest
import torch

from evomerge.errors import MergeError
from evomerge.models.lora import open_adapter
from evomerge.models.lora_writer import write_adapter
from evomerge.models.parent import open_parent
from tests.models.test_lora import bases, load  # noqa: F401  (a fixture)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
LLAMA_MLP = "model.layers.{}.mlp.up_proj.weight"
GPT2 = "transformer.h.{}."


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def change(base, names: dict[str, int], whole: list[str]):
    """Random factors of the given ranks, and random tensors to stand whole."""
    shapes = {name: base.shapes[name] for name in (*names, *whole)}
    factors = {n: (draw(shapes[n][0], r), draw(r, shapes[n][1])) for n, r in names.items()}
    return factors, {n: draw(*shapes[n]) for n in whole}


CASES = {
    "linear": ("llama", {LLAMA_MLP.format(0): 3, LLAMA_MLP.format(1): 3}, []),
    "some blocks and ranks": (
        "llama",
        {
            LLAMA_MLP.format(1): 3,
            "model.layers.0.self_attn.q_proj.weight": 5,
            "model.layers.1.self_attn.q_proj.weight": 3,
        },
        [],
    ),
    "embeddings and head": ("llama", {"model.embed_tokens.weight": 2, "lm_head.weight": 4}, []),
    "norms and embeddings whole": (
        "llama",
        {LLAMA_MLP.format(0): 3},
        ["model.norm.weight", "model.layers.1.input_layernorm.weight", "model.embed_tokens.weight"],
    ),
    "tied embeddings whole": ("llama-tied", {LLAMA_MLP.format(0): 3}, ["model.embed_tokens.weight"]),
    "Conv1D": ("gpt2", {GPT2.format(b) + m + ".weight": 4 for b in (0, 1) for m in ("attn.c_attn", "attn.c_proj")}, []),
    "Conv1D and linear": ("gpt2", {GPT2.format(0) + "mlp.c_fc.weight": 4, "lm_head.weight": 2}, []),
    "embeddings of gpt2": ("gpt2", {"transformer.wpe.weight": 4, "transformer.wte.weight": 4}, []),
    "biases and half a norm": (
        "gpt2-tied",
        {GPT2.format(0) + "attn.c_proj.weight": 4},
        [GPT2.format(0) + "attn.c_proj.bias", GPT2.format(1) + "attn.c_proj.bias", "transformer.ln_f.bias"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_peft_merges_what_was_written(case, bases, tmp_path):  # noqa: F811
    kind, ranks, names = CASES[case]
    base = open_parent(str(bases[kind]))
    factors, whole = change(base, ranks, names)
    write_adapter(tmp_path / "out", factors, base=base, base_name=base.name, whole=whole)
    live = peft.PeftModel.from_pretrained(load(bases[kind]), tmp_path / "out").merge_and_unload().state_dict()
    ours = open_adapter("out", tmp_path / "out", base)
    for name in base.files:
        start = base.read(name)
        wanted = whole.get(name, start + torch.matmul(*factors[name]) if name in factors else start)
        torch.testing.assert_close(live[name], wanted, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(start + ours.delta(name, start), wanted, rtol=1e-6, atol=1e-6)


def test_the_config_is_short_where_all_blocks_are_changed_and_of_scale_one(bases, tmp_path):  # noqa: F811
    base = open_parent(str(bases["llama"]))
    ranks = {LLAMA_MLP.format(0): 3, LLAMA_MLP.format(1): 3, "model.layers.1.self_attn.q_proj.weight": 2}
    write_adapter(tmp_path / "out", change(base, ranks, [])[0], base=base, base_name="hub/base")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["model.layers.1.self_attn.q_proj", "up_proj"]
    assert config["r"] == config["lora_alpha"] == 3
    assert config["rank_pattern"] == config["alpha_pattern"] == {"^model.layers.1.self_attn.q_proj": 2}
    assert config["base_model_name_or_path"] == "hub/base"


def test_factors_can_be_stored_in_half_the_bytes(bases, tmp_path):  # noqa: F811
    base = open_parent(str(bases["llama"]))
    factors, _ = change(base, {LLAMA_MLP.format(0): 3}, [])
    write_adapter(tmp_path / "out", factors, base=base, base_name=base.name, dtype=torch.bfloat16)
    b, a = open_adapter("out", tmp_path / "out", base).factors(LLAMA_MLP.format(0), torch.device("cpu"))
    for stored, exact in zip((b, a), factors[LLAMA_MLP.format(0)], strict=True):
        assert torch.equal(stored, exact.bfloat16().float())


def test_files_are_readable_by_all(bases, tmp_path):  # noqa: F811
    base = open_parent(str(bases["llama"]))
    write_adapter(tmp_path / "out", change(base, {LLAMA_MLP.format(0): 3}, [])[0], base=base, base_name=base.name)
    (tmp_path / "plain").touch()
    plain = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "out").iterdir()} == {plain}


UP = LLAMA_MLP.format(0)
REFUSED = {
    "nothing": ("llama", {}, {}, "no factors to write"),
    "an unknown tensor": ("llama", {"model.nowhere.weight": (draw(2, 2), draw(2, 2))}, {}, "no tensor 'model.nowhere"),
    "another shape": ("llama", {UP: (draw(32, 2), draw(2, 48))}, {}, r"shape \(48, 32\), and the change \(32, 48\)"),
    "another whole shape": (
        "llama",
        {UP: (draw(48, 2), draw(2, 32))},
        {"model.norm.weight": draw(31)},
        r"shape \(32,\), and the change \(31,\)",
    ),
    "both": ("llama", {UP: (draw(48, 2), draw(2, 32))}, {UP: draw(48, 32)}, "as factors and whole"),
    "factors of tied embeddings": (
        "llama-tied",
        {"model.embed_tokens.weight": (draw(260, 2), draw(2, 32))},
        {},
        r"ties model\.embed_tokens\.weight and lm_head\.weight",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_an_adapter_cannot_say_is_refused_before_writing(case, bases, tmp_path):  # noqa: F811
    kind, factors, whole, message = REFUSED[case]
    with pytest.raises(MergeError, match=message):
        write_adapter(tmp_path / "out", factors, base=open_parent(str(bases[kind])), base_name="base", whole=whole)
    assert not (tmp_path / "out").exists()
