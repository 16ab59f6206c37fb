"""How long answers are: a merge of a long reasoner and a short one is to say the same in fewer tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evomerge.errors import ConfigError, unknown
from evomerge.tasks.answers import Answers
from evomerge.tasks.documents import Document
from evomerge.types import Metric

_UNITS: dict[str, Callable[[str, Any], int]] = {
    "tokens": lambda answer, tokenizer: len(tokenizer(answer, add_special_tokens=False, verbose=False)["input_ids"]),
    "words": lambda answer, tokenizer: len(answer.split()),
    "characters": lambda answer, tokenizer: len(answer),
}


@dataclass(kw_only=True, eq=False)
class Length(Answers):
    """Tokens (words, characters) of an answer beyond `target`; lower is better, and 0 is as short as wanted.

    Tokens are those of the answer's text, without the end of the sequence. An answer cut at `max_tokens` counts as
    that long: raise it until the parents end by themselves.
    """

    unit: str = "tokens"
    target: int = 0

    def check(self) -> None:
        if self.unit not in _UNITS:
            raise ConfigError(unknown(f"measures.{self.name}.unit", self.unit, _UNITS))
        if self.target < 0:
            raise ConfigError(f"measures.{self.name}.target is {self.target}; wanted a number of {self.unit}, from 0.")

    @property
    def metric(self) -> Metric:
        return Metric(self.unit, higher_is_better=False)

    def rate(self, answer: str, doc: Document, backend: Any) -> float:
        return float(max(0, _UNITS[self.unit](answer, backend.tokenizer) - self.target))
