"""Tasks of the lm-evaluation-harness, scored item by item as lm-eval scores them (https://github.com/EleutherAI)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from lm_eval.api.registry import get_aggregation
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager

from evomerge.errors import TaskError, unknown
from evomerge.families import Backend, Request
from evomerge.tasks.fitting import config_digest, evaluating, set_shots, split_names
from evomerge.tasks.questions import Questions, Settings
from evomerge.tasks.quiet import quiet
from evomerge.tasks.splits import Split, as_split, digest, divide, subtasks_of
from evomerge.types import ItemScores, Metric

#: lm-eval aggregations that pool (log-likelihood, weight) pairs; "perplexity" gives each item the weight 1.
_PAIRS = ("weighted_perplexity", "bits_per_byte", "perplexity")


def load(
    names: str | Sequence[str],
    include_path: str | Path | None = None,
    num_fewshot: int | None = None,
    metrics: Mapping[str, str] | None = None,
    apply_chat_template: bool = False,
    fewshot_as_multiturn: bool = False,
    system_instruction: str | None = None,
    fewshot_seed: int = 1234,
    fewshot_same: bool = False,
    split: Split | Mapping[str, Any] | None = None,
    subtask: str | None = None,
) -> tuple[HarnessTask, ...]:
    """Tasks by lm-eval name; groups and tags are expanded. Global random states are left as they were.

    `include_path` is a folder of task YAMLs; if it defines all names, lm-eval's own 14,000 are not read.
    `metrics` overrides the metric of a task, by task name. `subtask` is a document field whose values are sub-tasks of
    equal weight, for the tasks that have it. Raises TaskError for what is unknown or unfit.
    """
    settings = Settings(
        names=(names,) if isinstance(names, str) else tuple(names),
        include_path=_folder(include_path),
        num_fewshot=num_fewshot,
        metrics=tuple(sorted((metrics or {}).items())),
        apply_chat_template=apply_chat_template,
        fewshot_as_multiturn=fewshot_as_multiturn,
        system_instruction=system_instruction,
        fewshot_seed=fewshot_seed,
        fewshot_same=fewshot_same,
        split=as_split(split),
    )
    return _load(settings, subtask)


class HarnessTask:
    """A task of lm-eval whose search and selection items come from other documents than its test items.

    `notes` are sentences for the report. `subtasks` names the sub-task of each item; empty if the task has none.
    Travels to workers as its settings; the data must be equal there.
    """

    def __init__(self, task: Any, settings: Settings, subtask: str | None = None) -> None:
        _refuse_unfit(task)
        self.name: str = task.task_name
        self._settings = settings
        self._config = config_digest(task)
        self.metric, self._aggregate = choose_metric(task, dict(settings.metrics).get(self.name))
        notes = set_shots(task, settings.num_fewshot)
        search, test, more = split_names(task)
        sides = {
            s: Questions(evaluating(task, s, same_examples=settings.fewshot_same), settings)
            for s in dict.fromkeys((search, test))
        }
        held = sides[test].docs if test != search else None
        self.items, dropped = divide(self.name, sides[search].docs, held, settings.split)
        if not set(self.items["test"]).isdisjoint(sides[search].examples):
            dropped.append(f"{self.name}: examples in its search prompts are drawn from among test documents too")
        self.notes: tuple[str, ...] = (*notes, *more, *dropped)
        self._sides = tuple(sides.values())
        docs = {i: doc for side in self._sides for i, doc in side.docs.items()}
        self.subtasks: Mapping[str, str] = subtasks_of(self.name, docs, subtask)
        self._subtask = subtask if self.subtasks else None
        self._side = {i: side for side in self._sides for i in side.docs}  # an item of both splits is the test's

    def identity(self) -> dict[str, Any]:
        """What a score of this task depends on, as plain JSON: compared when a run is continued."""
        task, plain = self._sides[-1].task, self._settings
        return {
            "name": self.name,
            "version": str(task.VERSION),
            "config": self._config,
            "num_fewshot": task.config.num_fewshot,
            "fewshot_seed": plain.fewshot_seed,
            "fewshot_same": plain.fewshot_same,
            "examples": [side.examples_digest for side in self._sides],
            "metric": asdict(self.metric),
            "apply_chat_template": plain.apply_chat_template,
            "fewshot_as_multiturn": plain.fewshot_as_multiturn,
            "system_instruction": plain.system_instruction,
            "split": asdict(plain.split),
            "subtask": self._subtask,
            "items": {s: {"count": len(i), "digest": digest(i)} for s, i in self.items.items()},
        }

    @property
    def filter(self) -> str:
        """Name of the filter after which answers are scored; lm-eval's logs have one line for each."""
        return str(self._sides[0].task._filters[0].name)

    def prepare(self, backend: Backend) -> None:
        """Builds the requests of all items now, rather than at the first score that needs them."""
        with quiet():
            for side in self._sides:
                side.requests(side.docs, backend)

    def score(self, backend: Backend, items: Sequence[str]) -> ItemScores:
        """Raw values of the metric after the task's first filter, in the order of `items`.

        Equal to lm-eval's on the same items, up to the rounding of the backend's batches. Margins are given if every
        item has one. Raises TaskError for an item this task does not have.
        """
        self._refuse_strangers(items)
        with quiet():
            asked = [(side, side.requests(self._own(side, items), backend)) for side in self._sides]
            _answer(backend, [r for _, requests in asked for rs in requests.values() for r in rs])
            values = {i: v for side, rs in asked for i, v in side.values(rs, self.metric).items()}
            margins = {i: m for side, rs in asked for i, m in side.margins(rs).items()}
        shape = (len(items), 2) if self.metric.kind == "pairs" else (len(items),)
        scored = np.array([values[i] for i in items], np.float64).reshape(shape)
        apart = np.array([margins[i] for i in items]) if margins and margins.keys() >= set(items) else None
        return ItemScores(self.name, tuple(items), scored, apart)

    def report(self, scores: ItemScores) -> float:
        """lm-eval's own aggregate of the values, such as word_perplexity = exp(-sum(loglik) / sum(words))."""
        values = scores.values.tolist()
        if self._aggregate is get_aggregation("perplexity"):
            values = [loglik for loglik, _ in values]
        elif self.metric.kind == "pairs":
            values = [tuple(pair) for pair in values]
        try:
            return float(self._aggregate(values))
        except OverflowError:  # the perplexity of a broken merge
            return float("inf")

    def _own(self, side: Questions, items: Sequence[str]) -> set[str]:
        return {i for i in items if self._side[i] is side}

    def _refuse_strangers(self, items: Sequence[str]) -> None:
        for item in items:
            if item not in self._side:
                raise TaskError(
                    f"task '{self.name}' has no item '{item}' among its {len(self._side)}."
                    " Items are named by their content: have the task's data changed since the run began?"
                )

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self._settings, self.name, json.dumps(self.identity()))


