"""What a mergekit YAML may not say, refused before a checkpoint is opened; and how its models are named."""

from __future__ import annotations

import pytest
import yaml

from evomerge.errors import MergeError
from evomerge.mergekit_io import is_mergekit
from evomerge.mergekit_io.document import read_document
from evomerge.mergekit_io.references import Reference, parse_reference

MODELS = "models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 1}}]"
SLICE = "slices: [{sources: [{model: a, layer_range: [0, 2]}, {model: b, layer_range: [0, 2]}]}]"

REFUSED = [
    ("", "is empty; wanted a YAML mapping"),
    ("[1, 2]", "is a list; wanted a YAML mapping"),
    ("a: [", "cannot read .*: "),
    ("a: 1\n---\nb: 2", "cannot read .*: "),
    (f"merge_methd: linear\n{MODELS}", r"Did you mean 'merge_method'"),
    (MODELS, "has no merge_method. Add one of arcee_fusion, .*, ties."),
    (f"merge_method: slurp\n{MODELS}", "Did you mean 'slerp'"),
    (f"merge_method: wudi\n{MODELS}", "unknown merge_method 'wudi'.*nuslerp"),
    ("merge_method: linear", "neither models nor slices; wanted exactly one"),
    (f"merge_method: linear\n{MODELS}\n{SLICE}", "models and slices; wanted exactly one"),
    ("merge_method: linear\nmodules: {text: {models: []}}", "'modules' .* cannot be built"),
    ("merge_method: linear\nmodels: 3", "models is 3; wanted a list"),
    ("merge_method: linear\nmodels: [a]", r"models\[0\] is 'a'; wanted a mapping"),
    ("merge_method: linear\nmodels: [{parameters: {}}]", r"models\[0\] has no model"),
    ("merge_method: linear\nmodels: [{model: a, weight: 1}]", "unknown key 'weight'"),
    ("merge_method: linear\nmodels: [{model: a, layer_range: [0, 1]}]", "unknown key 'layer_range'"),
    ("merge_method: linear\nmodels: [{model: a}, {model: a}]", "has the model a twice"),
    ("merge_method: linear\nmodels: [{model: a+b+c}]", "more than one '\\+'"),
    ("merge_method: linear\nmodels: [{model: a@b@c}]", "is no path"),
    ("merge_method: linear\nmodels: [{model: [a]}]", "wanted a model"),
    ("merge_method: linear\nmodels: [{model: {path: a}}]", "unknown key 'path'"),
    ("merge_method: linear\nmodels: [{model: {model: {pth: a}}}]", "Did you mean 'path'"),
    ("merge_method: linear\nmodels: [{model: {lora: a}}]", "has no 'model'"),
    ("merge_method: linear\nmodels: [{model: {model: a, override_architecture: X}}]", "override_architecture is not"),
    ("merge_method: linear\nmodels: [{model: a+b}]", "is a LoRA over a, and base_model is None"),
    ("merge_method: linear\nbase_model: c\nmodels: [{model: a+b}]", "is a LoRA over a, and base_model is c"),
    ("merge_method: ties\nbase_model: a+b\nmodels: [{model: a}]", "base_model a\\+b is a LoRA"),
    ("merge_method: linear\nslices: [{}]", "sources is None; wanted a list"),
    ("merge_method: linear\nslices: [{sources: [{model: a}]}]", "layer_range is None; wanted"),
    ("merge_method: linear\nslices: [{sources: [{model: a, layer_range: [2, 2]}]}]", "0 <= first < end"),
    ("merge_method: linear\nslices: [{sources: [{model: a, layer_range: [-1, 2]}]}]", "0 <= first < end"),
    ("merge_method: linear\nslices: [{sources: [{model: a, layer_range: [0, 1.5]}]}]", "two whole numbers"),
    (f"merge_method: linear\n{SLICE[:-2]}, residual_weight: 1}}]", "unknown key 'residual_weight'"),
    (f"merge_method: ties\n{MODELS}", "ties needs a base, and the YAML has no base_model"),
    (f"merge_method: slerp\n{MODELS}", "slerp needs a base"),
    (f"merge_method: slerp\nbase_model: c\n{MODELS}", "takes 2 models, base included; got 3: a, b, c"),
    (f"merge_method: passthrough\n{MODELS}", "takes 1 model, base included; got 2"),
    (f"merge_method: passthrough\n{SLICE}", "takes 1 model, base included; got 2: a, b.*own slice"),
    (f"merge_method: dare_ties\nbase_model: c\n{SLICE}", "needs the base c among its models: a, b"),
    (f"merge_method: ties\nbase_model: a\n{SLICE[:-2]}, base_model: b}}]", "has the base b, the YAML a"),
    (f"merge_method: nearswap\nbase_model: c\n{MODELS}", "nearswap takes 2 models, base included; got 3: a, b, c"),
    (f"merge_method: arcee_fusion\n{MODELS}", "arcee_fusion needs a base"),
    ("merge_method: arcee_fusion\nbase_model: c\nmodels: [{model: c}]", "takes 2 models, base included; got 1: c"),
    ("merge_method: model_stock\nbase_model: c\nmodels: [{model: a}]", "at least 3 models, base included; got 2: a, c"),
    ("merge_method: nuslerp\nmodels: [{model: a}]", "nuslerp takes 2 models, .*; got 1: a. Use multislerp"),
    (f"merge_method: nuslerp\nbase_model: a\n{MODELS}", "nuslerp takes 3 models, base included; got 2: a, b"),
    ("merge_method: multislerp\nbase_model: a\nmodels: [{model: a}]", "multislerp takes at least 2 models"),
    (f"merge_method: multislerp\nbase_model: c\n{SLICE}", "needs the base c among its models: a, b"),
    (f"merge_method: sce\n{MODELS}", "sce needs a base"),
    (f"merge_method: ties\nbase_model: c\n{MODELS}\nparameters: {{density: 0}}", r"density is 0; wanted .* \(0, 1\]"),
    (f"merge_method: ties\nbase_model: c\n{MODELS}\nparameters: {{density: [1, 1.1]}}", r"density is \[1, 1.1\]"),
    (
        f"merge_method: della\nbase_model: c\n{MODELS}\nparameters: {{density: {{value: -0.5}}}}",
        "density.value is -0.5",
    ),
    (f"merge_method: karcher\n{MODELS}\nparameters: {{max_iter: 2.5}}", "max_iter is 2.5; wanted a whole number"),
    (f"merge_method: sce\nbase_model: c\n{MODELS}\nparameters: {{select_top: 1}}", "Did you mean 'select_topk'"),
    (f"merge_method: linear\n{MODELS}\ndtype: float64", "unknown dtype 'float64'.*bfloat16"),
    (f"merge_method: linear\n{MODELS}\nout_dtype: int8", "unknown out_dtype 'int8'"),
    (f"merge_method: linear\n{MODELS}\nchat_template: chatml", "chat_template cannot be set"),
    (
        f"merge_method: linear\n{MODELS}\ntokenizer_source: base",
        "tokenizer of 'base' is wanted, and base_model is None",
    ),
    (f"merge_method: linear\nbase_model: a\n{MODELS}\ntokenizer_source: b", "tokenizer of 'b' is wanted"),
    (f"merge_method: linear\n{MODELS}\ntokenizer_source: union\ntokenizer: {{source: union}}", "wanted one"),
    (f"merge_method: linear\n{MODELS}\ntokenizer: {{tokens: {{x: {{source: a}}}}}}", "tokens is not supported"),
    (f"merge_method: linear\n{MODELS}\ntokenizer: {{pad_to_multiple_of: 64}}", "pad_to_multiple_of is not supported"),
    (f"merge_method: linear\n{MODELS}\ntokenizer: {{sorce: union}}", "Did you mean 'source'"),
    (f"merge_method: linear\n{MODELS}\nparameters: {{wieght: 1}}", "Did you mean 'weight'"),
    ("merge_method: linear\nmodels: [{model: a, parameters: {wait: 1}}]", r"models\[0\].parameters: unknown parameter"),
    (f"merge_method: linear\n{SLICE[:-2]}, parameters: {{normalise: true}}}}]", "Did you mean 'normalize'"),
]


