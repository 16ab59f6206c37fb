"""The live model: of the class its config asks for, held as its files say, and never made by code of the checkpoint."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from lm_eval.api.instance import Instance
from safetensors.torch import load_file, save_file
from transformers import BertConfig, T5Config, T5ForConditionalGeneration

from evomerge.backends.hf import HFBackend
from evomerge.errors import ConfigError, ParentError
from evomerge.models import blank
from evomerge.models.parent import open_parent
from tests.models_pico import make_pico, make_tokenizer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> Path:
    """A tiny encoder-decoder with the tests' tokenizer, 2 and 2 blocks, its head tied."""
    folder = tmp_path_factory.mktemp("t5")
    ids = {"decoder_start_token_id": 259, "pad_token_id": 259, "eos_token_id": 257}
    config = T5Config(vocab_size=260, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, **ids)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = T5ForConditionalGeneration(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def ask(kind: str, *arguments: object) -> Instance:
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


def test_a_decoder_is_open_in_eval_mode_and_in_the_dtype(pico):
    model, tokenizer = blank.live_model(pico["base"], CPU, "bfloat16")
    assert (type(model).__name__, model.training) == ("LlamaForCausalLM", False)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert tokenizer("one")["input_ids"]


# ---------------------------------------------------------------- encoder-decoders


def test_an_encoder_decoder_is_scored_by_its_own_loglikelihood(t5):
    model, tokenizer = blank.live_model(t5, CPU, "float32")
    backend = HFBackend(batch_size=2).wrap(model, tokenizer)
    texts = [("one two", " three"), ("a longer question", " yes"), ("one", " no")]
    answers = backend.answer([ask("loglikelihood", *pair) for pair in texts])
    for (context, text), (loglik, _) in zip(texts, answers, strict=True):
        asked, wanted = (tokenizer(part, return_tensors="pt").input_ids for part in (context, text))
        with torch.inference_mode():
            logprobs = model(input_ids=asked, labels=wanted).logits[0].log_softmax(-1)
        assert loglik == pytest.approx(logprobs.gather(1, wanted[0][:, None]).sum().item(), rel=1e-4)


def test_an_encoder_decoder_generates_its_own_greedy_text(t5):
    model, tokenizer = blank.live_model(t5, CPU, "float32")
    backend = HFBackend(batch_size=2).wrap(model, tokenizer)
    (text,) = backend.answer([ask("generate_until", "one two", {"until": ["zzz"], "max_gen_toks": 5})])
    asked = tokenizer("one two", return_tensors="pt").input_ids
    limit = asked.shape[1] + 5  # lm-eval counts the context's tokens too, which only a decoder has in its output
    own = model.generate(asked, max_length=limit, do_sample=False)[0]
    assert text == tokenizer.decode(own, skip_special_tokens=True)
    assert text != ""


def test_a_head_of_its_own_stays_its_own_while_it_is_scored(t5, tmp_path):
    """As in T5 v1.1 and Flan-T5: the config calls the head tied, and the files hold another one."""
    folder = shutil.copytree(t5, tmp_path / "flan")
    tensors = load_file(folder / "model.safetensors")
    tensors |= {f"{side}.embed_tokens.weight": tensors["shared.weight"].clone() for side in ("encoder", "decoder")}
    tensors["lm_head.weight"] = tensors["shared.weight"].flip(0)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    parent = open_parent(str(folder))
    blank.check_names(folder, parent.files)
    model, tokenizer = blank.live_model(folder, CPU, "float32")
    HFBackend().wrap(model, tokenizer)  # lm-eval ties what the config calls tied
    blank.verify(model, parent.files, parent.read)
    outer = [name for name in blank.targets(model, parent.files) if "block" not in name and "norm" not in name]
    assert outer == ["lm_head.weight", "shared.weight"]


def test_a_head_tied_against_the_files_is_told(t5, tmp_path):
    tensors = load_file(t5 / "model.safetensors")
    model, _ = blank.live_model(t5, CPU, "float32")
    tensors["lm_head.weight"] = tensors["shared.weight"].flip(0)
    with pytest.raises(ParentError, match=r"does not load 'lm_head\.weight'"):
        blank.verify(model, tensors, tensors.__getitem__)


# ---------------------------------------------------------------- refusals


@pytest.fixture
def foreign(tmp_path) -> Path:
    """A checkpoint of a type of its own, with code that leaves a mark when it runs."""
    folder = make_pico(tmp_path / "foreign", seed=0)
    rewrite(folder, model_type="pico", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"})
    (folder / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w').close()\n")
    return folder


def rewrite(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_a_checkpoints_own_code_is_refused_and_never_run(foreign):
    for attempt in (lambda: blank.check_names(foreign, []), lambda: blank.live_model(foreign, CPU, "float32")):
        with pytest.raises(ParentError, match=r"is a 'pico', which needs Python code .* \(auto_map\)"):
            attempt()
    assert not (foreign / "ran").exists()


def test_a_known_type_with_code_of_its_own_is_made_by_transformers(foreign):
    rewrite(foreign, model_type="llama")
    model, _ = blank.live_model(foreign, CPU, "float32")
    assert type(model).__name__ == "LlamaForCausalLM"
    assert not (foreign / "ran").exists()


def test_an_unknown_type_without_code_is_refused(foreign):
    config = json.loads((foreign / "config.json").read_text())
    (foreign / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "auto_map"}))
    with pytest.raises(ParentError, match=r"cannot load .* model type `pico`"):
        blank.check_names(foreign, [])


def test_a_missing_tokenizer_is_told(pico, tmp_path):
    folder = shutil.copytree(pico["base"], tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(ParentError, match="transformers cannot load"):
        blank.live_model(folder, CPU, "float32")


def test_a_head_that_no_file_holds_is_refused_before_weights_are_read(pico):
    """transformers would draw it at random."""
    folder, names = pico["base"], open_parent(str(pico["base"])).files
    blank.check_names(folder, names)
    with pytest.raises(ParentError, match=r"lacks 'model\.layers\.0\.mlp\.up_proj\.weight'"):
        blank.check_names(folder, [n for n in names if n != "model.layers.0.mlp.up_proj.weight"])


def test_an_untied_head_that_no_file_holds_is_refused(pico, tmp_path):
    folder = shutil.copytree(pico["base"], tmp_path / "headless")
    rewrite(folder, tie_word_embeddings=False)
    with pytest.raises(ParentError, match=r"lacks 'lm_head\.weight' \(1 such\)"):
        blank.check_names(folder, open_parent(str(folder)).files)


def test_an_encoder_is_refused_unless_it_is_a_decoder(tmp_path):
    sizes = {"vocab_size": 260, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertConfig(**sizes, intermediate_size=24).save_pretrained(tmp_path)
    with pytest.raises(ParentError, match="sees the tokens it is to predict"):
        blank.check_names(tmp_path, [])
    rewrite(tmp_path, is_decoder=True)
    with pytest.raises(ParentError, match="the checkpoint lacks"):
        blank.check_names(tmp_path, [])


@pytest.mark.parametrize("name", ["cuda:99", "tpu"])
def test_a_device_that_is_not_here_is_refused(name):
    with pytest.raises(ConfigError, match=f"device '{name}' is not usable here"):
        blank.pick_device(name)


def test_an_unknown_dtype_names_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'float32'"):
        blank.pick_dtype("float23")
