"""An lm-eval task made fit for a search: its number of examples, its splits, a copy that evaluates another split."""

from __future__ import annotations

import inspect
import json
from copy import copy
from dataclasses import asdict, fields, replace
from functools import partial
from typing import Any

from evomerge.tasks.splits import digest

#: Fields of a task's config that do not change what is asked of an item, or differ from machine to machine.
_NOT_IDENTITY = ("tag", "task_alias", "metadata", "custom_dataset", "dataset_kwargs")


def set_shots(task: Any, num_fewshot: int | None) -> list[str]:
    """Sets the number of examples by lm-eval's rule: a 0 in the task's own config stands. Returns notes."""
    own = task.config.num_fewshot
    if num_fewshot is not None and own != 0:
        task.set_config("num_fewshot", num_fewshot)
    elif own is None:
        task.set_config("num_fewshot", 0)
    notes = []
    if num_fewshot and own == 0:
        notes.append(f"{task.task_name}: num_fewshot={num_fewshot} is ignored, its config says 0 (lm-eval's rule)")
    if _samples(task.config.generation_kwargs or {}):
        notes.append(f"{task.task_name}: answers are sampled, so an item's score depends on the items asked with it")
    return notes


def _samples(generation: dict[str, Any]) -> bool:
    """lm-eval samples if told to, or if there is a temperature and nothing is said."""
    return generation.get("do_sample", float(generation.get("temperature") or 0) > 0)


def split_names(task: Any) -> tuple[str, str, list[str]]:
    """Names of the dataset splits for search and for test, with notes; equal if there is only one."""
    config = task.config
    training, validation, test = config.training_split, config.validation_split, config.test_split
    notes = []
    if test is None:
        test = validation  # what lm-eval itself evaluates
        if training not in (None, test):
            notes.append(f"{task.task_name}: no test split; test items are its '{test}' split")
    search = next((s for s in (validation, training) if s not in (None, test)), test)
    if search == training and search != test:
        notes.append(f"{task.task_name}: search items are its '{search}' split; parents may have been trained on it")
    return search, test, notes


def evaluating(task: Any, split: str, *, same_examples: bool = False) -> Any:
    """A new lm-eval task that evaluates `split`, over the same loaded dataset.

    same_examples: the first of the pool stand before every document, so that their prompts share a prefix.
    """
    config = {f.name: copy(getattr(task.config, f.name)) for f in fields(task.config)}
    config["fewshot_config"] = replace(task.config.fewshot_config, **({"sampler": "first_n"} if same_examples else {}))
    config.update(test_split=split, custom_dataset=lambda **_: task.dataset, dataset_kwargs=None)
    return type(task)(config=config)


def config_digest(task: Any) -> str:
    """Of what the task's YAML says, functions by their source; data are told apart by their items."""
    config = {k: v for k, v in asdict(task.config).items() if k not in _NOT_IDENTITY}
    return digest([json.dumps(config, sort_keys=True, default=_source)])


def _source(thing: Any) -> Any:
    """Stands for a function of the task's author by its source text: addresses differ between processes."""
    if isinstance(thing, partial):
        return [_source(thing.func), thing.args, thing.keywords]
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        return getattr(thing, "__qualname__", type(thing).__qualname__)
