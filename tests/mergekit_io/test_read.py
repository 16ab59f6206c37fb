"""What becomes of models, depths, dtypes and tokenizers; numbers are held to mergekit's in test_golden."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from evomerge.errors import MergeError
from evomerge.mergekit_io import notes
from evomerge.models.family import open_family
from evomerge.types import Blend
from tests.mergekit_io.llamas import BLOCKS, WIDTH, weights
from tests.mergekit_io.merging import built, largest_difference, read_text

PAIR = "models: [{model: llamas/math}, {model: llamas/code}]\n"


def test_parents_stand_in_the_yamls_order_and_the_base_apart(here, tmp_path):
    recipe, family = read_text(
        tmp_path,
        "merge_method: ties\nbase_model: llamas/base\nparameters: {weight: 1}\n"
        "models: [{model: llamas/code}, {model: llamas/base}, {model: llamas/math}]",
    )
    assert recipe.parents == open_family(["llamas/code", "llamas/math"]).pool().digests
    assert recipe.base == family.base.digest == open_family(["llamas/base"]).pool().digests[0]


def test_a_base_that_linear_does_not_list_comes_last(here, tmp_path):
    recipe, family = read_text(
        tmp_path, f"merge_method: linear\nbase_model: llamas/base\nparameters: {{weight: 1}}\n{PAIR}"
    )
    assert recipe.parents == (*(p.digest for p in family.parents), family.base.digest)


SPARSE = {"density": (1.0,), "scale": 1.0, "rescale": "none"}


@pytest.mark.parametrize(
    "method, setting, knobs",
    [
        ("linear", "weight: 1", {"weight": (1.0, 1.0), "normalize": True}),
        ("slerp", "t: 0.5", {"t": 0.5}),
        ("task_arithmetic", "weight: 1", {"weight": (1.0,), "scale": 1.0, "normalize": False}),
        ("ties", "weight: 1", {"weight": (1.0,), **SPARSE, "normalize": True}),
        ("dare_linear", "weight: 1", {"weight": (1.0,), **SPARSE, "normalize": False, "rescale": "l1"}),
        ("dare_ties", "weight: 1", {"weight": (1.0,), **SPARSE, "normalize": False, "rescale": "l1"}),
        ("breadcrumbs", "weight: 1", {"weight": (1.0,), **SPARSE, "gamma": (0.01,), "normalize": False}),
        (
            "della",
            "weight: 1, density: 0.75",
            {
                "weight": (1.0,),
                "density": (0.75,),
                "epsilon_frac": (0.6,),
                "scale": 1.0,
                "normalize": True,
                "rescale": "l1",
            },
        ),
        ("multislerp", "weight: 1", {"weight": (1.0,), "normalize_weights": True, "eps": 1e-8}),
        ("karcher", "tol: 1e-5", {"max_iter": 10, "tol": 1e-5}),
        ("sce", "select_topk: 1", {"select_topk": 1.0, "guard": "absolute"}),
        ("ram", "epsilon: 1e-5", {"epsilon": 1e-5}),
        ("ramplus_tl", "r: 0.1", {"r": 0.1, "alpha": 0.2, "epsilon": 1e-5}),
        ("nearswap", "t: 0.5", {"t": 0.5}),
        ("arcee_fusion", "", {}),
    ],
)
def test_what_the_yaml_leaves_out_has_mergekits_default(here, tmp_path, method, setting, knobs):
    models = "base_model: llamas/base\nmodels: [{model: llamas/math}]"
    recipe, _ = read_text(tmp_path, f"merge_method: {method}\nparameters: {{{setting}}}\n{models}")
    assert [dict(blend.knobs) for blend in recipe.outer.values()] == [knobs]


def test_a_slice_of_one_block_is_at_the_end_of_its_gradient_and_the_outer_tensors_at_the_start(here, tmp_path):
    source = "{model: llamas/math, layer_range: [1, 2], parameters: {scale: [1, 2, 5]}}"
    recipe, _ = read_text(tmp_path, f"merge_method: passthrough\nslices: [{{sources: [{source}]}}]")
    assert recipe.slots[0].blends == {"*": Blend("passthrough", {"scale": 5.0})}
    assert recipe.outer == {"*": Blend("passthrough", {"scale": 1.0})}


def test_slerp_sees_its_base_first(here, tmp_path):
    text = "merge_method: slerp\nbase_model: llamas/math\nparameters: {t: 0}\nmodels: [{model: llamas/code}]"
    recipe, family = read_text(tmp_path, text)
    assert recipe.parents == (family.base.digest, family.parents[0].digest)
    assert largest_difference(built(recipe, family), weights(1, drift_of=0)) == 0


def test_slices_with_the_base_at_either_end_of_slerp_are_one_recipe(here, tmp_path):
    sources = (
        "sources: [{{model: llamas/math, layer_range: [{0}, {1}]}}, {{model: llamas/code, layer_range: [{0}, {1}]}}]"
    )
    slices = (
        f"[{{base_model: llamas/code, {sources.format(0, 2)}}}, {{base_model: llamas/math, {sources.format(2, 4)}}}]"
    )
    made = built(*read_text(tmp_path, f"merge_method: slerp\nparameters: {{t: 0}}\nslices: {slices}"))
    math, code = weights(1, drift_of=0), weights(2, drift_of=0)
    early = ("embed_tokens", "layers.0.", "layers.1.")
    wanted = {n: (code if any(e in n for e in early) else math)[n] for n in made}
    assert largest_difference(made, wanted) < 1e-7


def test_a_merge_of_the_base_alone_is_the_base(here, tmp_path):
    text = "merge_method: ties\nbase_model: llamas/base\nparameters: {weight: 1}\nmodels: [{model: llamas/base}]"
    assert largest_difference(built(*read_text(tmp_path, text)), weights(0)) == 0


def test_the_merged_model_is_as_deep_as_its_slices(here, tmp_path):
    one = "{{sources: [{{model: llamas/math, layer_range: {0}}}]}}"
    slices = f"[{one.format([0, 3])}, {one.format([1, 4])}]"
    recipe, family = read_text(tmp_path, f"merge_method: passthrough\nslices: {slices}")
    assert [slot.sources[0][2] for slot in recipe.slots] == [0, 1, 2, 1, 2, 3]
    made, math = built(recipe, family), weights(1, drift_of=0)
    assert torch.equal(made["model.layers.5.mlp.up_proj.weight"], math["model.layers.3.mlp.up_proj.weight"])


@pytest.mark.parametrize(
    "lines, dtype",
    [
        ("dtype: bfloat16", "bfloat16"),
        ("dtype: torch.float32\nout_dtype: float16", "float16"),
        ("", "float32"),
    ],
)
def test_the_output_has_out_dtype_or_dtype_or_the_checkpoints_own(here, tmp_path, lines, dtype):
    recipe, _ = read_text(tmp_path, f"merge_method: linear\nparameters: {{weight: 1}}\n{PAIR}{lines}")
    assert (recipe.dtype, recipe.out_dtype) == ("float32", dtype)


def test_unequal_checkpoint_dtypes_are_promoted_as_torch_does(here, tmp_path):
    text = "merge_method: linear\nparameters: {{weight: 1}}\nmodels: [{{model: llamas/base16}}, {{model: {0}}}]"
    assert read_text(tmp_path, text.format("llamas/math16"))[0].out_dtype == "bfloat16"
    assert read_text(tmp_path, text.format("llamas/math"))[0].out_dtype == "float32"


@pytest.mark.parametrize(
    "lines, policy",
    [
        ("", "equal"),
        ("tokenizer_source: base", "base"),
        ("tokenizer_source: BASE", "base"),
        ("tokenizer_source: union", "union"),
        ("tokenizer: {source: base}", "base"),
        ("tokenizer: {}", "union"),
    ],
)
def test_the_tokenizer_source_is_the_vocabulary_policy(pico, tmp_path, lines, policy):
    text = "merge_method: linear\nbase_model: BASE\nparameters: {weight: 1}\nmodels: [{model: A}]\n" + lines
    recipe, family = read_text(tmp_path, text.replace("BASE", str(pico["base"])).replace("A}", f"{pico['a']}}}"))
    assert recipe.vocabulary == family.policy == policy


def test_a_lora_over_the_base_is_a_parent(here, tmp_path):
    name, generator = "model.layers.1.self_attn.q_proj", torch.Generator().manual_seed(0)
    up, down = torch.randn(WIDTH, 2, generator=generator), torch.randn(2, WIDTH, generator=generator)
    folder = tmp_path / "lora"
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    keys = {f"base_model.model.{name}.lora_A.weight": down, f"base_model.model.{name}.lora_B.weight": up}
    save_file(keys, folder / "adapter_model.safetensors")
    text = f"base_model: llamas/base\nparameters: {{weight: 0.5}}\nmodels: [{{model: llamas/base+{folder}}}]"
    made, wanted = built(*read_text(tmp_path, f"merge_method: task_arithmetic\n{text}")), weights(0)
    wanted[f"{name}.weight"] = wanted[f"{name}.weight"] + 0.5 * 2 * (up @ down)
    assert largest_difference(made, wanted) < 1e-6


REFUSED = [
    (f"merge_method: linear\n{PAIR}", "linear needs weight for .* of llamas/math, and nothing sets it"),
    (
        "merge_method: linear\nbase_model: llamas/base\nmodels: [{model: llamas/math, parameters: {weight: 1}}]",
        "of llamas/base",
    ),
    (f"merge_method: ties\nbase_model: llamas/base\n{PAIR}", "ties needs weight"),
    (
        "merge_method: slerp\nbase_model: llamas/base\nmodels: [{model: llamas/math, parameters: {t: 1}}]",
        "slerp needs t",
    ),
    (
        f"merge_method: linear\n{PAIR}parameters: {{weight: [{{filter: mlp, value: 1}}]}}",
        "'model.layers.0.input_layernorm",
    ),
    (f"merge_method: linear\n{PAIR}parameters: {{weight: 0}}", r"weights \(0.0, 0.0\) .* sum to zero"),
    (
        "merge_method: passthrough\nslices: [{sources: [{model: llamas/math, layer_range: [2, 5]}]}]",
        "which has 4 blocks",
    ),
    (
        "merge_method: linear\nparameters: {weight: 1}\nslices: [{sources: [{model: llamas/math, layer_range: [0, 2]}, "
        "{model: llamas/code, layer_range: [0, 3]}]}]",
        r"\[2, 3\] blocks; wanted equal lengths",
    ),
    (
        "merge_method: slerp\nbase_model: llamas/base\nparameters: {t: 1}\nslices: "
        "[{sources: [{model: llamas/math, layer_range: [0, 2]}, {model: llamas/base, layer_range: [0, 2]}]},"
        " {sources: [{model: llamas/code, layer_range: [2, 4]}, {model: llamas/base, layer_range: [2, 4]}]}]",
        "slerp of different models in different slices",
    ),
    (
        "merge_method: ties\nbase_model: llamas/base\nparameters: {weight: 1}\nslices: "
        "[{sources: [{model: llamas/base, layer_range: [0, 2]}]}, {sources: [{model: llamas/code, layer_range: [2, 4]},"
        " {model: llamas/base, layer_range: [2, 4]}]}]",
        "the base llamas/base is not among them",
    ),
    (
        "merge_method: della\nbase_model: llamas/base\nparameters: {weight: 1, density: 0.9}\n"
        "models: [{model: llamas/math}]",
        r"'model.layers.0.input.* has density 0.9 and epsilon 0.15; wanted epsilon from 0 up to, but not at, 0.1",
    ),
    (f"merge_method: multislerp\n{PAIR}parameters: {{weight: 0}}", "sum to zero .* normalize_weights: false"),
    (f"merge_method: karcher\n{PAIR}parameters: {{max_iter: [1, 3, 2]}}", "max_iter of .* whole numbers"),
    (
        "merge_method: nearswap\nbase_model: llamas/base\nparameters: {t: -1}\nmodels: [{model: llamas/math}]",
        "t of 'model.layers.0.input.* is -1; wanted 0 or more",
    ),
    (
        "merge_method: breadcrumbs\nbase_model: llamas/base\nparameters: {weight: 1, gamma: [0, -0.1]}\n"
        "models: [{model: llamas/math}]",
        "gamma of 'model.layers.1.input.* is -0.0333.*; wanted 0 or more",
    ),
    (
        "merge_method: ram\nbase_model: llamas/base\nparameters: {epsilon: -1}\nmodels: [{model: llamas/math}]",
        "epsilon of 'model.layers.0.input.* is -1; wanted 0 or more",
    ),
    (
        "merge_method: sce\nbase_model: llamas/base\nslices: [{sources: [{model: llamas/math, layer_range: [1, 3]}, "
        "{model: llamas/base, layer_range: [0, 2]}]}]",
        r"the base has layer_range \[0, 2\] and llamas/math, .* \[1, 3\]; wanted the same for sce",
    ),
    (
        "merge_method: ram\nbase_model: llamas/base\nslices: "
        "[{sources: [{model: llamas/base, layer_range: [0, 2]}, {model: llamas/math, layer_range: [0, 2]}]},"
        " {sources: [{model: llamas/base, layer_range: [2, 4]}, {model: llamas/code, layer_range: [2, 4]}]}]",
        "ram of different models in different slices.*all its 2 parents, and these are 1",
    ),
]


@pytest.mark.parametrize("text, said", REFUSED)
def test_what_the_models_do_not_allow_is_refused_and_named(here, tmp_path, text, said):
    with pytest.raises(MergeError, match=said):
        read_text(tmp_path, text)


def test_a_base_makes_nuslerp_merge_differences_and_is_no_parent(here, tmp_path):
    text = "merge_method: nuslerp\nparameters: {weight: 1, nuslerp_flatten: false}\n" + PAIR
    plain, _ = read_text(tmp_path, text)
    based, family = read_text(tmp_path, text + "base_model: llamas/base")
    assert plain.base is None and based.base == family.base.digest
    assert plain.parents == based.parents
    assert plain.outer["*"].knobs["differences"] is False
    assert "differences" not in based.outer["*"].knobs  # our default


def test_weights_may_sum_to_zero_without_normalisation(here, tmp_path):
    text = f"merge_method: linear\n{PAIR}parameters: {{weight: 0, normalize: false}}"
    assert all(not t.any() for t in built(*read_text(tmp_path, text)).values())


def test_notes_say_where_we_differ_and_what_mergekit_passes_over(tmp_path):
    path = tmp_path / "x.yml"
    path.write_text(
        "merge_method: dare_ties\nbase_model: a\ndtype: bfloat16\nchat_template: auto\n"
        "models: [{model: b, parameters: {weight: 1, density: [1, 0.5], normalize: true, t: 1}}]\n"
        "parameters: {int8_mask: true, scale: 2}"
    )
    said = notes(path)
    for words in ("dtype bfloat16", "chat_template auto", "int8_mask", "density below 1", "scale (parameters)"):
        assert sum(words in note for note in said) == 1
    assert {n for n in said if "does not read" in n} == {
        "scale (parameters): mergekit's dare_ties does not read it.",
        "normalize (parameters of b): mergekit's dare_ties does not read it.",
        "t (parameters of b): mergekit's dare_ties does not read it.",
    }


def test_a_note_tells_that_quartiles_are_exact_here(tmp_path):
    (tmp_path / "x.yml").write_text("merge_method: arcee_fusion\nbase_model: a\nmodels: [{model: b}]")
    assert ["quartiles" in note for note in notes(tmp_path / "x.yml")] == [True]


def test_a_plain_yaml_has_no_notes(tmp_path):
    (tmp_path / "x.yml").write_text(
        "merge_method: linear\ndtype: float32\nmodels: [{model: a, parameters: {weight: 1}}]"
    )
    assert notes(tmp_path / "x.yml") == []


def test_the_depth_of_the_tiny_models_is_what_the_tables_here_say(here):
    assert open_family(["llamas/base"]).stacks == {"model.layers": BLOCKS} == {"model.layers": 4}