@pytest.mark.parametrize("text, said", REFUSED, ids=[f"{i}: {said[:40]}" for i, (_, said) in enumerate(REFUSED)])
def test_it_is_refused_and_named(tmp_path, text, said):
    path = tmp_path / "merge.yml"
    path.write_text(text)
    with pytest.raises(MergeError, match=said) as caught:
        read_document(path)
    assert "merge.yml" in str(caught.value)


def test_a_mergekit_yaml_is_known_by_its_method_or_models(tmp_path):
    texts = {
        "ours.yml": "parents: []",
        "bad.yml": "a: [",
        "list.yml": "[merge_method]",
        "theirs.yml": "merge_method: x",
        "without.yml": "models: []",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "binary.yml").write_bytes(b"\xff\xfe\x00")
    known = [p.name for p in sorted(tmp_path.iterdir()) if is_mergekit(p)]
    assert known == ["theirs.yml", "without.yml"]
    assert not is_mergekit(tmp_path / "absent.yml")


@pytest.mark.parametrize(
    "raw, name, text",
    [
        ("org/model", "org/model", "org/model"),
        ("org/model@v1", "org/model@v1", "org/model@v1"),
        ("{model: org/model}", "org/model", "org/model"),
        ("{model: {path: org/model, revision: v1}}", "org/model@v1", "org/model@v1"),
        ("org/model@v1+org/lora@v2", "org/lora@v2", "org/model@v1+org/lora@v2"),
        ("{model: org/model, lora: {path: org/lora}}", "org/lora", "org/model+org/lora"),
    ],
)
def test_a_model_is_named_as_mergekit_names_it(raw, name, text):
    reference = parse_reference(yaml.safe_load(raw), "x")
    assert (reference.name, str(reference)) == (name, text)


def test_the_revision_of_a_folder_counts_for_nothing(tmp_path):
    assert Reference(str(tmp_path), "v1").name == str(tmp_path)
