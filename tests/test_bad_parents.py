"""Parents, vocabularies, mergekit's files and machines that do not fit: one clear message each, before any work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertConfig, BertLMHeadModel, LlamaConfig, LlamaForCausalLM

from evomerge.cli import main
from tests.test_adapters import make_adapter

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # PEFT's, of tied embeddings


@pytest.fixture(scope="module")
def adapter(pico, tmp_path_factory) -> Path:
    return make_adapter(pico["base"], tmp_path_factory.mktemp("lora") / "one", seed=1, r=2, target_modules=["q_proj"])


@pytest.fixture(scope="module")
def wide(tmp_path_factory, pico) -> Path:
    """A llama of another width with the same tokens."""
    folder = tmp_path_factory.mktemp("wide") / "wide"
    config = LlamaConfig.from_pretrained(pico["base"], hidden_size=48, head_dim=8)
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(pico["base"]).save_pretrained(folder)
    return folder


def refused(args: list[str], capsys, code: int = 2) -> str:
    capsys.readouterr()
    assert main(args) == code
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1].startswith("error: ") and "Traceback" not in printed.err
    return printed.err


def search(command, tmp_path, *more: str) -> list[str]:
    keys = {word.partition("=")[0] for word in more}
    return [*(w for w in command if w.partition("=")[0] not in keys), *more, f"run={tmp_path / 'run'}"]


# ---------------------------------------------------------------- adapters


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_tensors(path: Path, how: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(path)
    how(tensors)
    save_file({n: t.contiguous() for n, t in tensors.items()}, path)


def renamed(tensors):
    for name in list(tensors):
        tensors[name.replace("q_proj", "qkv_proj")] = tensors.pop(name)


CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
KEY = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
ADAPTERS = {
    "dora": (lambda f: edit_json(f / CONFIG, use_dora=True), ["use_dora", "merge_and_unload"]),
    "kind": (lambda f: edit_json(f / CONFIG, peft_type="IA3"), ["IA3", "LORA"]),
    "pissa": (lambda f: edit_json(f / CONFIG, init_lora_weights="pissa"), ["pissa"]),
    "rank": (lambda f: edit_json(f / CONFIG, r=7), ["7", "2"]),
    "no config in JSON": (lambda f: (f / CONFIG).write_text("{"), ["is not JSON"]),
    "pickle": (lambda f: (f / WEIGHTS).rename(f / "adapter_model.bin"), ["safetensors"]),
    "half": (lambda f: edit_tensors(f / WEIGHTS, lambda t: t.pop(KEY)), ["lora_A"]),
    "nan": (lambda f: edit_tensors(f / WEIGHTS, lambda t: t[KEY].fill_(torch.nan)), ["NaN"]),
    "width": (lambda f: edit_tensors(f / WEIGHTS, lambda t: t.update({KEY: t[KEY][:, :-1]})), ["(32, 32)", "(32, 31)"]),
    "module": (lambda f: edit_tensors(f / WEIGHTS, renamed), ["qkv_proj"]),
}


@pytest.mark.parametrize("damage", ADAPTERS)
def test_a_bad_adapter_is_told(damage, adapter, command, pico, tmp_path, capsys):
    harm, parts = ADAPTERS[damage]
    bad = shutil.copytree(adapter, tmp_path / "bad")
    harm(bad)
    message = refused(search(command, tmp_path, f"parents.models=[{bad},{pico['a']}]"), capsys)
    assert all(part in message for part in parts), message


def test_an_adapter_of_another_base_is_told_with_both_shapes(adapter, wide, command, tmp_path, capsys):
    line = search(command, tmp_path, f"parents.base={wide}", f"parents.models=[{adapter}]")
    message = refused(line, capsys)
    assert "(32, 48)" in message and "(32, 32)" in message


def test_an_adapter_without_a_base_is_told(adapter, command, pico, tmp_path, capsys):
    line = search(command, tmp_path, "parents.base=null", f"parents.models=[{pico['a']},{adapter}]")
    assert "Set parents.base" in refused(line, capsys)


def test_an_adapter_as_the_base_is_told(adapter, command, tmp_path, capsys):
    assert "cannot be the base" in refused(search(command, tmp_path, f"parents.base={adapter}"), capsys)


# ---------------------------------------------------------------- checkpoints and tokenizers


def tokens(folder: Path, *added: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(list(added))
    tokenizer.save_pretrained(folder)


def other_words(folder: Path) -> None:
    path = folder / "tokenizer.json"
    text = json.loads(path.read_text())
    vocab = text["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    path.write_text(json.dumps(text))


CHECKPOINTS = {
    "another architecture": (lambda f: edit_json(f / "config.json", architectures=["MistralForCausalLM"]), ["Mistral"]),
    "quantised": (
        lambda f: edit_tensors(
            f / "model.safetensors", lambda t: t.update({"model.norm.weight": torch.ones(32, dtype=torch.int8)})
        ),
        ["int8", "quantised"],
    ),
    "untied": (
        lambda f: edit_tensors(f / "model.safetensors", lambda t: t.update({"lm_head.weight": torch.ones(260, 32)})),
        ["'lm_head.weight'"],
    ),
    "tokens beyond the rows": (lambda f: tokens(f, "<more>"), ["<more>", "260"]),
    "other ids": (other_words, ["'a'", "parents.vocabulary=base"]),
    "broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{"), ["tokenizer", "cannot be read"]),
}


@pytest.mark.parametrize("damage", CHECKPOINTS)
def test_a_parent_that_does_not_fit_is_told(damage, command, pico, tmp_path, capsys):
    harm, parts = CHECKPOINTS[damage]
    bad = shutil.copytree(pico["a"], tmp_path / "bad")
    harm(bad)
    message = refused(search(command, tmp_path, f"parents.models=[{bad},{pico['b']}]"), capsys)
    assert all(part in message for part in parts), message


def test_parents_of_unequal_width_are_told_with_both_shapes(command, wide, pico, tmp_path, capsys):
    message = refused(search(command, tmp_path, f"parents.models=[{wide},{pico['b']}]"), capsys)
    assert "32" in message and "48" in message


FAMILIES = {  # changes of every parent's config -> what the message must hold
    "unknown type": ({"model_type": "no_such_type"}, ["no_such_type"]),
    "code in the checkpoint": ({"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}, ["auto_map"]),
    "wrong depth": ({"num_hidden_layers": 3}, ["layers.2"]),
}


@pytest.mark.parametrize("change", FAMILIES)
def test_a_family_that_transformers_cannot_make_is_told(change, command, pico, tmp_path, capsys):
    changes, parts = FAMILIES[change]
    bad = {name: shutil.copytree(pico[name], tmp_path / name) for name in ("base", "a")}
    for folder in bad.values():
        edit_json(folder / "config.json", **changes)
    line = search(command, tmp_path, f"parents.base={bad['base']}", f"parents.models=[{bad['a']}]", "optimizer=uniform")
    message = refused(line, capsys)
    assert all(part in message for part in parts), message


def test_an_encoder_is_told(command, tmp_path, capsys):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertLMHeadModel(BertConfig(vocab_size=40, **sizes)).save_pretrained(tmp_path / "bert")
    alone = ["parents.base=null", f"parents.models=[{tmp_path / 'bert'}]", "space.method=linear", "optimizer=uniform"]
    line = search(command, tmp_path, *alone)
    assert "encoder, which sees the tokens" in refused(line, capsys)


def test_an_unknown_policy_lists_the_known(command, tmp_path, capsys):
    message = refused(search(command, tmp_path, "parents.vocabulary=unoin"), capsys)
    assert "unknown vocabulary policy 'unoin'" in message and "union" in message


# ---------------------------------------------------------------- mergekit's files

MODELS = [{"model": "{a}", "parameters": {"weight": 1.0}}, {"model": "{b}", "parameters": {"weight": 0.5}}]
SLICES = [{"sources": [{"model": "{a}", "layer_range": [0, 9], "parameters": {"weight": 1}}]}]
MERGEKIT = {  # changes of a good file -> what the message must hold
    "key": ({"merge_methd": "ties"}, ["merge_methd", "merge_method"]),
    "method": ({"merge_method": "dela"}, ["dela", "della"]),
    "nearest method": ({"merge_method": "task_arithmetc"}, ["task_arithmetic"]),
    "no base": ({"base_model": None}, ["base_model"]),
    "no weight": ({"models": [{"model": "{a}"}, {"model": "{b}"}], "merge_method": "linear"}, ["weight"]),
    "weights cancel": (
        {
            "merge_method": "linear",
            "base_model": None,
            "models": [{"model": m, "parameters": {"weight": w}} for m, w in (("{a}", 1.0), ("{b}", -1.0))],
        },
        ["sum to zero"],
    ),
    "parameter": ({"parameters": {"densty": 0.5}}, ["densty", "density"]),
    "type": ({"parameters": {"lambda": "big"}}, ["big"]),
    "no models": ({"models": []}, ["models"]),
    "modules": ({"modules": {"default": {}}}, ["modules"]),
    "range": ({"merge_method": "linear", "base_model": None, "models": None, "slices": SLICES}, ["9", "2"]),
    "three for slerp": (
        {"merge_method": "slerp", "parameters": {"t": 0.5}, "models": [{"model": m} for m in ("{a}", "{b}", "{base}")]},
        ["slerp"],
    ),
    "path": ({"base_model": "/no/such/model"}, ["/no/such/model"]),
    "tokenizer": ({"tokenizer": {"source": "union", "tokens": {"<x>": {"source": "{a}"}}}}, ["tokens"]),
}


def filled(tree, names: dict[str, str]):
    text = json.dumps(tree)
    for name, path in names.items():
        text = text.replace("{" + name + "}", path)
    return json.loads(text)


@pytest.mark.parametrize("change", MERGEKIT)
def test_a_bad_mergekit_file_is_told(change, pico, tmp_path, capsys):
    changes, parts = MERGEKIT[change]
    good = {"merge_method": "ties", "base_model": "{base}", "models": MODELS}
    file = {key: value for key, value in {**good, **changes}.items() if value is not None}
    (tmp_path / "bad.yml").write_text(yaml.safe_dump(filled(file, {k: str(v) for k, v in pico.items()})))
    message = refused(["merge", str(tmp_path / "bad.yml"), "--to", str(tmp_path / "out")], capsys)
    assert all(part in message for part in parts), message
    assert not (tmp_path / "out").exists()


EVOLVE = {
    "key": ({"genom": {}}, ["genom", "genome"]),
    "no genome": ({"genome": None}, ["genome"]),
    "no tasks": ({"tasks": []}, ["tasks"]),
    "method": ({"genome": {"merge_method": "dela", "models": ["{a}", "{b}"], "base_model": "{base}"}}, ["dela"]),
    "genome key": ({"genome": {"merge_method": "ties", "modles": ["{a}"], "base_model": "{base}"}}, ["modles"]),
    "granularity": (
        {
            "genome": {
                "merge_method": "ties",
                "models": ["{a}", "{b}"],
                "base_model": "{base}",
                "layer_granularity": 5,
            }
        },
        ["5", "2"],
    ),
}


@pytest.mark.parametrize("change", EVOLVE)
def test_a_bad_mergekit_evolve_file_is_told(change, command, pico, tmp_path, capsys):
    changes, parts = EVOLVE[change]
    genome = {"merge_method": "ties", "models": ["{a}", "{b}"], "base_model": "{base}"}
    good = {"genome": genome, "tasks": [{"name": "sums", "weight": 1.0}], "apply_chat_template": False}
    file = {key: value for key, value in {**good, **changes}.items() if value is not None}
    (tmp_path / "bad.yml").write_text(yaml.safe_dump(filled(file, {k: str(v) for k, v in pico.items()})))
    path = next(word for word in command if word.startswith("task.include_path"))
    line = ["search", "--from-mergekit-evolve", str(tmp_path / "bad.yml"), path, f"run={tmp_path / 'run'}"]
    message = refused(line, capsys)
    assert all(part in message for part in parts), message


# ---------------------------------------------------------------- machines and commands


def test_too_little_memory_is_told_with_the_numbers_and_the_way_out(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=9_000_000))
    message = refused(search(command, tmp_path), capsys)
    assert "9.0 MB" in message and "Use" in message
    assert not (tmp_path / "run" / "journal.jsonl").exists()


def test_too_little_disk_is_told_before_anything_is_built(command, finished, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    message = refused(["export", str(finished), "--to", str(tmp_path / "out")], capsys)
    assert "free and the model needs" in message


COMMANDS = {
    "export {run} --to {tmp}/out --adapter": ["is a full checkpoint", "leave --adapter out"],
    "export {run} --to {tmp}/out --rank 4": ["--rank 4 needs --adapter"],
    "export {run} --to {tmp}/out --adapter --rank 0": ["--rank 0"],
    "convert /no/such.yaml {tmp}/to.yaml": ["cannot read the recipe"],
    "convert {tmp}/a.yaml {tmp}": ["exists"],
    "search -m --force seed=1,2": ["--force"],
    "search -m seed=1,2 optimizr=uniform run={tmp}/sweep": ["optimizr"],
    "search --from-mergekit-evolve /no/such.yml": ["/no/such.yml"],
    "doctor --profile 12gb": ["12gb", "24gb"],
    "inspect parents.base=null parents.models=[]": ["no parents given"],
    "inspect parents.base=null parents.models=[/no/such]": ["no folder"],
    "inspect parents.models=[/no/such]": ["Set parents.base"],
}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_bad_command_is_told(line, finished, tmp_path, capsys):
    message = refused(line.format(run=finished, tmp=tmp_path).split(" "), capsys)
    assert all(part in message for part in COMMANDS[line]), message
