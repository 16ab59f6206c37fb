"""Adapters on a server: written to a folder that it can read, loaded under a name that was never used, unloaded."""

from __future__ import annotations

import shutil
import weakref
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from evomerge.adapter import Summary, check, export_adapter
from evomerge.backends import scratch
from evomerge.backends.completions import Refused, Server
from evomerge.errors import ConfigError, EvomergeError
from evomerge.models.family import Family
from evomerge.models.lora import Adapter
from evomerge.models.lora_writer import Factors, write_adapter
from evomerge.types import Recipe

CARD = "A merge of adapters, written for a server while a search evaluates it.\n"
HASTE = 1.0  # seconds for a farewell, which nobody waits for: a request that was sent is served all the same


class Served:
    """The adapter of one candidate at a time. Servers keep adapters by their name, so each load has a new one.

    What is loaded and written is taken away by `close`, or at the end of the process.
    """

    def __init__(self, server: Server, family: Family, device: torch.device, folder: str | None, rank: int | None):
        self.name = ""  # of the adapter that is loaded
        self._server, self._family, self._device, self._rank = server, family, device, rank
        self._folder = _own_folder(folder)
        self._path = self._folder
        self._loads = 0
        self._loaded: list[str] = []
        self.close = weakref.finalize(self, _leave, server, self._folder, self._loaded)

    def show(self, recipe: Recipe) -> Summary:
        """Serve the merged adapter. Raises MergeError for what is no adapter, Refused and Unavailable as the server."""
        self._drop()
        check(recipe, self._family)
        if not any(self._family.is_adapter(digest) for digest in recipe.parents):
            self.show_factors(self.nothing())
            return Summary(0, 0.0)
        summary = export_adapter(recipe, self._family, self._next_path(), self._device, CARD, self._rank)
        self.load()
        return summary

    def show_factors(self, factors: Factors) -> None:
        """Serve an adapter of these factors, by the names of the base's files."""
        self._drop()
        assert self._family.base is not None, "adapters are opened over a base"
        write_adapter(self._next_path(), factors, base=self._family.base, base_name=self._family.base.name)
        self.load()

    def nothing(self) -> Factors:
        """The base as an adapter: zeros, of the largest rank that a merge may have.

        A request for the base itself would do, but some servers answer it with the adapter of its neighbour in a batch.
        """
        shapes, ranks = self._family.shapes, self.ranks()
        return {n: (torch.zeros(shapes[n][0], r), torch.zeros(r, shapes[n][1])) for n, r in ranks.items()}

    def ranks(self) -> dict[str, int]:
        """Tensor -> largest rank of its merged factors."""
        found: dict[str, int] = {}
        for parent in (p for p in self._family.parents if isinstance(p, Adapter)):
            for name in filter(parent.low_rank, parent.changes):
                found[name] = found.get(name, 0) + parent.factors(name, torch.device("cpu"))[0].shape[1]
        return {name: min(rank, self._rank or rank) for name, rank in found.items()}

    def load(self) -> None:
        """Load what was last written under a new name; again, where a server was started anew and has lost it."""
        self._loads += 1
        name = f"{self._folder.name}-{self._loads}"
        self._loaded.append(name)
        try:
            self._server.post("load_lora_adapter", lora_name=name, lora_path=str(self._path))
        except Refused:
            if name not in self._server.models():  # it is there if only the answer to an earlier attempt was lost
                raise
        self.name = name

    def _next_path(self) -> Path:
        self._path = self._folder / f"adapter-{self._loads + 1}"
        return self._path

    def _drop(self) -> None:
        """Unload the last candidate's adapter and remove its files."""
        while self._loaded:
            _unload(self._server, self._loaded[-1])
            self._loaded.pop()
        if self._path != self._folder:
            shutil.rmtree(self._path, ignore_errors=True)


def _own_folder(folder: str | None) -> Path:
    """A new folder for this process, as open to others as the one it is made in."""
    try:
        if folder is None:
            return scratch.new_folder()
        shared = Path(folder).expanduser().resolve()
        shared.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = scratch.new_folder(shared)
        own.chmod(shared.stat().st_mode & 0o755 | 0o700)
    except OSError as e:
        raise ConfigError(
            f"backend.adapters is {folder!r}, where no folder can be made ({e.strerror}). Wanted one that this process "
            "may write and the server may read, under the same path."
        ) from e
    return own


def _unload(server: Server, name: str) -> None:
    with suppress(Refused):  # the server has forgotten it already
        server.post("unload_lora_adapter", lora_name=name)


def _leave(server: Server, folder: Path, loaded: list[str]) -> None:
    hasty = replace(server, timeout=min(HASTE, server.timeout), retries=0)
    with suppress(EvomergeError):  # nothing is lost with it: names are not used again
        for name in loaded:
            _unload(hasty, name)
    shutil.rmtree(folder, ignore_errors=True)
