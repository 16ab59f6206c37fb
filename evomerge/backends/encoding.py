"""Requests as tokens, by lm-eval's own rules, remembered from candidate to candidate."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
TOKENS = 2**25  # that are remembered at most: 128 MiB as int32


@dataclass(frozen=True)
class Pair:
    """What lm-eval makes of (context, continuation): int32 (n,) and (m,), not yet cut to the model's length."""

    context: np.ndarray
    continuation: np.ndarray


class Memory:
    """Values by key; when they hold more than `limit` tokens, all are forgotten at once.

    Candidates ask the same requests in the same order, and of a memory that is too small for them, dropping the
    oldest would leave nothing that is still to be asked.
    """

    def __init__(self, limit: int = TOKENS) -> None:
        self._limit, self._held = limit, 0
        self._values: dict[Hashable, Any] = {}

    def recall(self, key: Hashable, make: Callable[[], T], tokens: Callable[[T], int]) -> T:
        if key in self._values:
            return self._values[key]  # type: ignore[no-any-return]
        value = make()
        self._held += tokens(value)
        if self._held > self._limit:
            self._values, self._held = {}, tokens(value)
        self._values[key] = value
        return value


class Pairs:
    """Pairs of tokens by pairs of strings, for as long as the tokenizer of `lm`, an HFLM, stays the same."""

    def __init__(self, lm: Any) -> None:
        self._lm = lm
        self._start()

    def __call__(self, context: str, continuation: str) -> Pair:
        if self._lm.tokenizer is not self._tokenizer:
            self._start()
        return self._memory.recall(
            (context, continuation),
            lambda: self._encode(context, continuation),
            lambda pair: len(pair.context) + len(pair.continuation),
        )

    def _start(self) -> None:
        self._tokenizer, self._memory = self._lm.tokenizer, Memory()
        self._latest = np.empty(0, np.int32)

    def _encode(self, context: str, continuation: str) -> Pair:
        first, second = self._lm._encode_pair(context, continuation) if context else self._alone(continuation)
        found = np.array(first, np.int32)
        if not np.array_equal(found, self._latest):  # the choices of an item keep one array
            self._latest = found
        return Pair(self._latest, np.array(second, np.int32))

    def _alone(self, continuation: str) -> tuple[list[int], list[int]]:
        """Without a context: after the token that opens a text, unless the continuation brings it along."""
        tokens, opening = self._lm.tok_encode(continuation, add_special_tokens=False), self._lm.prefix_token_id
        return (tokens[:1], tokens[1:]) if tokens[:1] == [opening] else ([opening], tokens)
