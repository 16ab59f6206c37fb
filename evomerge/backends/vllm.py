"""A vLLM engine as the live model: the recipe travels to its workers, and each merges what it serves."""

from __future__ import annotations

import math
import pickle
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Literal

import torch

from evomerge import build, errors
from evomerge.backends import scratch, vllm_check
from evomerge.backends.answers import errors_only, sound
from evomerge.backends.encoding import Pairs
from evomerge.backends.vllm_engine import Engine, EngineSettings
from evomerge.backends.vllm_install import check_heads, version
from evomerge.backends.vllm_lm import EngineLM
from evomerge.errors import ConfigError
from evomerge.families import Request
from evomerge.models import blank, speech
from evomerge.models.family import Family
from evomerge.models.shards import Outline, write_shards
from evomerge.types import Recipe


class VLLMBackend:
    """An engine whose weights are rewritten in place, asked with the HF backend's tokens and windows.

    Made of plain settings (see EngineSettings); holds an engine after `open`, and is pickled without it. `batch_size`:
    sequences at once. `carrier`: "build" merges inside the workers, "file" exports each candidate to a folder of
    memory and has it read back, for architectures whose loaders do not take tensors that are still to be built.
    `built` counts the elements each worker has built at the last write.
    """

    incidental = ("gpu_memory_utilization", "kv_cache_gb", "processes", "carrier")

    def __init__(
        self,
        *,
        batch_size: int = 16,
        max_length: int | None = None,
        tensor_parallel: int = 1,
        gpu_memory_utilization: float = 0.9,
        kv_cache_gb: float | None = None,
        enforce_eager: bool = True,
        processes: bool = False,
        share_prefix: bool = True,
        carrier: Literal["build", "file"] = "build",
    ) -> None:
        self._settings = EngineSettings(
            batch_size,
            max_length,
            tensor_parallel,
            gpu_memory_utilization,
            kv_cache_gb,
            enforce_eager,
            processes,
            share_prefix,
        )
        self._settings.check()
        if carrier not in ("build", "file"):
            raise ConfigError(errors.unknown("backend.carrier", str(carrier), ("build", "file")))
        self.batch_size, self.max_length, self.carrier = batch_size, max_length, carrier
        self.tensor_parallel, self.gpu_memory_utilization = tensor_parallel, gpu_memory_utilization  # to plan memory
        self.notes: tuple[str, ...] = ()
        self.built: tuple[int, ...] = ()
        self._engine: Engine | None = None
        self._lm: EngineLM | None = None
        self._pairs: Pairs | None = None
        self._family: Family | None = None
        self._dtype = torch.float32

    def check(self, family: Family, recipes: Iterable[Recipe] = ()) -> None:
        """Raises ConfigError if vLLM is missing or untested, does not know the model's heads, or could not hold it.

        The last where the vocabularies make it larger. Opens nothing.
        """
        version()
        check_heads(family.base_folder, blank.empty_model(family.base_folder).config)
        _refuse_resized(family)

    def open(self, family: Family, device: torch.device, dtype: str) -> None:
        """Starts the engine of `family`; its weights are the base's until the first `write`.

        Raises ConfigError if vLLM is missing or does not start, if the vocabularies make the model larger, or if the
        engine does not answer as it should after its weights were rewritten.
        """
        self.check(family)
        self.close()
        self._family, self._dtype = family, blank.pick_dtype(dtype)
        self._engine = Engine(self._settings, family.base_folder, device, dtype)
        try:
            self._begin(self._engine, family)
        except BaseException:
            self.close()
            raise

    def _begin(self, engine: Engine, family: Family) -> None:
        tokenizer, model = _tokenizer(family), blank.empty_model(family.base_folder)
        engine.call("evomerge_open", pickle.dumps(family))
        vllm_check.verify(engine, len(tokenizer), self._write_base)
        with errors_only():
            self._lm = EngineLM(engine, model, tokenizer)
        self._pairs = Pairs(self._lm)
        self.notes = tuple(self._remarks(engine, family, model))

    def _write_base(self, factor: float) -> None:
        """By the carrier that candidates take."""
        engine, family = self._live()
        if self.carrier == "file":
            engine.call("evomerge_read", str(family.base_folder), factor)
        else:
            vllm_check.written(engine.call("evomerge_write_base", factor))
        engine.forget()

    def close(self) -> None:
        """Stops the engine."""
        if self._engine is not None:
            self._engine.stop()
        self._engine = self._lm = self._pairs = None

    def write(self, recipe: Recipe) -> None:
        """Builds the recipe into the engine. Raises MergeError if it cannot be built; the engine stays usable."""
        engine, family = self._live()
        build.write(recipe, family, {})  # what is wrong with it as a whole
        if self.carrier == "file":
            self._carry(recipe)
        else:
            self.built = vllm_check.written(engine.call("evomerge_write", pickle.dumps(recipe)))
        engine.forget()

    def _carry(self, recipe: Recipe) -> None:
        engine, family = self._live()
        folder = scratch.new_folder()
        try:
            outlines = {name: Outline(tuple(shape), self._dtype) for name, shape in family.shapes.items()}
            write_shards(folder, outlines, partial(_merged, recipe, family, self._dtype))
            engine.call("evomerge_read", str(folder), 1.0)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def answer(self, requests: Sequence[Request]) -> list[Any]:
        """Answers in the order of the requests: (log-likelihood, is greedy), log-likelihood, or text by kind.

        Raises MergeError if a log-likelihood is NaN: most metrics would call that a wrong answer.
        """
        self._live()
        assert self._lm is not None
        self._lm.at_once = self.batch_size  # halved for a retry when memory ran out
        answers: list[Any] = [None] * len(requests)
        for kind in dict.fromkeys(r.request_type for r in requests):
            places = [i for i, r in enumerate(requests) if r.request_type == kind]
            found = self._ask(self._lm, kind, [requests[i] for i in places])
            for place, answer in zip(places, found, strict=True):
                answers[place] = sound(answer)
        return answers

    def _ask(self, lm: EngineLM, kind: str, requests: list[Request]) -> Any:
        if kind != "loglikelihood":
            return getattr(lm, kind)(requests, disable_tqdm=True)
        assert self._pairs is not None
        pairs = [self._pairs(*request.args) for request in requests]
        return lm._loglikelihood_tokens([(None, p.context.tolist(), p.continuation.tolist()) for p in pairs])

    def apply_chat_template(self, messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Messages as the model's tokenizer renders them. Raises ValueError if it has no template."""
        self._live()
        assert self._lm is not None
        return str(self._lm.apply_chat_template(messages, add_generation_prompt))

    @property
    def tokenizer(self) -> Any:
        self._live()
        assert self._lm is not None
        return self._lm.tokenizer

    @property
    def lm(self) -> Any:
        """What the HF backend has and this one lacks. Raises ConfigError."""
        raise ConfigError(
            "this asks for whole next-token distributions or for live weights, which vLLM does not hand out. Set "
            "backend=hf, or leave out the measure that needs them (divergence)."
        )

    def _live(self) -> tuple[Engine, Family]:
        if self._engine is None or self._family is None:
            raise ConfigError("the backend holds no engine; call open(family, device, dtype) first.")
        return self._engine, self._family

    def _remarks(self, engine: Engine, family: Family, model: Any) -> Iterator[str]:
        own = getattr(model.config, "max_position_embeddings", 0)
        if self.max_length is None and engine.max_length < own:
            yield (
                f"vLLM reads an answer's last token and makes one more, so prompts are cut to {engine.max_length} of "
                f"the model's {own} tokens. Set backend.max_length on both backends to compare them"
            )
        if self.carrier == "file":
            size = sum(math.prod(shape) for shape in family.shapes.values()) * self._dtype.itemsize
            yield f"each candidate is written to a folder of memory and read back: {size / 2**20:.0f} MiB, twice"

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(VLLMBackend, **asdict(self._settings), carrier=self.carrier), ()


def _refuse_resized(family: Family) -> None:
    odd = next((n for n, shape in family.shapes.items() if shape != family.model.shapes[n]), None)
    if odd is not None:
        raise ConfigError(
            f"parents.vocabulary={family.policy} makes '{odd}' {family.shapes[odd]} where the base has "
            f"{family.model.shapes[odd]}, and vLLM's engine keeps the base's size. Use backend=hf, or vocabulary=base."
        )


def _tokenizer(family: Family) -> Any:
    from transformers import AutoTokenizer

    return speech.live_tokenizer(family) or AutoTokenizer.from_pretrained(family.base_folder, local_files_only=True)


def _merged(recipe: Recipe, family: Family, dtype: torch.dtype, name: str) -> Iterator[torch.Tensor]:
    whole = torch.empty(family.shapes[name], dtype=dtype)
    build.write_tensor(recipe, build.layers(recipe), family, name, whole)
    yield whole
