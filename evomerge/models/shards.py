"""Safetensors files written piece by piece: headers from shapes that are known beforehand, then bytes as they come."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

SHARD = 4 * 2**30
#: The format's names of dtypes.
NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}


@dataclass(frozen=True)
class Outline:
    """A tensor that is yet to be made."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def write_shards(
    folder: Path,
    outlines: Mapping[str, Outline],
    pieces: Callable[[str], Iterable[torch.Tensor]],
    told: Callable[[int], None] = lambda written: None,
    shard_bytes: int = SHARD,
) -> None:
    """Write tensors in the order of the outlines, in as many files as transformers expects for files of this size.

    pieces(name): the tensor's entries in row-major order, cut anywhere, in its dtype, on any device; one is in memory
    at a time. told: the bytes of each piece that is written. Files have their names when all are whole; where that
    fails, none is left.
    """
    shards = _planned(outlines, shard_bytes)
    files = _names(len(shards))
    try:
        for file, shard in zip(files, shards, strict=True):
            with _unfinished(folder, file).open("wb") as f:
                f.write(_header({name: outlines[name] for name in shard}))
                for name in shard:
                    _write(f, name, outlines[name], pieces(name), told)
    except BaseException:
        for file in files:
            _unfinished(folder, file).unlink(missing_ok=True)  # the same command may be given again
        raise
    for file in files:
        _unfinished(folder, file).rename(folder / file)
    if len(shards) > 1:
        _write_index(folder, dict(zip(files, shards, strict=True)), sum(o.nbytes for o in outlines.values()))


def _planned(outlines: Mapping[str, Outline], shard_bytes: int) -> list[list[str]]:
    """Names by shard: a new one begins with the tensor that would make the last one too large."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, outline in outlines.items():
        if shards[-1] and size + outline.nbytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += outline.nbytes
    return shards


def _names(total: int) -> list[str]:
    """The names transformers looks for."""
    if total == 1:
        return ["model.safetensors"]
    return [f"model-{i + 1:05d}-of-{total:05d}.safetensors" for i in range(total)]


def _unfinished(folder: Path, file: str) -> Path:
    return folder / f"{file}.part"


def _header(outlines: Mapping[str, Outline]) -> bytes:
    """Eight bytes of length, then JSON, padded so that the entries begin at a multiple of eight."""
    said: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, outline in outlines.items():
        offsets = [at, at := at + outline.nbytes]
        said[name] = {"dtype": NAMES[outline.dtype], "shape": list(outline.shape), "data_offsets": offsets}
    text = json.dumps(said, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write(
    f: BinaryIO, name: str, outline: Outline, pieces: Iterable[torch.Tensor], told: Callable[[int], None]
) -> None:
    left = outline.nbytes
    for piece in pieces:
        assert piece.dtype == outline.dtype, f"{name} is {outline.dtype}, a piece of it {piece.dtype}"
        f.write(piece.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        told(piece.nbytes)
        left -= piece.nbytes
    assert left == 0, f"{name} has {outline.nbytes} bytes, and {outline.nbytes - left} were given"


def _write_index(folder: Path, shards: Mapping[str, Sequence[str]], total: int) -> None:
    where = {name: file for file, names in shards.items() for name in names}
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
