"""The live model: loaded once from a checkpoint, then written in place, tensor by tensor."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from evomerge.errors import ConfigError, ParentError, unknown
from evomerge.models import names as naming

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_OWN: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}  # False, not None: None may ask a person


def pick_device(name: str = "auto") -> torch.device:
    """auto: cuda, else mps, else cpu. Raises ConfigError for a device this machine lacks."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as e:
        raise ConfigError(
            f"device '{name}' is not usable here ({e}). Use device=auto, cpu, cuda, cuda:N or mps."
        ) from e
    return torch.device(name)


def pick_dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise ConfigError(unknown("dtype", name, DTYPES))
    return DTYPES[name]


def live_model(
    folder: Path, device: torch.device, dtype: str, device_map: Mapping[str, int | str] | None = None
) -> tuple[Any, Any]:
    """Model and tokenizer, the model in eval mode on the device. Code in the checkpoint is never run.

    device_map: module -> device, for a model on several, as evomerge.models.device_map settles it. Where file and live
    model have one dtype, the files are mapped, and the host holds no copy of its own until weights are written.
    """
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    auto, _ = _recognised(folder)
    wanted = pick_dtype(dtype)
    try:
        model = auto.from_pretrained(folder, dtype=wanted, device_map=device_map and dict(device_map), **_OWN)
        tokenizer = AutoTokenizer.from_pretrained(folder, **_OWN)
    except Exception as e:  # transformers raises many kinds: unknown types, missing files, failed validation
        raise _unloadable(folder, e) from e
    _refuse_encoder(folder, model)
    _keep_untied(model)
    return (model if device_map else model.to(device)).eval(), tokenizer


def _keep_untied(model: Any) -> None:
    """Say in the live config what transformers found in the files: lm-eval ties again whatever the config calls tied.

    T5 v1.1 and Flan-T5 have a head of their own, and transformers 5 sets tie_word_embeddings for every T5.
    """
    head = model.get_output_embeddings()
    if head is not None and getattr(head, "weight", None) is not model.get_input_embeddings().weight:
        model.config.tie_word_embeddings = False


def check_names(folder: Path, names: Iterable[str]) -> None:
    """Refuse, from the config alone, a model that cannot be merged in place: before weights are read."""
    targets(empty_model(folder), names)


def empty_model(folder: Path) -> Any:
    """The model on the meta device, from the config alone. Raises ParentError for one that cannot be searched."""
    auto, config = _recognised(folder)
    try:
        with torch.device("meta"):
            model = auto.from_config(config)
    except Exception as e:
        raise _unloadable(folder, e) from e
    _refuse_encoder(folder, model)
    return model


def targets(model: Any, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """File name -> live tensor, or view of a fused one, to write. A tied tensor appears once.

    Raises ParentError where checkpoint and live model do not cover each other: writing by guess would leave a part of
    the model unmerged.
    """
    live = live_tensors(model)
    return _views(live, naming.once(_homes(model, live, names), live))


def verify(model: Any, names: Iterable[str], read: Callable[[str], torch.Tensor]) -> None:
    """Demand that the loaded model holds, bit for bit, what `read` finds in the files under every one of `names`.

    To be asked before the first write. One pass, tensor by tensor, every name of a tied tensor too. Raises ParentError.
    """
    live = live_tensors(model)
    naming.verify(_views(live, _homes(model, live, names)), read)


def live_tensors(model: Any) -> dict[str, torch.Tensor]:
    """Name -> tensor that a forward pass computes with.

    Of weights that wait on the host for their device, the copy that accelerate's hooks hold: what the model itself
    shows of them is empty between passes, and each pass copies from that one.
    """
    found = dict(model.state_dict(keep_vars=True))
    return {name: _kept(model, name, tensor) for name, tensor in found.items()}


def _kept(model: Any, name: str, shown: torch.Tensor) -> torch.Tensor:
    """The tensor as shown, or the one in its place that an accelerate hook keeps on the host."""
    if not shown.is_meta:
        return shown
    owner, _, own = name.rpartition(".")
    hook = getattr(model.get_submodule(owner), "_hf_hook", None)
    maps = (getattr(h, "weights_map", None) for h in getattr(hook, "hooks", (hook,)))
    return next((m[own] for m in maps if m is not None), shown)


def _homes(model: Any, live: dict[str, torch.Tensor], names: Iterable[str]) -> dict[str, naming.Home]:
    dropped = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()
    return naming.homes(names, live, prefix=model.base_model_prefix, dropped=dropped)


def _views(live: dict[str, torch.Tensor], found: dict[str, naming.Home]) -> dict[str, torch.Tensor]:
    return {name: naming.view(live[home.tensor].detach(), home) for name, home in found.items()}


def _recognised(folder: Path) -> tuple[Any, Any]:
    """The auto class that makes a checkpoint's language model, and its config. Raises ParentError if there is none."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    _refuse_own_code(folder)
    try:
        config = AutoConfig.from_pretrained(folder, **_OWN)
    except Exception as e:
        raise _unloadable(folder, e) from e
    senses = [key for key in config.sub_configs if re.search("text|vision|audio", key)]
    if senses:
        raise ParentError(
            f"{folder} is a {config.model_type}, a model of several kinds of input ({', '.join(senses)}). Wanted one "
            "of text alone: save its language model as a checkpoint of its own."
        )
    return (AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM), config


def _refuse_own_code(folder: Path) -> None:
    from transformers import CONFIG_MAPPING

    config = json.loads((folder / "config.json").read_text())
    kind = config.get("model_type")
    if "auto_map" in config and kind not in CONFIG_MAPPING:
        raise ParentError(
            f"{folder} is a '{kind}', which needs Python code from the checkpoint (auto_map), and evomerge runs none. "
            "Wanted a model type that transformers knows."
        )


def _refuse_encoder(folder: Path, model: Any) -> None:
    """An encoder such as BERT sees the tokens it is to predict, so its scores mean nothing."""
    causal = {module.is_causal for module in model.modules() if hasattr(module, "is_causal")}
    if causal == {False} and not model.config.is_encoder_decoder:
        raise ParentError(
            f"{folder} is a {model.config.model_type} encoder, which sees the tokens it is to predict. Wanted a "
            "decoder (is_decoder: true in its config, if it was trained as one) or an encoder-decoder."
        )


def _unloadable(folder: Path, error: Exception) -> ParentError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return ParentError(f"transformers cannot load {folder} ({reason}). Wanted a language model it knows.")