# ---------------------------------------------------------------- finding tasks


def _load(settings: Settings, subtask: str | None) -> tuple[HarnessTask, ...]:
    with quiet():
        found = _found(settings)
        for name, _ in settings.metrics:
            if name not in found:
                raise TaskError(unknown("task in task.metrics", name, found))
        tasks = tuple(HarnessTask(task, settings, subtask) for task in found.values())
    if subtask is not None and not any(task.subtasks for task in tasks):
        fields = {field for task in tasks for side in task._sides for doc in side.docs.values() for field in doc}
        raise TaskError(unknown("document field in task.subtask:", subtask, fields))
    return tasks


_load_once = lru_cache(maxsize=4)(_load)  # unpickling many tasks of one call loads them once


def _again(settings: Settings, name: str, identity: str) -> HarnessTask:
    """The task in a worker. Raises TaskError if its data or config differ from the driver's."""
    tasks = {task.name: task for task in _load_once(settings, json.loads(identity)["subtask"])}
    if name not in tasks:
        raise TaskError(unknown("task", name, tasks))
    task = tasks[name]
    here, there = json.loads(json.dumps(task.identity())), json.loads(identity)
    if different := [key for key in there if here[key] != there[key]]:
        raise TaskError(
            f"task '{name}' differs between this process and the one that sent it, in: {', '.join(different)}."
            " Give all workers the same data files and task YAMLs."
        )
    return task


