"""Random adapters over tiny bases, recipes that add them up, and requests of every kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import peft
import torch
from transformers import AutoModelForCausalLM

from evomerge.spaces.references import uniform
from evomerge.types import Blend, Recipe
from tests.backends.asking import ODD, ask, choices


def make_adapter(base: Path, folder: Path, *, seed: int, spread: float = 0.2, **options: Any) -> Path:
    """An adapter of PEFT whose factors are random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), peft.LoraConfig(**options))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, weight in sorted(model.named_parameters()):
            if weight.requires_grad:
                weight.copy_(spread * torch.randn(weight.shape, generator=generator))
    model.save_pretrained(folder)
    return folder


def added(family: Any, *weights: float) -> Recipe:
    """base + sum_k weights[k] (parent k - base)."""
    return uniform(family.pool(), family.pool().digests, Blend("task_arithmetic", {"weight": weights}), 0, "float32")


def blended(family: Any, method: str, **knobs: Any) -> Recipe:
    return uniform(family.pool(), family.pool().digests, Blend(method, knobs), 0, "float32")


def generate(prompt: str, tokens: int = 6) -> Any:
    return ask("generate_until", prompt, {"until": ["\n"], "max_gen_toks": tokens, "do_sample": False})


REQUESTS = [
    *choices(3, items=3),
    *ODD,
    *(generate(f"Question {k}: " + "abc " * k) for k in range(5)),
    generate("asked twice", 9),
    generate("asked twice", 9),
    *(ask("loglikelihood_rolling", "one text " * k) for k in (1, 3, 9)),
    ask("loglikelihood_rolling", "ab" * 800),  # longer than the model's window, and its windows are alike
]


def logliks(answers: Sequence[Any]) -> list[float]:
    return [a[0] if isinstance(a, tuple) else a for a in answers if not isinstance(a, str)]


def texts(answers: Sequence[Any]) -> list[str]:
    return [a for a in answers if isinstance(a, str)]


def answers_of(backend: Any, recipes: Mapping[int, Recipe], requests: Sequence[Any] = REQUESTS) -> dict[int, list[Any]]:
    """By slot, all served together."""
    backend.write_together(recipes)
    found = {}
    for slot in recipes:
        backend.turn_to(slot)
        found[slot] = backend.answer(requests)
    return found
