"""Whether answers are in the language that was asked for (as acc_ja of Akiba et al. 2024, arXiv:2403.13187).

Languages are told apart by py3langid (after Lui and Baldwin 2012, langid.py), without a network. Short texts are
guesses: "Yes" is not found to be English, "東京" not to be Japanese.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from evomerge.errors import ConfigError, TaskError, unknown
from evomerge.families import Backend, Request, Task
from evomerge.tasks.answers import Answers
from evomerge.tasks.documents import Document
from evomerge.tasks.splits import item_id
from evomerge.types import ItemScores, Metric


def spoken(text: str, language: str) -> bool:
    """Whether a text is in a language (ISO 639-1, such as "ja"); one without a letter is in none."""
    return any(map(str.isalpha, text)) and _library().classify(text)[0] == language


def check_language(setting: str, language: str) -> None:
    """Raises ConfigError for a language that cannot be told, or without the library that tells."""
    known = [str(name) for name, _ in _library().rank("")]
    if language not in known:
        raise ConfigError(unknown(setting, language, known))


def teller() -> str:
    """The library that tells languages apart, with its version: answers may be judged differently by another."""
    return f"py3langid {version('py3langid')}"


def _library() -> Any:
    try:
        import py3langid
    except ImportError as e:
        raise ConfigError("a language check needs py3langid. Install it: pip install 'evomerge[language]'") from e
    return py3langid


@dataclass(kw_only=True, eq=False)
class Language(Answers):
    """1 for an answer in `language`, else 0."""

    language: str

    def check(self) -> None:
        check_language(f"measures.{self.name}.language", self.language)

    @property
    def metric(self) -> Metric:
        return Metric(f"in_{self.language}", higher_is_better=True)

    def facts(self) -> dict[str, Any]:
        return {"teller": teller()}

    def rate(self, answer: str, doc: Document, backend: Any) -> float:
        return float(spoken(answer, self.language))


# ---------------------------------------------------------------- a task of lm-eval, answered in a language


def checked(tasks: Sequence[Task], languages: Mapping[str, str]) -> tuple[Task, ...]:
    """The tasks, those named in `languages` with a check of theirs. Raises ConfigError for a name that is no task's."""
    names = [task.name for task in tasks]
    for name, language in languages.items():
        if name not in names:
            raise ConfigError(unknown("task in task.languages", name, names))
        check_language(f"task.languages.{name}", language)
    return tuple(InLanguage(t, languages[t.name]) if t.name in languages else t for t in tasks)


class InLanguage:
    """A generation task of lm-eval in which an answer in another language than the wanted one scores 0.

    The whole answer is judged, before any filter. Raises ConfigError for a metric of which 0 is not the worst.
    """

    def __init__(self, task: Any, language: str) -> None:
        if task.metric.kind != "mean" or not task.metric.higher_is_better:
            raise ConfigError(
                f"task.languages.{task.name}: an answer in another language scores 0, which is no bad score by "
                f"'{task.metric.name}'. Choose a metric of which more is better with task.metrics."
            )
        self._task, self._language = task, language

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # not there yet, while being unpickled
            raise AttributeError(name)
        return getattr(self._task, name)

    def identity(self) -> dict[str, Any]:
        return {**self._task.identity(), "language": self._language, "teller": teller()}

    def score(self, backend: Backend, items: Sequence[str]) -> ItemScores:
        """As the task scores, times the check. Raises TaskError if an item is not answered by a text."""
        listener = Listener(backend)
        scores: ItemScores = self._task.score(listener, items)
        in_language = [spoken(self._heard(listener, item), self._language) for item in items]
        return replace(scores, values=scores.values * np.array(in_language, dtype=np.float64))

    def _heard(self, listener: Listener, item: str) -> str:
        if item not in listener.answers:
            raise TaskError(
                f"task.languages.{self._task.name}: the task generates no text whose language could be checked."
            )
        return listener.answers[item]


class Listener:
    """A backend that keeps the text answered to each document; the first, where an item is asked several times."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.answers: dict[str, str] = {}  # by item id

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def answer(self, requests: Sequence[Request]) -> list[Any]:
        answers = self._backend.answer(requests)
        for request, answer in zip(requests, answers, strict=True):
            if isinstance(answer, str):
                self.answers.setdefault(item_id(request.doc), answer)  # type: ignore[attr-defined]
        return answers
