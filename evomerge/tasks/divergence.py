"""How far a merge has moved from its parents: divergence of next-token distributions on prompts without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from evomerge.errors import ConfigError, TaskError, unknown
from evomerge.families import Backend
from evomerge.tasks.asking import Rendering, one_more_token
from evomerge.tasks.distributions import Coarse, at_prompts, coarsen, js, kl
from evomerge.tasks.documents import Corpus, read_prompts
from evomerge.tasks.splits import Split
from evomerge.types import ItemScores, Metric

_OF = {"kl": kl, "js": js}
_PARENT = "parent:"


class Divergence:
    """KL(reference || candidate) or JS in nats, averaged over prompts; lower is better. Nothing is generated.

    file: prompts, one a line, or .jsonl with the prompt in `field`. to: "mean" over the parents, the "nearest" of them
    on each prompt, "base", or a parent by name. positions: after the "last" token of a prompt, or the mean over "all".
    top: tokens of a reference's distribution that are kept (see evomerge.tasks.distributions); memory is
    12 bytes x top per position and reference. `observe` must see the references before anything is scored.
    """

    subtasks: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        name: str,
        *,
        file: str,
        field: str = "prompt",
        to: str = "mean",
        divergence: Literal["kl", "js"] = "kl",
        positions: Literal["last", "all"] = "last",
        top: int = 64,
        apply_chat_template: bool = False,
        system_instruction: str | None = None,
        split: Split | Mapping[str, Any] | None = None,
    ) -> None:
        for setting, value, known in (("divergence", divergence, _OF), ("positions", positions, ("last", "all"))):
            if value not in known:
                raise ConfigError(unknown(f"measures.{name}.{setting}", str(value), known))
        if top < 1:
            raise ConfigError(f"measures.{name}.top is {top}; wanted a number of tokens, from 1.")
        self.name, self.metric = name, Metric(divergence, higher_is_better=False)
        self._to, self._positions, self._top, self._field = to, positions, top, field
        self._rendering = Rendering(name, apply_chat_template, system_instruction)
        self._corpus = Corpus.cut(name, read_prompts(name, file, field), split)
        self.items, self.notes = self._corpus.items, self._corpus.notes
        self._seen: dict[str, dict[str, Coarse]] = {}  # by reference, by item

    def identity(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": "divergence",
            "metric": asdict(self.metric),
            "to": self._to,
            "positions": self._positions,
            "top": self._top,
            "apply_chat_template": self._rendering.apply_chat_template,
            "system_instruction": self._rendering.system_instruction,
            **self._corpus.identity(),
        }

    def wanted(self, references: Sequence[str]) -> tuple[str, ...]:
        """The references to be observed, of those there are. Raises TaskError if `to` names none of them."""
        to, parents = self._to, [r for r in references if r.startswith(_PARENT)]
        if to in ("mean", "nearest"):
            return tuple(parents)
        named = {"base": "base", **{parent.removeprefix(_PARENT): parent for parent in parents}}
        if to not in named or named[to] not in references:
            known = [name for name, reference in named.items() if reference in references]
            raise TaskError(unknown(f"measures.{self.name}.to", to, ["mean", "nearest", *known]))
        return (named[to],)

    def observe(self, reference: str, backend: Backend) -> None:
        """Keep what the live model, now this reference, predicts after every prompt."""
        items = [item for ids in self.items.values() for item in ids]
        found = at_prompts(
            backend, self._prompts(items, backend), self._positions, lambda _, p: Coarse.of(p, self._top)
        )
        self._seen[reference] = dict(zip(items, found, strict=True))

    def score(self, backend: Backend, items: Sequence[str]) -> ItemScores:
        """values: float64 (n,), nats. Raises TaskError before `observe`, or for an item that is not in the file."""
        prompts = self._prompts(items, backend)
        if not hasattr(backend, "lm"):  # no model but a listener: it wants to know what is asked
            backend.answer(one_more_token(prompts))
            raise TaskError(f"measure '{self.name}' needs a model in this process; set backend=hf.")
        if not self._seen:
            raise TaskError(f"measure '{self.name}' compares with references, and none has been observed here.")
        values = at_prompts(backend, prompts, self._positions, lambda place, p: self._distance(items[place], p))
        return ItemScores(self.name, tuple(items), np.array(values, dtype=np.float64))

    def report(self, scores: ItemScores) -> float:
        return float(scores.values.mean())

    def _prompts(self, items: Sequence[str], backend: Backend) -> list[str]:
        return [self._rendering(doc[self._field], backend) for doc in self._corpus.pick(items)]

    def _distance(self, item: str, logprobs: torch.Tensor) -> float:
        """logprobs: float32 (T, V)."""
        distance, far = _OF[self.metric.name], []
        for seen in (of_reference[item] for of_reference in self._seen.values()):
            q = coarsen(logprobs, seen.tokens.to(logprobs.device))
            far.append(float(distance(seen.logprobs.to(q.device), q).mean()))
        return min(far) if self._to == "nearest" else sum(far) / len(far)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_seen": {}}  # a worker's bench observes for itself
