"""A merged model on disk as transformers reads it: sharded safetensors, config, tokenizer, readable by all."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evomerge.errors import EvomergeError

_TOKENIZER = (
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.model",
    "*.jinja",
)


def prepare_folder(folder: Path, bytes_needed: int) -> None:
    """Make an empty folder with room for the model. Raises EvomergeError if it is not empty, writable or large."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise EvomergeError(f"{folder} is not empty. Give another folder with --to, or empty it.")
        free = shutil.disk_usage(folder).free
    except OSError as e:
        raise EvomergeError(f"cannot write to {folder}: {e.strerror}. Give a writable folder with --to.") from e
    if free < bytes_needed:
        raise EvomergeError(
            f"{folder} has {free >> 20} MB free and the model needs {bytes_needed >> 20} MB. Make room."
        )


def copy_setting(source: Path, folder: Path, config: Mapping[str, Any], dtype: str) -> None:
    """Config with the new dtype, generation config, tokenizer and chat template of the source."""
    kept = {k: v for k, v in config.items() if k not in ("torch_dtype", "_name_or_path")}
    (folder / "config.json").write_text(json.dumps({**kept, "dtype": dtype}, indent=2) + "\n")
    for pattern in (*_TOKENIZER, "generation_config.json"):
        for path in source.glob(pattern):
            if path.is_file() and not (folder / path.name).exists():
                shutil.copyfile(path, folder / path.name)


def make_readable(folder: Path) -> None:
    """Give files the mode a plain open() would: safetensors' writers may leave them for the owner alone."""
    umask = os.umask(0)
    os.umask(umask)
    for path in folder.iterdir():
        path.chmod(stat.S_IMODE(0o666 & ~umask))
