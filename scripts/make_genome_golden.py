"""Writes tests/golden/mergekit_genome.json: raw genes, and the parameters mergekit itself resolves from them.

usage: python scripts/make_genome_golden.py tests/golden/mergekit_genome.json

Runs in a Python that has mergekit 0.1.5 (which evomerge never imports). Tiny random llamas are made for mergekit to
open; only their depth and tensor names matter. Each genome goes through ModelGenome.genotype_merge_config and then
through MergePlanner, whose tasks hold the final parameters of every tensor.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from mergekit.architecture import arch_info_for_config
from mergekit.common import ModelReference
from mergekit.evo.genome import ModelGenome, ModelGenomeDefinition
from mergekit.io.tasks import LoaderCache
from mergekit.merge_methods.task_adapter import ExecuteMergeMethodTask
from mergekit.options import MergeOptions
from mergekit.plan import MergePlanner
from transformers import LlamaConfig, LlamaForCausalLM

LAYERS = 4
NAMES = ("base", "a", "b", "c")
#: Tensors whose parameters are recorded: one of each kind in every block, and those outside the blocks.
INNER = ("input_layernorm", "self_attn.q_proj", "mlp.down_proj")
TENSORS = (
    "model.embed_tokens.weight",
    *(f"model.layers.{i}.{word}.weight" for i in range(LAYERS) for word in INNER),
    "model.norm.weight",
    "lm_head.weight",
)

DEFINITIONS: tuple[dict[str, Any], ...] = (
    {"merge_method": "linear"},
    {"merge_method": "linear", "layer_granularity": 2, "normalize": False, "base_model": None},
    {"merge_method": "linear", "models": ["base", "a", "b"], "base_model": "base", "layer_granularity": 2},
    {"merge_method": "task_arithmetic", "layer_granularity": 1, "filters": ["self_attn", "mlp"]},
    {"merge_method": "task_arithmetic", "allow_negative_weights": True, "filters": ["q_proj", "self_attn", "norm"]},
    {"merge_method": "task_arithmetic", "normalize": True, "smooth": True, "layer_granularity": 2},
    {"merge_method": "task_arithmetic", "models": ["a", "base", "b"], "layer_granularity": 2},
    {"merge_method": "ties"},
    {"merge_method": "ties", "layer_granularity": 2, "filters": ["embed_tokens", "lm_head", "down_proj"]},
    {"merge_method": "ties", "normalize": False, "smooth": True, "layer_granularity": 1, "filters": ["mlp", "norm"]},
    {"merge_method": "ties", "layer_granularity": 4, "filters": ["mlp", "*"]},
    {"merge_method": "ties", "smooth": True},
    {"merge_method": "dare_ties", "layer_granularity": 2, "filters": ["mlp"], "allow_negative_weights": True},
    {"merge_method": "dare_ties", "normalize": False, "filters": ["weight"], "layer_granularity": 1},
    {"merge_method": "slerp", "models": ["a", "b"], "layer_granularity": 1, "base_model": None},
    {"merge_method": "slerp", "base_model": None},
    {"merge_method": "slerp", "layer_granularity": 2, "base_model": None},
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path)
    target = parser.parse_args().target
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: save_llama(Path(folder) / name) for name in NAMES}
        LoaderCache().setup(MergeOptions())
        rng = random.Random(0)
        cases = [case(definition, paths, rng) for definition in DEFINITIONS]
    meta = {
        "tool": f"mergekit {version('mergekit')}",
        "made_by": "scripts/make_genome_golden.py",
        "layers": LAYERS,
        "tensors": TENSORS,
        "format": "which: for each tensor, its place in the list of parameters; slerp's base is where t is 0",
    }
    lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
    target.write_text(f'{{"meta": {json.dumps(meta)},\n"cases": [\n{lines}\n]}}\n')


def save_llama(folder: Path) -> Path:
    config = LlamaConfig(
        vocab_size=16,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def case(definition: dict[str, Any], paths: dict[str, Path], rng: random.Random) -> dict[str, Any]:
    full = {"models": ["a", "b", "c"], "base_model": "base", **definition}
    if full["merge_method"] == "linear" and full["base_model"] not in full["models"]:
        full["base_model"] = None  # mergekit asks for the weight of a base outside the models, and fails
    named = {
        **full,
        "models": [str(paths[m]) for m in full["models"]],
        "base_model": full["base_model"] and str(paths[full["base_model"]]),
    }
    genome = ModelGenome(ModelGenomeDefinition.model_validate(named))
    start = genome.initial_genotype().view(-1)
    raws = [[round(rng.gauss(0.4, 0.6), 4) for _ in start]]  # beyond [0, 1] on both sides
    if full["merge_method"] != "slerp":  # its start is a tie, which torch breaks as it likes
        raws.append(start.tolist())
    by_path = {str(path): name for name, path in paths.items()}
    return {"definition": full, "genomes": [{"raw": r, **resolved(genome, r, by_path)} for r in raws]}


def resolved(genome: ModelGenome, raw: list[float], by_path: dict[str, str]) -> dict[str, Any]:
    """The resolved parameters, each once, and for every tensor of TENSORS its place among them."""
    by_tensor = tensors(genome, raw, by_path)
    each = [by_tensor[name] for name in TENSORS]
    distinct = [p for i, p in enumerate(each) if p not in each[:i]]
    return {"which": [distinct.index(p) for p in each], "parameters": distinct}


def tensors(genome: ModelGenome, raw: list[float], by_path: dict[str, str]) -> dict[str, Any]:
    """The resolved parameters by tensor name."""
    config = genome.genotype_merge_config(torch.tensor(raw, dtype=torch.float64))
    example = genome._input_config_example
    planner = MergePlanner(config, arch_info_for_config(example), MergeOptions(), example)
    planner._plan()
    return {w.name: parameters(task, by_path) for w, task in planner._tensors}


def parameters(task: ExecuteMergeMethodTask, by_path: dict[str, str]) -> dict[str, Any]:
    shared = {k: v for k, v in dict(task.parameters).items() if k in ("normalize", "rescale", "t")}
    inputs = {name_of(m, by_path): rounded(task.input_parameters[m]) for m in task.model_order}
    base = name_of(task.base_model, by_path) if task.base_model else None
    return {"base": base, **rounded(shared), "inputs": inputs}


def rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: round(v, 7) if isinstance(v, float) else v for k, v in values.items()}


def name_of(model: ModelReference, by_path: dict[str, str]) -> str:
    return by_path[model.model.path]


if __name__ == "__main__":
    main()
