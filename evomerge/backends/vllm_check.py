"""Whether a vLLM engine serves the weights it was given: asked once at its start, layer by layer and by its answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from evomerge import errors
from evomerge.backends.vllm_engine import READ, Engine
from evomerge.errors import ConfigError, EvomergeError, MergeError

OTHER = -0.5  # every weight of the other model is the base's times this
MADE = 4  # tokens generated after a prompt


def verify(engine: Engine, vocabulary: int, write_base: Callable[[float], Any]) -> None:
    """Write the base, another model that differs in every weight, and the base again.

    write_base(factor): the base's weights times a factor, by the way that candidates will take. Wanted: the base
    answers as it was loaded, both times and to the last bit; of the other model, each layer computes otherwise, and
    nothing is answered from the base's prefix cache, which holds prompts of more than one block. Raises ConfigError
    telling what differs.
    """
    asked = Asked(engine, vocabulary)
    loaded, felt = asked.answers(), engine.call("evomerge_probe")
    write_base(1.0)
    _demand(asked.answers() == loaded, "the base's own weights written back answer otherwise than loaded")
    write_base(OTHER)
    _demand(asked.made() == asked.made(fresh=True), "after an update, prompts are answered from an old prefix cache")
    stale = [name for old, new in zip(felt, engine.call("evomerge_probe"), strict=True) for name in _same(old, new)]
    _demand(not stale, f"'{next(iter(stale), '')}' computes with old weights after an update ({len(stale)} such)")
    _demand(asked.answers() != loaded, "another model's weights give the base's answers")
    write_base(1.0)
    _demand(engine.call("evomerge_probe") == felt, "a layer does not return to the base's weights")
    _demand(asked.answers() == loaded, "the base's answers do not come back with its weights")


def written(answers: Sequence[Any]) -> tuple[int, ...]:
    """Elements that each worker built. Raises the first worker's first error as what it was there."""
    for _, faults in answers:
        for kind, message in faults:
            raise _error(kind, message)
    return tuple(built for built, _ in answers)


def _error(kind: str, message: str) -> Exception:
    if kind in ("OutOfMemoryError", "MemoryError"):
        return MemoryError(message)
    known = getattr(errors, kind, None)
    if isinstance(known, type) and issubclass(known, EvomergeError):
        return known(message)
    return MergeError(f"{kind} in vLLM's worker: {message}")


def _same(old: dict[str, str], new: dict[str, str]) -> list[str]:
    return [name for name, digest in old.items() if digest and new[name] == digest]


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ConfigError(
            f"vLLM does not serve this model's weights as they are written: {otherwise}. Candidates would be scored "
            "with each other's weights. Use backend=hf, or try backend.carrier=file."
        )


class Asked:
    """Prompts of random tokens, some longer than a block of the prefix cache, asked again and again."""

    def __init__(self, engine: Engine, vocabulary: int) -> None:
        rng = np.random.default_rng(0)
        lengths = (3, engine.block_size + 1, 2 * engine.block_size + 5)
        self._engine = engine
        self._prompts = [rng.integers(0, vocabulary, min(n, engine.max_length - MADE)).tolist() for n in lengths]

    def answers(self) -> list[Any]:
        """Log-probabilities of the prompts, and what is generated after them."""
        return [o.prompt_logprobs.logprobs for o in self._engine.generate(self._prompts, READ)] + self.made()

    def made(self, *, fresh: bool = False) -> list[list[tuple[int, float]]]:
        """Generated tokens and their log-probabilities. fresh: the prefix cache is not read."""
        sampling = {"max_tokens": MADE, "temperature": 0.0, "logprobs": 0, "detokenize": False}
        outputs = self._engine.generate(self._prompts, {**sampling, "skip_reading_prefix_cache": fresh})
        return [_scores(output.outputs[0]) for output in outputs]


def _scores(made: Any) -> list[tuple[int, float]]:
    return [(token, at[token].logprob) for token, at in zip(made.token_ids, made.logprobs, strict=True)]
