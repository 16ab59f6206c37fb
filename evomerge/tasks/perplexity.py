"""How well a model predicts a text of the user's: rolling log-likelihoods of its passages, as lm-eval takes them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np

from evomerge.errors import ConfigError, unknown
from evomerge.families import Backend
from evomerge.tasks.asking import rolling
from evomerge.tasks.documents import Corpus, read_passages
from evomerge.tasks.splits import Split
from evomerge.types import ItemScores, Metric

#: What a log-likelihood is counted per, by metric; words are lm-eval's: the pieces between white space.
WEIGHTS: dict[str, Callable[[str], int]] = {
    "bits_per_byte": lambda text: len(text.encode("utf-8")),
    "byte_perplexity": lambda text: len(text.encode("utf-8")),
    "word_perplexity": lambda text: len(re.split(r"\s+", text)),
}


class Perplexity:
    """The log-likelihood of a file's text per byte or word; passages stand alone, each after the prefix token.

    file: UTF-8 text, cut into passages of up to `size` characters, or .jsonl with a document's text in `field`.
    metric: "bits_per_byte" (comparable across tokenizers), "byte_perplexity" or "word_perplexity". Values are pairs
    (log-likelihood in nats, bytes or words), so an estimate is nats per byte or word, higher is better; `report` and
    constraints speak in the metric's own units.
    """

    subtasks: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        name: str,
        *,
        file: str,
        field: str = "text",
        metric: str = "bits_per_byte",
        size: int = 2000,
        split: Split | Mapping[str, Any] | None = None,
    ) -> None:
        if metric not in WEIGHTS:
            raise ConfigError(unknown(f"measures.{name}.metric", metric, WEIGHTS))
        if size < 1:
            raise ConfigError(f"measures.{name}.size is {size}; wanted a number of characters, from 1.")
        self.name, self.metric = name, Metric(metric, higher_is_better=False, kind="pairs")
        self._field = field
        self._corpus = Corpus.cut(name, read_passages(name, file, field, size), split)
        self.items, self.notes = self._corpus.items, self._corpus.notes

    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "kind": "perplexity", "metric": asdict(self.metric), **self._corpus.identity()}

    def score(self, backend: Backend, items: Sequence[str]) -> ItemScores:
        """values: float64 (n, 2), log-likelihood and weight. Raises TaskError for an item that is not in the file."""
        texts = [doc[self._field] for doc in self._corpus.pick(items)]
        weigh = WEIGHTS[self.metric.name]
        pairs = [(loglik, weigh(text)) for loglik, text in zip(backend.answer(rolling(texts)), texts, strict=True)]
        return ItemScores(self.name, tuple(items), np.array(pairs, dtype=np.float64).reshape(len(items), 2))

    def report(self, scores: ItemScores) -> float:
        """The metric over all of these items."""
        nats = -float(scores.values[:, 0].sum() / scores.values[:, 1].sum())
        if self.metric.name == "bits_per_byte":
            return nats / math.log(2)
        try:
            return math.exp(nats)
        except OverflowError:  # the perplexity of a broken merge
            return math.inf
