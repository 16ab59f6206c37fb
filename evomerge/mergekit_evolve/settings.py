"""A file of mergekit-evolve as overrides of `evomerge search`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evomerge.mergekit_evolve.file import File, read
from evomerge.mergekit_evolve.notes import notes
from evomerge.overrides import assign


def settings_of(path: Path) -> tuple[list[str], list[str]]:
    """Overrides for `evomerge search`, in Hydra's grammar, and notes of one sentence each.

    Notes begin with "taken over", "changed", "ignored", or "mended" (a defect of mergekit-evolve that this search
    does not have); only what concerns the file is said. Raises ConfigError for a file that mergekit-evolve would not
    take, and for one whose meaning cannot be kept, such as a task of negative weight.
    """
    file = read(path)
    settings = {**_parents(file), **_space(file), **_scoring(file)}
    return [assign(key, value) for key, value in settings.items()], notes(file)


def _parents(file: File) -> dict[str, Any]:
    source = file.genome.get("tokenizer_source")
    vocabulary = {} if source is None else {"parents.vocabulary": "union" if source == "union" else "base"}
    return {"parents.base": file.base, "parents.models": list(file.models), **vocabulary}


def _space(file: File) -> dict[str, Any]:
    """The genome, in bfloat16 as mergekit-evolve merges."""
    keys = ("layer_granularity", "normalize", "allow_negative_weights", "smooth", "filters")
    given = {f"space.{k}": file.genome[k] for k in keys if file.genome.get(k) not in (None, [])}
    control = {"control": "uniform"} if file.scale_cancels else {}
    return {"space": "mergekit", "space.merge_method": file.method, **given, "dtype": "bfloat16", **control}


def _scoring(file: File) -> dict[str, Any]:
    weights = [abs(t.weight) for t in file.tasks]
    shots, limit = file.rest.get("num_fewshot"), file.rest.get("limit")
    return {
        "task.names": [t.name for t in file.tasks],
        "task.metrics": {t.name: t.metric for t in file.tasks},
        **({} if shots is None else {"task.num_fewshot": shots}),
        "task.apply_chat_template": file.rest.get("apply_chat_template", True),
        "task.fewshot_as_multiturn": file.rest.get("fewshot_as_multiturn", True),
        "estimator": "mean",
        **({"subset": "everything"} if limit is None else {"subset": "random", "subset.n": limit * len(file.tasks)}),
        "objective": "weighted_mean",
        **({} if len(set(weights)) == 1 else {"objective.weights": weights}),
    }
