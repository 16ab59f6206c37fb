"""A vLLM engine whose prompts are answered by several adapters in turn, and whether each is by its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evomerge.backends.slots import in_turn
from evomerge.backends.vllm_engine import Engine
from evomerge.errors import ConfigError


@dataclass
class Crowd:
    """The engine as one EngineLM asks it: prompts take turns among the adapters."""

    engine: Engine
    adapters: list[Any] = field(default_factory=list)

    @property
    def max_length(self) -> int:
        return self.engine.max_length

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Mapping[str, Any], *, at_once: int | None = None
    ) -> list[Any]:
        """vLLM's outputs; prompt k is answered by adapter k modulo their number."""
        turns = [self.adapters[k % len(self.adapters)] for k in range(len(prompts))]
        step = at_once or max(1, len(prompts))
        found: list[Any] = []
        for start in range(0, len(prompts), step):
            own = slice(start, start + step)
            found += self.engine.generate(prompts[own], sampling, lora_request=turns[own])
        return found


def verify(crowd: Crowd, adapters: Sequence[Any], nobody: Any) -> None:
    """Demand that prompts of one batch are answered by their own adapters, and otherwise than by `nobody`.

    Raises ConfigError if the mixed batch differs from each alone by more than a tenth of what the adapters change.
    """
    both = [*adapters, nobody] if len(adapters) > 1 else list(adapters)
    alone = np.array([_scores(crowd, [adapter]) for adapter in both])  # (adapters, prompts)
    mixed = np.array(_scores(crowd, both)).reshape(-1, len(both)).T
    effect = np.abs(alone[: len(adapters)] - _scores(crowd, [nobody]))
    missed = np.abs(mixed - alone)
    if not effect.any() or missed.max() > effect.max() / 10:
        raise ConfigError(
            "vLLM does not answer each prompt by its own adapter: adapters change log-probabilities by "
            f"{effect.max():.2g} and a mixed batch by {missed.max():.2g}. Wanted a change, and a tenth of it at most. "
            "Set backend=hf_lora, or backend=vllm."
        )


def _scores(crowd: Crowd, adapters: list[Any]) -> list[float]:
    """Sums of log-probabilities of prompts, one longer than a block of the cache, each asked of every adapter."""
    crowd.engine.forget()
    crowd.adapters = adapters
    rng, longest = np.random.default_rng(0), crowd.max_length - 2
    lengths = [min(n, longest) for n in (9, crowd.engine.block_size + 7, 33)]
    prompts = in_turn([rng.integers(0, 200, n).tolist() for n in lengths], len(adapters))
    sampling = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0, "flat_logprobs": True, "detokenize": False}
    return [sum(output.prompt_logprobs.logprobs[1:]) for output in crowd.generate(prompts, sampling)]
