"""Candidates as adapter folders for an engine that reads them, kept in memory where there is room."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.functional import pad

from evomerge.backends import scratch
from evomerge.backends.population import Joined
from evomerge.errors import ConfigError
from evomerge.models import layout
from evomerge.models.lora_config import CONFIG
from evomerge.models.lora_file import WEIGHTS
from evomerge.models.lora_keys import PREFIX
from evomerge.models.lora_names import Skeleton, skeleton
from evomerge.models.lora_writer import write_adapter
from evomerge.models.parent import Parent


class AdapterFiles:
    """Adapters over linear layers, all of one rank: the joined factors, padded with zeros, in folders by name.

    `at_once`: how many there may be at a time. Raises ConfigError for a tensor that is no linear layer's own, and
    where there is no room.
    """

    def __init__(self, base: Parent, joined: Mapping[str, Joined], dtype: torch.dtype, at_once: int) -> None:
        self.rank = max(len(own.owners) for own in joined.values())
        bones = skeleton(base)
        self._keys = {name: f"{PREFIX}{_linear(name, bones)}" for name in joined}
        self.modules = sorted({key.rpartition(".")[2] for key in self._keys.values()})  # their last words
        self._joined, self._dtype = joined, dtype
        nothing = {name: torch.zeros(len(own.owners)) for name, own in joined.items()}
        size = sum(tensor.nbytes for tensor in self._tensors(nothing).values())
        self._root = scratch.new_folder(_roomy(size * at_once))
        self.close = weakref.finalize(self, shutil.rmtree, self._root, ignore_errors=True)  # or at the process's end
        sample = {name: (own.left.new_zeros(len(own.left), self.rank), self._a(own)) for name, own in joined.items()}
        write_adapter(self._folder("sample"), sample, base=base, base_name=base.name, dtype=dtype)
        self._config = (self._folder("sample") / CONFIG).read_text()
        self.remove("sample")

    def write(self, name: str, table: Mapping[str, torch.Tensor]) -> Path:
        """The folder of a new adapter. table: tensor -> float32 (R,), the coefficient of each rank."""
        folder = self._folder(name)
        folder.mkdir()
        save_file(self._tensors(table), folder / WEIGHTS, metadata={"format": "pt"})
        (folder / CONFIG).write_text(self._config)
        return folder

    def remove(self, name: str) -> None:
        shutil.rmtree(self._folder(name), ignore_errors=True)

    def _folder(self, name: str) -> Path:
        return self._root / name

    def _tensors(self, table: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        found = {}
        for name, own in self._joined.items():
            b = pad(own.left * table[name], (0, self.rank - len(own.owners)))  # (m, rank)
            found[f"{self._keys[name]}.lora_A.weight"] = self._a(own).to(self._dtype)
            found[f"{self._keys[name]}.lora_B.weight"] = b.to(self._dtype)
        return {key: tensor.contiguous() for key, tensor in found.items()}

    def _a(self, own: Joined) -> torch.Tensor:
        return pad(own.right, (0, 0, 0, self.rank - len(own.owners)))  # (rank, n)


def _linear(name: str, bones: Skeleton) -> str:
    """The live linear module whose weight a tensor of the base's files is."""
    live = next(live for live, stored in bones.at_rest.items() if name in stored)
    module = live.removesuffix(".weight")
    odd = module in bones.lookups | bones.in_out or len(bones.names[live]) > 1
    if odd or layout.place(name).part == "head":  # an adapted head fails where prompts are scored (vLLM 0.32)
        raise ConfigError(
            f"the adapters change '{name}', which is no linear layer inside a block (embeddings or head), and vLLM "
            "scores prompts with adapters of those alone. Set backend=hf_lora."
        )
    return module


def _roomy(size: int) -> Path:
    """A folder for temporary files with room for so many bytes, of memory if there is one."""
    places = [place for place in (Path("/dev/shm"), Path(tempfile.gettempdir())) if place.is_dir()]
    for place in places:
        if shutil.disk_usage(place).free > size:
            return place
    raise ConfigError(
        f"merged adapters need {size / 2**20:.0f} MiB at a time, and neither {' nor '.join(map(str, places))} has as "
        "much free. Set TMPDIR to a folder that has, or lower backend.together."
    )
