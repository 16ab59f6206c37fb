"""The live model: loaded once from a checkpoint, then written in place, tensor by tensor."""

from __future__ import annotations

from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

import torch

from evomerge.errors import ConfigError, ParentError, unknown

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
#: Constants that older checkpoints carry and models no longer keep; the dot tells attn.bias from c_attn.bias.
_BUFFERS = ("rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias")


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


def live_model(folder: Path, device: torch.device, dtype: str) -> tuple[Any, Any]:
    """Model and tokenizer, the model in eval mode on the device. Code in the checkpoint is never run."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=pick_dtype(dtype), local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (ValueError, OSError, KeyError, RuntimeError) as e:
        raise ParentError(f"transformers cannot load {folder} ({e}). Wanted a causal language model it knows.") from e
    return model.to(device).eval(), tokenizer


def check_names(folder: Path, names: Iterable[str]) -> None:
    """Refuse, from the config alone, an architecture whose tensors are renamed on loading: before weights are read."""
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))
    except (ValueError, OSError, KeyError, RuntimeError) as e:
        raise ParentError(f"transformers cannot make {folder} ({e}). Wanted a causal language model it knows.") from e
    _refuse_renamed(set(model.state_dict()), _written(names))


def _written(names: Iterable[str]) -> list[str]:
    return [n for n in names if not n.endswith(_BUFFERS)]


def _refuse_renamed(live: Container[str], names: Iterable[str]) -> None:
    absent = sorted(n for n in names if n not in live)
    if absent:
        raise ParentError(
            f"transformers keeps no tensor '{absent[0]}' of this checkpoint ({len(absent)} in all): this architecture "
            "is renamed or fused on loading and cannot be merged yet. Choose parents of another one (README, Limits)."
        )


def targets(model: Any, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """Checkpoint name -> live tensor to write. A tied tensor appears once.

    Raises ParentError where checkpoint and live names differ: writing by guess would leave a part of the model
    unmerged.
    """
    live = dict(model.state_dict(keep_vars=True))
    names = _written(names)
    _refuse_renamed(live, names)
    written: dict[int, str] = {}
    for name in names:
        written.setdefault(live[name].data_ptr(), name)
    extra = sorted(n for n, t in live.items() if t.data_ptr() not in written and t.is_floating_point())
    if extra:
        raise ParentError(f"the checkpoint lacks '{extra[0]}' ({len(extra)} in all), which the live model has.")
    return {name: live[name].detach() for name in written.values()}
