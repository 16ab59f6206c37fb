"""A base behind a completions endpoint: each candidate is an adapter that its server loads, and is asked from afar."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from evomerge.backends import handshake
from evomerge.backends.completions import Choice, Refused, Server, Unavailable, address
from evomerge.backends.completions_lm import ECHO, CompletionsLM, batches, listener
from evomerge.backends.served import Served
from evomerge.backends.side_by_side import side_by_side
from evomerge.errors import ConfigError, MergeError
from evomerge.families import Request
from evomerge.models import blank, speech
from evomerge.models.family import Family
from evomerge.types import Recipe


class Api:
    """Black-box evaluation: an OpenAI-compatible server holds the base, and merged adapters travel by a shared folder.

    Made of plain settings and pickled as such; meets the server at `open`. All parents are adapters of one base, whose
    tokenizer is read here. base_url: the API's root. model: the base's name there (None: its only model). adapters: a
    folder under the same path for both (None: a temporary one, for a server on this machine). rank: of merged adapters
    at most (None: ranks are joined). batch_size: prompts a request; concurrency: requests at a time. max_length: tokens
    (None: what model and server allow). timeout, retries, backoff: see completions.Server.

    A server that fails for good ends the search with Unavailable, never a candidate: what is paid is kept. Its batches
    are its own affair, so answers may differ by rounding from one time to the next.
    """

    remote = True
    incidental = ("base_url", "adapters", "concurrency", "timeout", "retries", "backoff")

    def __init__(
        self,
        *,
        base_url: str | None = None,
        model: str | None = None,
        adapters: str | None = None,
        rank: int | None = None,
        batch_size: int = 8,
        max_length: int | None = None,
        concurrency: int = 4,
        timeout: float = 300.0,
        retries: int = 5,
        backoff: float = 1.0,
    ) -> None:
        self._settings: dict[str, Any] = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        _check_settings(self._settings)
        self._server = Server(address(base_url), timeout, retries, backoff)
        self._base = model or ""
        self.batch_size = batch_size
        self._notes: tuple[str, ...] = ()
        self._worst = 0.0  # relative error of the merged adapters so far
        self._lm: CompletionsLM | None = None
        self._served: Served | None = None

    def check(self, family: Family, recipes: Iterable[Recipe] = ()) -> None:
        """Raises ConfigError for parents that are no adapters, and for a server that is not there or lacks the base."""
        self._met(family)

    def _met(self, family: Family) -> Mapping[str, Any]:
        handshake.refuse_others(family)
        return handshake.base_card(self._at_once, self._settings["model"], str(family.base_folder))

    @property
    def _at_once(self) -> Server:
        """Who waits for nobody is told at once that it does not answer."""
        return replace(self._server, retries=0)

    def open(self, family: Family, device: torch.device, dtype: str) -> None:
        """Meet the server and check all that can be known of it. Raises ConfigError before anything is paid.

        Merged adapters are computed on `device`; `dtype` is the server's affair.
        """
        card = self._met(family)
        self._base = str(card["id"])
        self.close()
        self._lm = self._listener(family, card)
        self._served = Served(self._server, family, device, self._settings["adapters"], self._settings["rank"])
        handshake.check(self._at_once, self._base, self._served, family, self._lm.tokenizer)
        self._notes = (
            f"answers come from a server ({self._base}); that its base has the weights of {family.model.name} "
            "cannot be checked from outside",
        )

    def _listener(self, family: Family, card: Any) -> CompletionsLM:
        tokenizer, model = speech.live_tokenizer(family), blank.empty_model(family.base_folder)
        if tokenizer is None or model.config.is_encoder_decoder:
            raise ConfigError(
                f"backend=api needs a decoder with a tokenizer in its folder, and {family.model.name} is none. Set "
                "backend=hf."
            )
        return listener(
            model, tokenizer, self._ask, lambda own: handshake.longest(card, own, self._settings["max_length"])
        )

    def write(self, recipe: Recipe) -> None:
        """Serve the recipe's adapter. Raises MergeError for a merge that is none, or that the server refuses."""
        with self._blamed():
            self._worst = max(self._worst, self._live.show(recipe).error)

    def answer(self, requests: Sequence[Request]) -> list[Any]:
        """Answers in the order of the requests: (log-likelihood, is greedy), log-likelihood, or text by kind.

        Raises MergeError for what is the candidate's fault, Unavailable for the server's.
        """
        with self._blamed():
            try:
                return self._answers(requests)
            except Refused as e:
                if e.status != 404:
                    raise
            self._live.load()  # a server that was started anew has lost it
            return self._answers(requests)

    def _answers(self, requests: Sequence[Request]) -> list[Any]:
        assert self._lm is not None
        answers: list[Any] = [None] * len(requests)
        for kind in dict.fromkeys(r.request_type for r in requests):
            places = [k for k, r in enumerate(requests) if r.request_type == kind]
            found = getattr(self._lm, kind)([requests[k] for k in places], disable_tqdm=True)
            for place, answer in zip(places, found, strict=True):
                answers[place] = answer
        return answers

    def _ask(self, prompts: Sequence[Sequence[int]], **settings: Any) -> list[Choice]:
        def ask(some: Sequence[Sequence[int]], left: threading.Event) -> list[Choice]:
            return replace(self._server, left=left).complete(name, some, **settings)

        name = self._live.name
        found = side_by_side(ask, batches(prompts, self.batch_size), self._settings["concurrency"])
        return [choice for choices in found for choice in choices]

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        """Say whose fault it was: the candidate's if it alone is refused, or makes a server fail that is well."""
        try:
            yield
        except Refused as e:
            raise MergeError(f"the server refuses the merged adapter ({e})") from e
        except Unavailable as e:
            if e.status != 500 or not self._is_well():
                raise
            raise MergeError(f"the server fails with the merged adapter, and not with its base: {e}") from e

    def _is_well(self) -> bool:
        try:
            return bool(self._at_once.complete(self._base, [[0, 1]], **ECHO))
        except (Unavailable, Refused):
            return False

    def apply_chat_template(self, messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Messages as the base's tokenizer renders them. Raises ValueError if it has no template."""
        assert self._lm is not None
        return str(self._lm.apply_chat_template(messages, add_generation_prompt))

    @property
    def tokenizer(self) -> Any:
        assert self._lm is not None
        return self._lm.tokenizer

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the report: what is not known of the server, and what its adapters lack."""
        if not self._worst:
            return self._notes
        return (*self._notes, f"merged adapters are the nearest of their rank: relative error up to {self._worst:.2g}")

    @property
    def _live(self) -> Served:
        if self._served is None:
            raise ConfigError("the backend has met no server yet; call open(family, device, dtype) first.")
        return self._served

    def close(self) -> None:
        """Unload what is loaded and remove what was written; the end of the process does as much."""
        if self._served is not None:
            self._served.close()
        self._served = None

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Api, **self._settings), ()


def _check_settings(settings: Mapping[str, Any]) -> None:
    for name, low in (("batch_size", 1), ("concurrency", 1), ("retries", 0), ("max_length", 2), ("rank", 1)):
        value, free = settings[name], name in ("max_length", "rank")
        if not (free and value is None) and (type(value) is not int or value < low):
            raise ConfigError(f"backend.{name} is {value!r}; wanted a whole number from {low}{', or null' * free}.")
    for name, sound in (("timeout", settings["timeout"] > 0), ("backoff", settings["backoff"] >= 0)):
        if not sound:
            raise ConfigError(
                f"backend.{name} is {settings[name]!r}; wanted seconds{' above 0' * (name == 'timeout')}."
            )
