"""A transformers model in this process, asked as lm-eval's HFLM asks it, without computing anything twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from evomerge import build
from evomerge.backends import trial
from evomerge.backends.answers import errors_only, sound
from evomerge.backends.encoding import Pairs
from evomerge.backends.lm import RememberingLM
from evomerge.backends.shared import Shared
from evomerge.errors import ConfigError
from evomerge.families import Request
from evomerge.models import blank, speech
from evomerge.models import device_map as placing
from evomerge.models.family import Family
from evomerge.types import Recipe


class HFBackend:
    """A live model whose weights are written in place.

    Made of plain settings; holds a model after `open` or `wrap`, and is pickled without it. `batch_size` counts
    rows per forward pass and may be lowered while live; `max_length` counts tokens (None: the model's own).
    `share_prefix`: few-shot examples, and contexts with several choices, are computed once; False: lm-eval's own loop.
    `device_map`: None keeps the model on one device, "balanced" spreads it over all, "auto" only if one is too small,
    a map names modules and their devices. `max_memory`: how much of it a device may hold; with "cpu", weights may wait
    on the host and are copied over for every forward pass.
    `tokens_forwarded` counts what the live model has read since it was taken, padding included.
    """

    incidental = ("device_map", "max_memory")  # where the model lies changes no answer

    def __init__(
        self,
        *,
        batch_size: int = 16,
        max_length: int | None = None,
        share_prefix: bool = True,
        device_map: str | Mapping[str, int | str] | None = None,
        max_memory: Mapping[int | str, int | str] | None = None,
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigError(
                f"backend.batch_size is {batch_size!r}; it is a whole number from 1. 'auto' depends on the machine and"
                " is found anew at each call, so scores would not be comparable: choose the largest that fits."
            )
        if max_length is not None and max_length < 2:
            raise ConfigError(
                f"backend.max_length is {max_length}; give at least 2 tokens, or null for the model's own."
            )
        placing.check_settings(device_map, max_memory)
        self.batch_size = batch_size
        self.max_length = max_length
        self.share_prefix = share_prefix
        self.device_map = device_map
        self.max_memory = max_memory
        self.tokens_forwarded = 0
        self.notes: tuple[str, ...] = ()  # sentences for the report, known once the model is live
        self._lm: RememberingLM | None = None
        self._pairs: Pairs | None = None
        self._family: Family | None = None
        self._targets: dict[str, torch.Tensor] = {}
        self._standing: build.Standing = {}

    def check(self, family: Family, recipes: Iterable[Recipe] = ()) -> None:
        """Raises ConfigError where the live model could lie on no device of this machine; opens nothing."""
        placing.check_here(family.base_folder, self.device_map, self.max_memory)

    def open(self, family: Family, device: torch.device, dtype: str) -> None:
        """Loads the live model of `family`; its weights are the base's until the first `write`."""
        settings = self.device_map, self.max_memory
        places = placing.settle(family.base_folder, blank.pick_dtype(dtype), *settings, device=device)
        model, tokenizer = blank.live_model(family.base_folder, device, dtype, places)
        self._take(model, speech.live_tokenizer(family) or tokenizer)
        blank.verify(model, family.model.shapes, family.model.read)  # after taking it: HFLM ties weights
        if family.vocabulary is not None:
            model.resize_token_embeddings(family.vocabulary.size, mean_resizing=False)
        self._family = family
        self._targets, self._standing = blank.targets(model, family.shapes), {}
        self._share()

    def wrap(self, model: Any, tokenizer: Any) -> HFBackend:
        """Takes a ready model, already on its device and of its dtype: HFLM moves and casts nothing."""
        self._family, self._targets, self._standing = None, {}, {}
        self._take(model, tokenizer)
        self._share()
        return self

    def _take(self, model: Any, tokenizer: Any) -> None:
        with errors_only():
            self._lm = RememberingLM(
                pretrained=model.eval(), tokenizer=tokenizer, batch_size=self.batch_size, max_length=self.max_length
            )
        self._pairs = Pairs(self._lm)
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _share(self) -> None:
        """Shares forward passes if the model is found fit for it. Not counted in `tokens_forwarded`."""
        self.notes = ()
        if self.share_prefix:
            with torch.inference_mode(), errors_only():
                reason = trial.refusal(self.lm)
            if reason is None:
                self.lm.shared = Shared(self.lm.model, window=trial.window(self.lm.config))
            else:
                self.notes = (f"prompts are not shared between requests: {reason}. lm-eval's own loop is used",)
        self.tokens_forwarded = 0

    def _count(self, _: Any, args: tuple[Any, ...], settings: dict[str, Any]) -> None:
        ids = args[0] if args else settings.get("input_ids")
        self.tokens_forwarded += 0 if ids is None else ids.numel()

    def write(self, recipe: Recipe) -> None:
        """Builds the recipe into the live model, those tensors that differ from the recipe before.

        Nothing computed with the old weights is kept.
        """
        if self._family is None:
            raise ConfigError("the backend has no family to build from; call open(family, device, dtype) first.")
        if self.lm.shared:
            self.lm.shared.prefixes.forget()
        build.write(recipe, self._family, self._targets, self._standing)

    def answer(self, requests: Sequence[Request]) -> list[Any]:
        """Answers in the order of the requests: (log-likelihood, is greedy), log-likelihood, or text by kind.

        Raises MergeError if a log-likelihood is NaN: most metrics would call that a wrong answer.
        """
        self.lm.batch_size_per_gpu = self.batch_size  # halved for a retry when memory ran out
        answers: list[Any] = [None] * len(requests)
        with torch.inference_mode():
            for kind in dict.fromkeys(r.request_type for r in requests):
                places = [i for i, r in enumerate(requests) if r.request_type == kind]
                found = self._ask(kind, [requests[i] for i in places])
                for place, answer in zip(places, found, strict=True):
                    answers[place] = sound(answer)
        return answers

    def _ask(self, kind: str, requests: list[Request]) -> Any:
        if kind == "loglikelihood" and self.lm.shared and (found := self._ask_shared(self.lm.shared, requests)):
            return found
        return getattr(self.lm, kind)(requests, disable_tqdm=True)

    def _ask_shared(self, shared: Shared, requests: list[Request]) -> list[tuple[float, bool]] | None:
        """None where lm-eval's own loop has to answer, or to say what is wrong."""
        assert self._pairs is not None
        pairs = [self._pairs(*request.args) for request in requests]
        longest = self.lm.max_length
        if any(not len(p.context) or not 0 < len(p.continuation) <= longest for p in pairs):
            return None
        passes = shared.plan(pairs, max_length=longest, batch_size=self.batch_size)
        return shared.answer(passes) if shared.reaches(passes.width) else None

    def apply_chat_template(self, messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Messages as the model's tokenizer renders them. Raises ValueError if it has no template."""
        return str(self.lm.apply_chat_template(messages, add_generation_prompt))

    @property
    def tokenizer(self) -> Any:
        return self.lm.tokenizer

    @property
    def lm(self) -> RememberingLM:
        if self._lm is None:
            raise ConfigError(
                "the backend holds no model yet; call open(family, device, dtype) or wrap(model, tokenizer)."
            )
        return self._lm

    def __reduce__(self) -> tuple[Any, ...]:
        names = ("batch_size", "max_length", "share_prefix", "device_map", "max_memory")
        return partial(HFBackend, **{name: getattr(self, name) for name in names}), ()
