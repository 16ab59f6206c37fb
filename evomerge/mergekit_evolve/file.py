"""The YAML that mergekit-evolve (mergekit 0.1.5) is started with: its keys, checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evomerge.errors import ConfigError, unknown

#: Methods it can search, and whether it normalises them if the file does not say.
METHODS = {"linear": True, "task_arithmetic": False, "ties": True, "dare_ties": True, "slerp": False}
ON_DELTAS = ("task_arithmetic", "ties", "dare_ties")
#: Metrics of lm-eval of which less is better: mergekit-evolve maximises them, unless their weight is negative.
LESS_IS_BETTER = ("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "brier_score", "ter")

_NONE = type(None)
_WORDS = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a mapping",
}
_FILE: Mapping[str, tuple[type, ...]] = {
    "genome": (dict,),
    "tasks": (list,),
    "limit": (int, _NONE),
    "num_fewshot": (int, _NONE),
    "shuffle": (bool,),
    "random_init": (bool,),
    "apply_chat_template": (bool,),
    "fewshot_as_multiturn": (bool,),
}
_GENOME: Mapping[str, tuple[type, ...]] = {
    "models": (list,),
    "merge_method": (str,),
    "base_model": (str, dict, _NONE),
    "tokenizer_source": (str, _NONE),
    "layer_granularity": (int,),
    "normalize": (bool, _NONE),
    "allow_negative_weights": (bool,),
    "filters": (list, _NONE),
    "smooth": (bool,),
}
_TASK: Mapping[str, tuple[type, ...]] = {"name": (str,), "weight": (int, float), "metric": (str,)}


@dataclass(frozen=True)
class TaskLine:
    """A task of the file. `metric` is lm-eval's name without its filter; weights are as in the file."""

    name: str
    weight: float
    metric: str
    filter: str


@dataclass(frozen=True)
class File:
    """What a file says, checked; `rest` are its keys beside genome and tasks."""

    base: str | None
    models: tuple[str, ...]
    genome: Mapping[str, Any]
    tasks: tuple[TaskLine, ...]
    rest: Mapping[str, Any]

    @property
    def method(self) -> str:
        return str(self.genome["merge_method"])

    @property
    def normalized(self) -> bool:
        given = self.genome.get("normalize")
        return METHODS[self.method] if given is None else bool(given)

    @property
    def scale_cancels(self) -> bool:
        """Whether a common factor of all weights changes no model."""
        return self.normalized or self.method == "slerp"


def read(path: Path) -> File:
    """The file, checked. Raises ConfigError for unknown keys and methods, wrong types, missing models or tasks."""
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        raise ConfigError(f"cannot read {path}: {e}. Give the YAML file that mergekit-evolve is started with.") from e
    rest = _checked(given, _FILE, str(path), ("genome", "tasks"))
    genome = _checked(rest["genome"], _GENOME, f"{path}: genome", ("models", "merge_method"))
    if genome["merge_method"] not in METHODS:
        raise ConfigError(f"{path}: " + unknown("genome.merge_method", genome["merge_method"], METHODS))
    base = None if genome.get("base_model") is None else _model(genome["base_model"], None, f"{path}: base_model")
    models = tuple(_model(m, base, f"{path}: genome.models") for m in genome["models"])
    tasks = tuple(_task(t, f"{path}: tasks") for t in rest["tasks"])
    file = File(base, models, genome, tasks, rest)
    _check_whole(file, path)
    return file


def _checked(given: Any, known: Mapping[str, tuple[type, ...]], where: str, needed: Iterable[str]) -> dict[str, Any]:
    """A mapping of known keys, each of a type that it may have."""
    if not isinstance(given, dict):
        raise ConfigError(f"{where} is {given!r}; wanted a mapping with the keys {', '.join(known)}.")
    for key, value in given.items():
        if key not in known:
            raise ConfigError(f"{where}: " + unknown("key", str(key), known))
        if type(value) not in known[key]:
            words = " or ".join(_WORDS[t] for t in known[key] if t is not _NONE)
            raise ConfigError(f"{where}: {key} is {value!r}; wanted {words}.")
    for key in needed:
        if not given.get(key):
            raise ConfigError(f"{where} has no {key}. Add '{key}:', as mergekit-evolve wants it.")
    return given


def _model(given: Any, base: str | None, where: str) -> str:
    """Folder or hub id, PATH@REVISION; of MODEL+ADAPTER the adapter, which evomerge puts on the base itself."""
    keys: dict[str, tuple[type, ...]] = {"model": (str, dict), "lora": (str, dict, _NONE)}
    parts = _checked(given, keys, where, ("model",)) if isinstance(given, dict) else _at_plus(given, where)
    model, lora = (_path(parts.get(key), where) for key in ("model", "lora"))
    if lora is not None and (base is None or model != base):
        raise ConfigError(
            f"{where}: {model}+{lora} is an adapter on another model than base_model ({base}). Make {model} the "
            "base_model, or merge the adapter into it first and name the folder."
        )
    return str(lora or model)


def _at_plus(given: Any, where: str) -> dict[str, Any]:
    if not isinstance(given, str) or not given or given.count("+") > 1:
        raise ConfigError(f"{where} has {given!r}; wanted a folder or hub id, with +ADAPTER or @REVISION if need be.")
    return dict(zip(("model", "lora"), given.split("+"), strict=False))


def _path(given: Any, where: str) -> str | None:
    if not isinstance(given, dict):
        return None if given is None else str(given)
    parts = _checked(given, {"path": (str,), "revision": (str, _NONE)}, where, ("path",))
    return f"{parts['path']}@{parts['revision']}" if parts.get("revision") else str(parts["path"])


def _task(given: Any, where: str) -> TaskLine:
    parts = _checked({"name": given} if isinstance(given, str) else given, _TASK, where, ("name",))
    metric, _, filter_ = parts.get("metric", "acc,none").partition(",")
    line = TaskLine(parts["name"], float(parts.get("weight", 1.0)), metric, filter_ or "none")
    if not math.isfinite(line.weight):
        raise ConfigError(f"{where}: the weight of {line.name} is {line.weight}; wanted a finite number.")
    if line.weight < 0 and metric not in LESS_IS_BETTER:
        raise ConfigError(
            f"{where}: the weight of {line.name} is {line.weight}, which makes its {metric} a penalty. Scores are only "
            "rewarded here: leave the task out, or give it a weight above 0."
        )
    return line


def _check_whole(file: File, path: Path) -> None:
    names = [t.name for t in file.tasks]
    twice = [n for i, n in enumerate(names) if n in names[:i]]
    if twice:
        raise ConfigError(f"{path}: tasks name '{twice[0]}' twice. A task has one metric here: keep one of them.")
    if file.method in ON_DELTAS and file.base is None:
        raise ConfigError(f"{path}: genome has no base_model, and {file.method} merges differences from one. Add it.")
    for key in ("limit", "num_fewshot"):
        least = 1 if key == "limit" else 0
        if file.rest.get(key) is not None and file.rest[key] < least:
            raise ConfigError(f"{path}: {key} is {file.rest[key]}; wanted {least} or more.")
    source = file.genome.get("tokenizer_source")
    if source not in (None, "base", "union", file.base):
        raise ConfigError(
            f"{path}: genome.tokenizer_source is '{source}'; wanted base, union or none. For the tokens of another "
            "model make it the base_model."
        )
