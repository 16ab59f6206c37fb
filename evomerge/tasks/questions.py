"""The documents of one split of an lm-eval task: requests built once, scored again and again as weights change."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evomerge.errors import TaskError
from evomerge.families import Backend, Request
from evomerge.tasks.splits import Split, digest, item_id
from evomerge.types import Metric


@dataclass(frozen=True)
class Settings:
    """The arguments of harness.load as plain data: a worker makes the same tasks from them."""

    names: tuple[str, ...]
    include_path: str | None
    num_fewshot: int | None
    metrics: tuple[tuple[str, str], ...]
    apply_chat_template: bool
    fewshot_as_multiturn: bool
    system_instruction: str | None
    fewshot_seed: int
    fewshot_same: bool
    split: Split


class Questions:
    """Documents by item id, and their requests.

    `task` is an lm-eval task whose evaluated split is this one; it is ours alone, and its fewshot setting may
    be tightened. Identical documents are one item.
    """

    def __init__(self, task: Any, settings: Settings) -> None:
        self.task = task
        self._settings = settings
        self._docs = list(task.eval_docs)  # frozen here: lm-eval runs process_docs anew at each look
        self._ids = [item_id(doc) for doc in self._docs]
        self.docs = dict(zip(reversed(self._ids), reversed(self._docs), strict=True))  # the first of equals stays
        self.docs = {i: self.docs[i] for i in dict.fromkeys(self._ids)}
        self._built: dict[str, list[Request]] = {}
        self._rendered: str | None = None
        for name in ("doc_to_choice", "doc_to_target", "doc_to_text"):
            setattr(task, name, _remembered(getattr(task, name), self._docs))
        self.examples = [item_id(doc) for doc in task.sampler.df] if self.shots else []  # the few-shot pool
        self._hide_own_examples()

    @property
    def shots(self) -> int:
        return self.task.config.num_fewshot

    @property
    def examples_digest(self) -> str | None:
        """Of what few-shot prompts depend on beside the items: the pool, and the order of all documents."""
        return digest([*self.examples, *self._ids]) if self.shots else None

    def _hide_own_examples(self) -> None:
        """Sees to it that no document is among its own examples.

        lm-eval leaves the scored document out only if the *names* of the few-shot and test splits are equal.
        The name is no longer used once the pool is drawn up, so setting it switches the rule on.
        """
        if not self.docs.keys().isdisjoint(self.examples):
            self.task.fewshot_cfg.split = self.task.config.test_split

    def requests(self, items: Collection[str], backend: Backend) -> dict[str, list[Request]]:
        """Requests by item, in document order, whatever the order of `items`."""
        render = self._template(backend)
        # With random examples one stream runs through all documents, so a prompt depends on the documents before
        # it: then all are built, always, which takes long for huge splits. Without examples, only those asked.
        wanted = self.docs if self.shots else items
        if any(i not in self._built for i in wanted):
            self._build(wanted, render)
        return {i: self._built[i] for i in self.docs if i in items}

    def _template(self, backend: Backend) -> Callable[..., str] | None:
        """The backend's chat template, if asked for; requests rendered by another one are forgotten."""
        if not self._settings.apply_chat_template:
            return None
        try:
            rendered = backend.apply_chat_template([{"role": "user", "content": "?"}])
        except (AttributeError, ValueError) as error:
            raise TaskError(
                f"task '{self.task.task_name}': the tokenizer has no chat template ({error})."
                " Set task.apply_chat_template=false, or add a template to the base model's tokenizer."
            ) from error
        if rendered != self._rendered:
            self._built, self._rendered = {}, rendered
        return backend.apply_chat_template

    def _build(self, wanted: Collection[str], render: Callable[..., str] | None) -> None:
        self.task.set_fewshot_seed(self._settings.fewshot_seed)
        try:
            for position, (item, doc) in enumerate(zip(self._ids, self._docs, strict=True)):
                if item in wanted and (self.shots or item not in self._built):
                    made = self._ask(position, doc, render)  # a repeated document draws its examples too
                    self._built.setdefault(item, made)
        except Exception as error:  # templates and functions of the task's author: anything can come
            raise TaskError(
                f"task '{self.task.task_name}': no prompt for document {position} with {self.shots} examples:"
                f" {type(error).__name__}: {error}"
            ) from error

    def _ask(self, position: int, doc: dict[str, Any], render: Callable[..., str] | None) -> list[Request]:
        chat = self._settings.apply_chat_template
        context = self.task.fewshot_context(
            doc,
            num_fewshot=self.shots,
            system_instruction=self._settings.system_instruction,
            apply_chat_template=chat,
            fewshot_as_multiturn=self._settings.fewshot_as_multiturn,
            chat_template=render,
            gen_prefix=self.task.doc_to_prefix(doc),
        )
        metadata = (self.task.task_name, position, self.task.config.repeats)
        made = self.task.construct_requests(
            doc=doc, ctx=context, metadata=metadata, apply_chat_template=chat, chat_template=render
        )
        return made if isinstance(made, list) else [made]

    def values(self, requests: dict[str, list[Request]], metric: Metric) -> dict[str, Any]:
        """Raw value by item, from requests whose `resps` are filled: float, or (log-likelihood, weight)."""
        first = self.task._filters[0]
        flat = [r for asked in requests.values() for r in asked]
        if flat:
            first.apply(flat)
        return {i: self._value(asked, first.name, metric) for i, asked in requests.items()}

    def margins(self, requests: dict[str, list[Request]]) -> dict[str, float]:
        """Log-probability of the right choice minus that of the best wrong one, by item, from the same requests.

        Of several right choices the best counts. Items without choices, or without a right or a wrong one, have none.
        """
        if self.task.OUTPUT_TYPE != "multiple_choice":
            return {}
        found = {i: self._margin(asked) for i, asked in requests.items()}
        return {i: margin for i, margin in found.items() if math.isfinite(margin)}

    def _margin(self, asked: Sequence[Request]) -> float:
        doc, named = asked[0].doc, self.task.doc_to_text if self.task.multiple_input else self.task.doc_to_target
        choices = self.task.doc_to_choice(doc)
        right = _places(named(doc), choices)
        logliks = [r.resps[0][0] for r in asked[: len(choices)]]  # lm-eval's others are unconditional
        wrong = [loglik for k, loglik in enumerate(logliks) if k not in right]
        return max(logliks[k] for k in right) - max(wrong) if right and wrong else math.nan

    def _value(self, asked: Sequence[Request], name: str, metric: Metric) -> Any:
        scores = self.task.process_results(asked[0].doc, [r.filtered_resps[name] for r in asked])
        if metric.name not in scores:
            raise TaskError(
                f"task '{self.task.task_name}' gives no '{metric.name}' for a document, but: {', '.join(scores)}."
                " Choose one of these with task.metrics."
            )
        value = np.asarray(scores[metric.name], dtype=np.float64)
        if metric.kind == "pairs" and value.shape == ():
            value = np.array([value, 1.0])  # "perplexity": a mean of log-likelihoods
        if value.shape != ((2,) if metric.kind == "pairs" else ()):
            raise TaskError(f"task '{self.task.task_name}': '{metric.name}' of a document is no number: {value!r}.")
        return value


def _remembered(told: Callable[..., Any], docs: Sequence[Any]) -> Callable[..., Any]:
    """What a document tells, made once: lm-eval compiles the task's template at each look, for every score."""
    own = {id(doc) for doc in docs}  # kept alive by Questions; of others an id may come to mean another
    found: dict[int, Any] = {}

    def remembered(doc: Any, *more: Any, **settings: Any) -> Any:
        if more or settings or id(doc) not in own:
            return told(doc, *more, **settings)
        if id(doc) not in found:
            found[id(doc)] = told(doc)
        return found[id(doc)]

    return remembered


def _places(gold: Any, choices: Sequence[str]) -> set[int]:
    """Places of the right choices, which a task may give as place, text, or list."""
    several = gold if isinstance(gold, list) else [gold]
    places = [choices.index(g) if isinstance(g, str) and g in choices else g for g in several]
    return {g for g in places if isinstance(g, int) and 0 <= g < len(choices)}
