"""What the measures of generated answers share: prompts of the user's, greedy answers, a number for each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import numpy as np

from evomerge.errors import ConfigError
from evomerge.families import Backend
from evomerge.tasks.asking import Rendering, generation
from evomerge.tasks.documents import Corpus, Document, read_prompts
from evomerge.types import ItemScores, Metric

#: Settings that say where things are; what they hold is told by the items.
_PLACES = ("name", "file", "split")


@dataclass(kw_only=True, eq=False)
class Answers(ABC):
    """Greedy answers to prompts, each rated by itself.

    file: prompts, one a line, or .jsonl documents with the prompt in `field`. An answer has no more than `max_tokens`
    tokens and ends before any string of `until`. A kind of measure is a subclass with settings of its own.
    """

    subtasks: ClassVar[Mapping[str, str]] = {}

    name: str
    file: str
    field: str = "prompt"
    max_tokens: int = 256
    until: tuple[str, ...] = ()
    apply_chat_template: bool = False
    system_instruction: str | None = None
    split: dict[str, object] | None = None  # built-in names alone: a kind's module reads these hints as its own

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ConfigError(f"measures.{self.name}.max_tokens is {self.max_tokens}; wanted a number from 1.")
        self.check()
        self._rendering = Rendering(self.name, self.apply_chat_template, self.system_instruction)
        self._corpus = Corpus.cut(self.name, read_prompts(self.name, self.file, self.field), self.split)
        self.items = self._corpus.items
        self.notes: tuple[str, ...] = (*self._corpus.notes, *self.remarks())

    @property
    @abstractmethod
    def metric(self) -> Metric: ...

    @abstractmethod
    def rate(self, answer: str, doc: Document, backend: Any) -> float:
        """The number an answer gets; `backend.tokenizer` is the model's."""

    def check(self) -> None:  # noqa: B027  # most kinds have nothing to check
        """Raises EvomergeError for settings that are wrong by themselves."""

    def remarks(self) -> tuple[str, ...]:
        """Sentences for the report."""
        return ()

    def facts(self) -> dict[str, Any]:
        """What a rating depends on beside the settings, for `identity`."""
        return {}

    def identity(self) -> dict[str, Any]:
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _PLACES}
        kind = type(self).__module__.rpartition(".")[2]
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
        own = {"name": self.name, "kind": kind, "metric": asdict(self.metric)}
        return {**own, **plain, **self.facts(), **self._corpus.identity()}

    def score(self, backend: Backend, items: Sequence[str]) -> ItemScores:
        """values: float64 (n,). Raises TaskError for an item that is not in the file."""
        docs = self._corpus.pick(items)
        prompts = [self._rendering(doc[self.field], backend) for doc in docs]
        answers = backend.answer(generation(prompts, max_tokens=self.max_tokens, until=self.until))
        rated = [self.rate(answer, doc, backend) for answer, doc in zip(answers, docs, strict=True)]
        return ItemScores(self.name, tuple(items), np.array(rated, dtype=np.float64))

    def report(self, scores: ItemScores) -> float:
        return float(scores.values.mean())
