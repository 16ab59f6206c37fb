"""What runs inside vLLM's workers: each merges the parents itself, its own slices only, into the weights it serves."""

from __future__ import annotations

import hashlib
import os
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import psutil
import torch

from evomerge import build
from evomerge.backends.unbuilt import Box, Fill, Plan, Site, Unbuilt
from evomerge.models.family import Family
from evomerge.models.parent import tensor_files
from evomerge.types import Recipe

T = TypeVar("T")
#: (elements built, errors as (class name, message)): RPC answers are plain data.
Written: TypeAlias = tuple[int, list[tuple[str, str]]]
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
_SAMPLE = 4096  # entries of a plain tensor that tell whether it was rewritten


class MergingWorker:
    """Mixed into vLLM's worker class; its method names must not clash with those of vLLM's."""

    evomerge_parents: Family

    def evomerge_watch(self, driver: int, started: float) -> None:
        """Ends this process once the driver is gone; vLLM's processes outlive a driver that was killed by SIGKILL.

        driver: its process id. started: when it was created, in seconds since the epoch.
        """
        if os.getpid() != driver:
            threading.Thread(target=_die_with, args=(driver, started), daemon=True).start()

    def evomerge_open(self, family: bytes) -> None:
        """Takes the parents at rest, a pickled Family: paths and names, no weights."""
        self.evomerge_parents = pickle.loads(family)  # our driver's bytes, by the engine's own pipe; never a file's

    def evomerge_write(self, recipe: bytes) -> Written:
        """Writes the merged model of a pickled Recipe, tensor by tensor."""
        merged: Recipe = pickle.loads(recipe)  # as above
        planned = build.layers(merged)
        parents = self.evomerge_parents
        return self._evomerge_load(lambda name: partial(build.merge_box, merged, planned, parents, name))

    def evomerge_write_base(self, factor: float) -> Written:
        """Writes the base's own weights, all multiplied by `factor`."""
        return self._evomerge_load(lambda name: partial(_scaled, self.evomerge_parents, name, factor))

    def evomerge_read(self, folder: str, factor: float) -> Written:
        """Reads the weights of a checkpoint, all multiplied by `factor`."""
        from safetensors import safe_open

        def weights() -> Iterator[tuple[str, torch.Tensor]]:
            for name, (stored, path) in _in_order(tensor_files(Path(folder)), self._evomerge_tied()):
                with safe_open(path, framework="pt") as file:
                    yield name, file.get_tensor(stored) * factor

        self.reload_weights(weights_iterator=weights())  # type: ignore[attr-defined]
        return 0, []

    def evomerge_probe(self) -> dict[str, str]:
        """Module -> digest of what it computes on a fixed input, or of its weights; "" if that is all zeros.

        Asked of each layer as it computes: packed copies of weights can be stale where the weights are new.
        """
        modules = self.get_model().named_modules()  # type: ignore[attr-defined]
        return {name: _digest(value) for name, module in modules if (value := _felt(module)) is not None}

    def _evomerge_load(self, fill: Callable[[str], Fill]) -> Written:
        site = Site()
        self.reload_weights(weights_iterator=self._evomerge_unbuilt(fill, site))  # type: ignore[attr-defined]
        return site.built, [(type(fault).__name__, str(fault)) for fault in site.faults]

    def _evomerge_unbuilt(self, fill: Callable[[str], Fill], site: Site) -> Iterator[tuple[str, torch.Tensor]]:
        shapes = dict(self.evomerge_parents.shapes)
        for name, (source, shape) in _in_order(shapes, self._evomerge_tied()):
            yield name, Unbuilt(Plan(name, fill(source), site), tuple(slice(0, n) for n in shape))

    def _evomerge_tied(self) -> str | None:
        """The head that a tied checkpoint does not hold: vLLM's CPU kernels keep a packed copy of it, which only its
        own name renews."""
        from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

        modules = self.get_model().named_modules()  # type: ignore[attr-defined]
        head = next((f"{name}.weight" for name, module in modules if isinstance(module, ParallelLMHead)), None)
        return None if head in self.evomerge_parents.shapes else head


def _die_with(driver: int, started: float) -> None:
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(driver)
        if process.create_time() == started:  # else its id belongs to another by now
            process.wait()
    engine = psutil.Process().parent()
    if engine is not None and engine.name().startswith("VLLM"):
        engine.kill()
    os._exit(1)


def _in_order(files: Mapping[str, T], head: str | None) -> Iterable[tuple[str, tuple[str, T]]]:
    """Every tensor's name with its source, and the tied head last, whose source is the embedding."""
    yield from ((name, (name, where)) for name, where in files.items())
    embedding = next((name for name in files if name.endswith(_EMBEDDINGS)), None)
    if head is not None and embedding is not None:
        yield head, (embedding, files[embedding])


def _scaled(
    family: Family, name: str, factor: float, box: Box, device: torch.device
) -> Iterator[tuple[Box, torch.Tensor]]:
    yield box, factor * family.read(family.model.digest, name, device)[box].float()


def _felt(module: torch.nn.Module) -> torch.Tensor | None:
    from vllm.model_executor.layers.linear import LinearBase
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    own = next(module.parameters(recurse=False), None)
    if own is None:
        return None
    if not isinstance(module, LinearBase | ParallelLMHead):
        return own.detach().flatten()[:: max(1, own.numel() // _SAMPLE)]
    linear: Any = module
    width = linear.embedding_dim if isinstance(module, ParallelLMHead) else linear.input_size_per_partition
    rows = torch.arange(2 * width, device=own.device).cos().reshape(2, width).to(own.dtype)
    computed: torch.Tensor = linear.quant_method.apply(linear, rows, None)
    return computed


def _digest(value: torch.Tensor) -> str:
    felt = value.detach().float().cpu().contiguous()
    return hashlib.sha256(felt.numpy().tobytes()).hexdigest()[:16] if felt.any() else ""
