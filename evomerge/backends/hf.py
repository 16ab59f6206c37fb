"""A transformers model in this process, asked through lm-eval's HFLM."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM

from evomerge import build
from evomerge.errors import ConfigError, MergeError
from evomerge.models import blank, speech
from evomerge.models.family import Family
from evomerge.types import Recipe, Request


class _HFLM(HFLM):
    """HFLM whose rolling log-likelihood heeds disable_tqdm: lm-eval 0.4.13 draws one bar per batch there."""

    def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = False, override_bs: int | None = None) -> Any:
        return super()._loglikelihood_tokens(requests, disable_tqdm=True, override_bs=override_bs)


class HFBackend:
    """A live model whose weights are written in place.

    Made of plain settings; holds a model after `open` or `wrap`, and is pickled without it. `batch_size` counts
    questions per forward pass and may be lowered while live; `max_length` counts tokens (None: the model's own).
    """

    def __init__(self, *, batch_size: int = 16, max_length: int | None = None) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigError(
                f"backend.batch_size is {batch_size!r}; it is a whole number from 1. 'auto' depends on the machine and"
                " is found anew at each call, so scores would not be comparable: choose the largest that fits."
            )
        if max_length is not None and max_length < 2:
            raise ConfigError(
                f"backend.max_length is {max_length}; give at least 2 tokens, or null for the model's own."
            )
        self.batch_size = batch_size
        self.max_length = max_length
        self._lm: HFLM | None = None
        self._family: Family | None = None
        self._targets: dict[str, torch.Tensor] = {}

    def open(self, family: Family, device: torch.device, dtype: str) -> None:
        """Loads the live model of `family`; its weights are the base's until the first `write`."""
        model, tokenizer = blank.live_model(family.base_folder, device, dtype)
        self.wrap(model, speech.live_tokenizer(family) or tokenizer)
        blank.verify(model, family.model.shapes, family.model.read)  # after wrap: HFLM ties weights
        if family.vocabulary is not None:
            model.resize_token_embeddings(family.vocabulary.size, mean_resizing=False)
        self._family = family
        self._targets = blank.targets(model, family.shapes)

    def wrap(self, model: Any, tokenizer: Any) -> HFBackend:
        """Takes a ready model, already on its device and of its dtype: HFLM moves and casts nothing."""
        with _errors_only():  # HFLM warns of every ready model
            self._lm = _HFLM(
                pretrained=model.eval(), tokenizer=tokenizer, batch_size=self.batch_size, max_length=self.max_length
            )
        return self

    def write(self, recipe: Recipe) -> None:
        """Builds the recipe into the live model. HFLM keeps nothing of the old weights between calls."""
        if self._family is None:
            raise ConfigError("the backend has no family to build from; call open(family, device, dtype) first.")
        build.write(recipe, self._family, self._targets)

    def answer(self, requests: Sequence[Request]) -> list[Any]:
        """Answers in the order of the requests: (log-likelihood, is greedy), log-likelihood, or text by kind.

        Raises MergeError if a log-likelihood is NaN: most metrics would call that a wrong answer.
        """
        self.lm.batch_size_per_gpu = self.batch_size  # halved for a retry when memory ran out
        answers: list[Any] = [None] * len(requests)
        with torch.inference_mode():
            for kind in dict.fromkeys(r.request_type for r in requests):
                places = [i for i, r in enumerate(requests) if r.request_type == kind]
                found = getattr(self.lm, kind)([requests[i] for i in places], disable_tqdm=True)
                for place, answer in zip(places, found, strict=True):
                    answers[place] = _number(answer)
        return answers

    def apply_chat_template(self, messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Messages as the model's tokenizer renders them. Raises ValueError if it has no template."""
        return self.lm.apply_chat_template(messages, add_generation_prompt)

    @property
    def tokenizer(self) -> Any:
        return self.lm.tokenizer

    @property
    def lm(self) -> HFLM:
        if self._lm is None:
            raise ConfigError(
                "the backend holds no model yet; call open(family, device, dtype) or wrap(model, tokenizer)."
            )
        return self._lm

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(HFBackend, batch_size=self.batch_size, max_length=self.max_length), ()


def _number(answer: Any) -> Any:
    loglik = answer[0] if isinstance(answer, tuple) else answer
    if isinstance(loglik, float) and math.isnan(loglik):
        raise MergeError("the merged model answers with NaN: its weights are out of any useful range")
    return answer


@contextmanager
def _errors_only() -> Iterator[None]:
    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
