"""What an adapter_config.json says of the weights, and the refusal of all that is not plain low-rank addition."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evomerge.errors import ParentError

CONFIG = "adapter_config.json"
MERGE = "Merge it with PEFT (merge_and_unload), save the whole model and give that folder as the parent."
CONVERT = (
    "Save it again with path_initial_model_for_weight_conversion, which makes a plain LoRA adapter of it, or merge it "
    "with PEFT (merge_and_unload) and save the whole model."
)
#: Initialisations that leave the base as it is. The others (pissa, olora, corda, lora_ga, loftq) first take their start
#: out of the base's weights, so that what is saved is relative to a base nobody has.
PLAIN_INITS = (True, False, None, "gaussian", "eva", "orthogonal", "mica")
#: Options that add something to the product of two factors, with what they add.
REFUSED = {
    "use_dora": "DoRA rescales every row of the weight",
    "lora_bias": "the second factor has a bias",
    "trainable_token_indices": "single rows of the embeddings are trained",
    "target_parameters": "parameters outside of linear layers are trained",
    "layer_replication": "blocks of the base are repeated",
    "alora_invocation_tokens": "aLoRA is active for some tokens only",
    "arrow_config": "Arrow routes between adapters for each token",
    "use_qalora": "QA-LoRA pools the inputs",
    "use_bdlora": "BD-LoRA keeps block-diagonal factors",
    "kasa_config": "KaSA truncates the base's weights",
    "monteclora_config": "MonteCLoRA samples its weights",
}
_WORDS = """
    peft_type r lora_alpha use_rslora rank_pattern alpha_pattern init_lora_weights modules_to_save bias fan_in_fan_out
    auto_mapping base_model_name_or_path corda_config ensure_weight_tying eva_config exclude_modules inference_mode
    layers_pattern layers_to_transform loftq_config lora_dropout lora_ga_config megatron_config megatron_core
    peft_version qalora_group_size revision runtime_config target_modules task_type velora_config
"""
#: What is read, and what says how the adapter was trained but changes no weight.
KNOWN = frozenset(_WORDS.split())


def read_config(folder: Path) -> dict[str, Any]:
    """The adapter's config. Raises ParentError if it is missing or no JSON object."""
    path = folder / CONFIG
    if not path.is_file():
        raise ParentError(f"{folder} has no {CONFIG}. Give the folder of an adapter saved by PEFT's save_pretrained.")
    try:
        config = json.loads(path.read_text())
    except ValueError as e:
        raise ParentError(f"{path} is not JSON ({e}). Download or save the adapter again.") from e
    if not isinstance(config, dict):
        raise ParentError(f"{path} holds a {type(config).__name__}, wanted an object. Save the adapter again.")
    return config


def check_plain(config: Mapping[str, Any], adapter: str) -> None:
    """Raises ParentError, by the option's name, for what is more or less than base + scale * B @ A."""
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ParentError(f"{adapter} has peft_type {kind!r}; wanted 'LORA'. {MERGE}")
    init = config.get("init_lora_weights", True)
    if (init.lower() if isinstance(init, str) else init) not in PLAIN_INITS:
        raise ParentError(
            f"{adapter} has init_lora_weights={init!r}, which changes the base before training: its factors do not "
            f"belong to the base as published. {CONVERT}"
        )
    for option, why in REFUSED.items():
        if config.get(option):
            raise ParentError(f"{adapter} has {option}={config[option]!r}: {why}. Wanted a plain LoRA. {MERGE}")
    foreign = sorted(option for option, value in config.items() if value and option not in KNOWN | REFUSED.keys())
    if foreign:
        option = foreign[0]
        raise ParentError(f"{adapter} has {option}={config[option]!r}, an option not known here. {MERGE}")


def rank(config: Mapping[str, Any], module: str) -> int:
    """The rank that the config gives to a module (name in the live model)."""
    value = _by_pattern(config.get("rank_pattern"), module, config.get("r", 8))  # 8: PEFT's default, as for alpha
    if not isinstance(value, int) or value < 1:
        raise ParentError(f"{CONFIG} gives rank {value!r} to '{module}'. Wanted a whole number of 1 or more.")
    return value


def scale(config: Mapping[str, Any], module: str) -> float:
    """alpha / r, or alpha / sqrt(r) with use_rslora (Kalajdzievski 2023, arXiv:2312.03732)."""
    alpha = _by_pattern(config.get("alpha_pattern"), module, config.get("lora_alpha", 8))
    if not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise ParentError(f"{CONFIG} gives lora_alpha {alpha!r} to '{module}'. Wanted a finite number.")
    r = rank(config, module)
    return float(alpha / math.sqrt(r) if config.get("use_rslora") else alpha / r)


def _by_pattern(patterns: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """The value of the first pattern that is the module's name or, after a dot, its end."""
    for pattern, value in (patterns or {}).items():
        try:
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        except re.error as e:
            raise ParentError(f"{CONFIG} has the pattern {pattern!r}, no regular expression ({e}). Repair it.") from e
    return default
