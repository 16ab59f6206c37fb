"""A vLLM engine that serves merged adapters: a whole generation in one batch over a base that is never rewritten.

Each candidate is an adapter of joined ranks in a folder of memory, under a number that no other ever had: vLLM keeps
adapters by their number, and would go on serving old ones. Rows without an adapter never share a batch with others
(on a CPU, vLLM 0.32 gives them another row's adapter): the base is an adapter of zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import count
from typing import Any

import torch

from evomerge.backends import population
from evomerge.backends.answers import errors_only
from evomerge.backends.encoding import Pair
from evomerge.backends.lora_files import AdapterFiles
from evomerge.backends.slots import Loglik, Slots, by_slot, in_turn
from evomerge.backends.vllm_crowd import Crowd, verify
from evomerge.backends.vllm_engine import Engine, EngineSettings
from evomerge.backends.vllm_install import check_heads, version
from evomerge.backends.vllm_lm import EngineLM
from evomerge.errors import ConfigError
from evomerge.families import Request
from evomerge.models import blank, speech
from evomerge.models.family import Family
from evomerge.types import Recipe

NAME = "vllm_lora"
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM takes as max_lora_rank


class VLLMLora:
    """An engine that serves up to `together` candidates as adapters, each in a slot.

    Settings as of VLLMBackend; `batch_size` counts sequences at once, over all candidates. Every slot is asked, taken
    or not, as on the HF path. Factors have the live model's dtype: vLLM keeps no other.
    """

    def __init__(
        self,
        *,
        batch_size: int = 32,
        max_length: int | None = None,
        together: int = 8,
        tensor_parallel: int = 1,
        gpu_memory_utilization: float = 0.9,
        kv_cache_gb: float | None = None,
        enforce_eager: bool = True,
        processes: bool = False,
        share_prefix: bool = True,
    ) -> None:
        self._settings = EngineSettings(
            batch_size=batch_size,
            max_length=max_length,
            tensor_parallel=tensor_parallel,
            gpu_memory_utilization=gpu_memory_utilization,
            kv_cache_gb=kv_cache_gb,
            enforce_eager=enforce_eager,
            processes=processes,
            share_prefix=share_prefix,
        )
        self._settings.check()
        population.check_together(together, batch_size)
        self.batch_size, self.max_length, self.together = batch_size, max_length, together
        self.tensor_parallel = tensor_parallel  # to plan memory
        self.notes = (f"candidates were served as adapters over one base, {together} at a time",)
        self._crowd: Crowd | None = None
        self._files: AdapterFiles | None = None
        self._numbers = count(1)

    def check(self, family: Family, recipes: Iterable[Recipe] = ()) -> None:
        """Raises ConfigError without vLLM, or if these parents or recipes cannot be served; opens nothing."""
        version()
        population.check_family(family, NAME)
        check_heads(family.base_folder, blank.empty_model(family.base_folder).config)
        for recipe in recipes:
            population.coefficients(recipe, family, NAME)

    def open(self, family: Family, device: torch.device, dtype: str) -> None:
        """Starts the engine; every slot is the base until the first write.

        Raises ConfigError if vLLM is missing, does not start, or does not serve each prompt by its own adapter.
        """
        self.check(family)
        self.close()
        try:
            self._begin(family, device, dtype)
        except BaseException:
            self.close()
            raise

    def _begin(self, family: Family, device: torch.device, dtype: str) -> None:
        assert family.base is not None, "checked"
        self._family, self._joined = family, population.join(family)
        self._files = AdapterFiles(family.base, self._joined, blank.pick_dtype(dtype), 2 * self.together)
        engine = Engine(self._settings, family.base_folder, device, dtype, **self._lora_settings(self._files))
        self._crowd = Crowd(engine)
        asked: Any = self._crowd
        with errors_only():
            self._lm = EngineLM(asked, blank.empty_model(family.base_folder), _tokenizer(family))
        self._slots = Slots(self._lm, self._logliks, self._texts)
        self._empty = [self._add(self._alike(0.0)) for _ in range(self.together)]  # who sits in an empty slot
        self._verify(self._crowd)
        self._load({}, self.together)

    def _lora_settings(self, files: AdapterFiles) -> dict[str, Any]:
        return {
            "enable_lora": True,
            "max_loras": self.together,
            "max_cpu_loras": 2 * self.together,  # candidates, and who sits in empty slots
            "max_lora_rank": _room(files.rank),
            "lora_target_modules": files.modules,
        }

    def close(self) -> None:
        """Stops the engine and removes the adapters' files."""
        files, crowd = self._files, self._crowd
        self._files = self._crowd = None
        if files is not None:
            files.close()
        if crowd is not None:
            crowd.engine.stop()

    def write(self, recipe: Recipe) -> None:
        """Serve one candidate, as slot 0 with all others empty."""
        self.write_together({0: recipe})

    def write_together(self, recipes: Mapping[int, Recipe]) -> None:
        """Serve candidates by slot, 0 to together - 1; then `turn_to` one of them. The lowest slot has its turn first.

        Raises ConfigError for a recipe that is more than a sum of the adapters.
        """
        self._load(recipes, self.together)

    def write_alone(self, recipe: Recipe) -> None:
        """Serve one candidate with no slots beside it: for what has no company, such as finalists."""
        self._load({0: recipe}, 1)

    def _load(self, recipes: Mapping[int, Recipe], slots: int) -> None:
        crowd = self._live()
        tables = population.tables(population.seated(recipes, slots), self._family, self._joined, NAME)
        self._drop([adapter for adapter in crowd.adapters if adapter not in self._empty])
        crowd.adapters = [
            self._add({name: table[slot] for name, table in tables.items()}) if slot in recipes else self._empty[slot]
            for slot in range(slots)
        ]
        crowd.engine.forget()  # what is cached for empty slots would be read in other batches than without
        self._slots.serve(slots)
        self.turn_to(min(recipes, default=0))

    def _add(self, table: Mapping[str, torch.Tensor]) -> Any:
        from vllm.lora.request import LoRARequest

        number = next(self._numbers)
        folder = self._written.write(str(number), table)
        adapter = LoRARequest(f"candidate {number}", number, str(folder))
        self._live().engine.add_lora(adapter)
        return adapter

    def _drop(self, adapters: Iterable[Any]) -> None:
        for adapter in adapters:
            self._live().engine.call("remove_lora", adapter.lora_int_id)
            self._written.remove(str(adapter.lora_int_id))

    def _alike(self, coefficient: float) -> dict[str, torch.Tensor]:
        return {name: torch.full((len(own.owners),), coefficient) for name, own in self._joined.items()}

    def turn_to(self, slot: int) -> None:
        """Answers are this slot's from now on."""
        assert 0 <= slot < self._slots.count, f"slot {slot}; there are {self._slots.count}"
        self._slots.turn = slot

    def answer(self, requests: Sequence[Request]) -> list[Any]:
        """As HFBackend.answer, of the candidate whose turn it is. Raises MergeError if a log-likelihood is NaN."""
        self._live()
        self._lm.at_once = self.batch_size if self.batch_size < self._settings.batch_size else None
        return self._slots.answer(requests, self.batch_size)

    def _logliks(self, pairs: list[Pair]) -> list[list[Loglik]]:
        asked = [(None, pair.context.tolist(), pair.continuation.tolist()) for pair in pairs]
        return by_slot(self._lm._loglikelihood_tokens(in_turn(asked, self._slots.count)), self._slots.count)

    def _texts(self, requests: list[Request]) -> list[list[str]]:
        """lm-eval sorts prompts, which keeps equal ones in their order."""
        copies: Any = in_turn(requests, self._slots.count)
        return by_slot(self._lm.generate_until(copies, disable_tqdm=True), self._slots.count)

    def _verify(self, crowd: Crowd) -> None:
        adapters = [self._add(self._alike(c)) for c in (1.0, -0.5)[: self.together - 1] or (1.0,)]
        verify(crowd, adapters, self._empty[0])
        self._drop(adapters)

    def apply_chat_template(self, messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Messages as the model's tokenizer renders them. Raises ValueError if it has no template."""
        self._live()
        return str(self._lm.apply_chat_template(messages, add_generation_prompt))

    @property
    def tokenizer(self) -> Any:
        self._live()
        return self._lm.tokenizer

    @property
    def lm(self) -> Any:
        """What the HF backends have and this one lacks. Raises ConfigError."""
        raise ConfigError(
            "this asks for whole next-token distributions or for live weights, which vLLM does not hand out. Set "
            "backend=hf_lora, or leave out the measure that needs them (divergence)."
        )

    def _live(self) -> Crowd:
        if self._crowd is None:
            raise ConfigError("the backend holds no engine; call open(family, device, dtype) first.")
        return self._crowd

    @property
    def _written(self) -> AdapterFiles:
        assert self._files is not None, "open"
        return self._files

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(VLLMLora, **asdict(self._settings), together=self.together), ()


def _room(rank: int) -> int:
    found = next((allowed for allowed in RANKS if allowed >= rank), None)
    if found is None:
        raise ConfigError(
            f"the adapters' ranks add up to {rank} and vLLM takes {RANKS[-1]} at most. Set backend=hf_lora, or give "
            "fewer adapters."
        )
    return found


def _tokenizer(family: Family) -> Any:
    from transformers import AutoTokenizer

    return speech.live_tokenizer(family) or AutoTokenizer.from_pretrained(family.base_folder, local_files_only=True)