def _folder(include_path: str | Path | None) -> str | None:
    """Absolute, since the working directory may change. Raises TaskError if it is no folder."""
    if include_path is None:
        return None
    folder = Path(include_path).expanduser().resolve()
    if not folder.is_dir():
        raise TaskError(f"task.include_path '{include_path}' is no folder. Give the folder that holds the task YAMLs.")
    return str(folder)


def _found(settings: Settings) -> dict[str, Any]:
    """lm-eval's task objects by name."""
    manager = _manager(settings)
    try:
        found = manager.load(list(settings.names))["tasks"]
    except Exception as error:  # dataset scripts, the network, the author's functions: anything can come
        raise TaskError(
            f"tasks {', '.join(settings.names)} cannot be loaded: {type(error).__name__}: {error}."
            " Check the task YAML and its data files; a hub dataset has to be downloaded once while online."
        ) from error
    if not found:
        raise TaskError("no tasks were named. Set task.names, for example 'task.names=[my_task]'.")
    return found


def _manager(settings: Settings) -> TaskManager:
    """An index that knows all names. The user's folder alone takes milliseconds, with lm-eval's own 6 to 14 s."""
    if settings.include_path:
        own = TaskManager(include_path=settings.include_path, include_defaults=False)
        if all(_defined(own.task_index, name) for name in settings.names):
            return own
    everything = TaskManager(include_path=settings.include_path)
    for name in settings.names:
        if name not in everything.task_index:
            near = get_close_matches(name, everything.all_tasks, n=5)
            raise TaskError(
                f"unknown task '{name}'. Nearest: {', '.join(near) or 'none'}."
                f" Known are the tasks of lm-eval and of task.include_path={settings.include_path}."
            )
    return everything


def _defined(index: Mapping[str, Any], name: str | None) -> bool:
    """Whether the index holds `name` and, if it is a group, all of its members."""
    if name not in index:
        return False
    members = (index[name].cfg or {}).get("task")
    if not isinstance(members, list):
        return True
    return all(_defined(index, m.get("task", m.get("group")) if isinstance(m, Mapping) else m) for m in members)


# ---------------------------------------------------------------- fitting tasks to a search


def _refuse_unfit(task: Any) -> None:
    name = task.task_name
    if type(task) is not ConfigurableTask:
        raise TaskError(f"task '{name}' is a Python class that chooses its own splits. Write it as a task YAML.")
    if getattr(task, "MULTIMODAL", False):
        raise TaskError(f"task '{name}' shows images or sounds; only text is supported.")
    if getattr(task, "UNSAFE_CODE", False):
        raise TaskError(f"task '{name}' runs generated code. evomerge does not: score its export with lm-eval.")


def choose_metric(task: Any, wanted: str | None) -> tuple[Metric, Callable[[list[Any]], float]]:
    """The wanted metric, else the task's first, with its aggregation. Raises TaskError if it is no mean over items."""
    offered = task.aggregation()
    fit = {n: kind for n, aggregate in offered.items() if (kind := _kind(aggregate))}
    name = wanted or next(iter(offered))
    if name not in offered:
        raise TaskError(unknown(f"metric of task '{task.task_name}':", name, offered))
    if name not in fit:
        raise TaskError(
            f"metric '{name}' of task '{task.task_name}' is computed over the whole corpus, not as a mean over items."
            f" Choose another with task.metrics={{{task.task_name}: METRIC}}. Fit: {', '.join(fit) or 'none'}."
        )
    return Metric(name, bool(task.higher_is_better()[name]), fit[name]), offered[name]


def _kind(aggregate: Callable[..., float]) -> str | None:
    if aggregate is get_aggregation("mean"):
        return "mean"
    return "pairs" if any(aggregate is get_aggregation(name) for name in _PAIRS) else None


def _answer(backend: Backend, requests: Sequence[Request]) -> None:
    """Puts the answers into the requests' `resps`, each asked as often as the task repeats it."""
    for request in requests:
        request.resps, request.filtered_resps = [], {}
    repeated = [request for request in requests for _ in range(request.repeats)]
    for request, answer in zip(repeated, backend.answer(repeated), strict=True):
        request.resps.append(answer)
