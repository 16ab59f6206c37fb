"""What an answer depends on beside the item: the recipe's digest, and the settings that name a file of answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import torch

from evomerge.models import speech
from evomerge.types import Recipe

#: Methods without random masks: their models do not depend on the run's seed, so runs of any seed share the answers.
_SEEDLESS = {"passthrough", "linear"}
#: Another version may answer with other bits.
_LIBRARIES = ("evomerge", "torch", "transformers", "lm-eval")


def settings_of(evaluator: Any, backend: Mapping[str, Any]) -> str:
    """Canonical JSON of what answers depend on. backend: its config, whose batch size and maximal length count."""
    facts: dict[str, Any] = {
        "tasks": [_of_task(task.identity()) for task in evaluator.tasks],
        "backend": essential(backend, evaluator.backend),
        "dtype": evaluator.dtype,
        "device": _device(evaluator.device),
        "threads": evaluator.threads or torch.get_num_threads(),
        "vocabulary": {"policy": evaluator.family.policy, "tokenizer": speech.digest(evaluator.family)},
        "versions": {name: version(name) for name in _LIBRARIES},
    }
    if any(hasattr(task, "observe") for task in evaluator.tasks):  # scored against what the references predict
        facts["references"] = sorted(parent.digest for parent in evaluator.family.all)
    return json.dumps(facts, sort_keys=True)


def essential(settings: Mapping[str, Any], backend: Any) -> dict[str, Any]:
    """A backend's settings without those that answers do not depend on: where a server is, how often it is tried."""
    return {key: value for key, value in settings.items() if key not in getattr(backend, "incidental", ())}


def file_name(settings: str) -> str:
    """Equal settings, equal name."""
    return f"calibration-{hashlib.sha256(settings.encode()).hexdigest()[:16]}.npz"


def digest_of(recipe: Recipe) -> str:
    """The recipe's digest, without the seed where no method of it draws anything."""
    blends = [b for part in (*(s.blends for s in recipe.slots), recipe.outer) for b in part.values()]
    seedless = all(blend.method in _SEEDLESS for blend in blends)
    return replace(recipe, seed=0).digest if seedless else recipe.digest


def _of_task(identity: Mapping[str, Any]) -> dict[str, Any]:
    """How items were cut does not change an answer; which are asked together does, through padding and batches."""
    kept = {name: value for name, value in identity.items() if name not in ("split", "subtask", "items")}
    return {**kept, "items": identity["items"]["search"]}


def _device(device: torch.device) -> str:
    return f"cuda {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type
