"""Questions put to several candidates at once: each in a slot, all answered at the first question and remembered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, TypeAlias

import numpy as np
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from evomerge.backends.answers import sound
from evomerge.backends.encoding import Memory, Pair, Pairs
from evomerge.errors import TaskError
from evomerge.families import Request

Loglik: TypeAlias = tuple[float, bool]
#: What is asked of every slot -> by slot, its answers in the order of what is asked.
AskPairs: TypeAlias = Callable[[list[Pair]], list[list[Loglik]]]
AskTexts: TypeAlias = Callable[[list[Request]], list[list[str]]]


class Slots:
    """Answers of one slot, of which all others know. `lm` is an HFLM: its rules cut texts into tokens and windows."""

    def __init__(self, lm: Any, logliks: AskPairs, texts: AskTexts) -> None:
        self._lm, self._of_pairs, self._of_prompts = lm, logliks, texts
        self._pairs, self._windows = Pairs(lm), Memory()
        self._known: dict[Any, list[list[Any]]] = {}
        self.count, self.turn = 1, 0  # how many there are, and who is answered for

    def serve(self, count: int) -> None:
        """From now on others are asked: slots 0 to count - 1."""
        self.count, self.turn, self._known = count, 0, {}

    def answer(self, requests: Sequence[Request], batch_size: int) -> list[Any]:
        """Of the slot whose turn it is. Raises MergeError if one of its log-likelihoods is NaN."""
        key = (batch_size, *((r.request_type, repr(r.args)) for r in requests))
        if key not in self._known:  # by the whole list: what shares its passes belongs to an answer's rounding
            self._known[key] = self._of_all(requests)
        own = self._known[key][self.turn]
        return [sound(answer) for answer in own]

    def _of_all(self, requests: Sequence[Request]) -> list[list[Any]]:
        asked: dict[str, Callable[[list[Request]], list[Any]]]
        asked = {
            "loglikelihood": self._logliks,
            "loglikelihood_rolling": self._rolling,
            "generate_until": self._of_prompts,
        }
        answers: list[list[Any]] = [[None] * len(requests) for _ in range(self.count)]
        for kind in dict.fromkeys(r.request_type for r in requests):
            places = [i for i, r in enumerate(requests) if r.request_type == kind]
            for own, found in zip(answers, asked[kind]([requests[i] for i in places]), strict=True):
                for place, answer in zip(places, found, strict=True):
                    own[place] = answer
        return answers

    def _logliks(self, requests: list[Request]) -> list[list[Loglik]]:
        return self._fitting([self._pairs(*request.args) for request in requests])

    def _rolling(self, requests: list[Request]) -> list[list[float]]:
        windows = [self._cut(request.args[0]) for request in requests]
        found = self._fitting([pair for own in windows for pair in own])
        ends = [0, *accumulate(map(len, windows))]
        return [[sum(loglik for loglik, _ in of[a:b]) for a, b in pairwise(ends)] for of in found]

    def _cut(self, text: str) -> list[Pair]:
        """A whole text in the windows that lm-eval cuts it into."""

        def make() -> list[Pair]:
            windows = get_rolling_token_windows(
                token_list=self._lm.tok_encode(text),
                prefix_token=self._lm.prefix_token_id,
                max_seq_len=self._lm.max_length,
                context_len=1,
            )
            return [Pair(*(np.array(part, np.int32) for part in make_disjoint_window(w))) for w in windows]

        return self._windows.recall(text, make, lambda made: sum(len(p.context) + len(p.continuation) for p in made))

    def _fitting(self, pairs: list[Pair]) -> list[list[Loglik]]:
        longest = self._lm.max_length
        for pair in pairs:
            if not len(pair.context) or not 0 < len(pair.continuation) <= longest:
                raise TaskError(
                    f"a request has {len(pair.context)} tokens of context and {len(pair.continuation)} to score; "
                    f"wanted one of each at least, and at most {longest} to score. Shorten the task's answers, or "
                    "raise backend.max_length."
                )
        return self._of_pairs(pairs)


def in_turn(requests: Sequence[Any], slots: int) -> list[Any]:
    """Each request once for every slot, slots innermost."""
    return [request for request in requests for _ in range(slots)]


def by_slot(answers: Sequence[Any], slots: int) -> list[list[Any]]:
    """The answers to requests `in_turn`."""
    return [list(answers[slot::slots]) for slot in range(slots)]


def _loglik(answer: Any) -> float:
    """0 for a text."""
    loglik = answer[0] if isinstance(answer, tuple) else answer
    return loglik if isinstance(loglik, float) else 0.0
