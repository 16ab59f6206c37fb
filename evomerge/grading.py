"""Scores of one model without a search."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from evomerge.config import plain
from evomerge.errors import MergeError
from evomerge.ingredients import is_pico, load_measures, load_tasks, make_evaluator
from evomerge.types import Work


def score(cfg: DictConfig, model: str, split: str) -> dict[str, dict[str, Any]]:
    """Scores per task of a model folder, a hub id, or a recipe file, on all items of a split."""
    from evomerge.estimators.mean import task_mean
    from evomerge.export import read_recipe
    from evomerge.models.family import open_family
    from evomerge.spaces.references import references

    if Path(model).suffix in (".yaml", ".yml"):
        recipe, family = read_recipe(Path(model))
    else:
        family = open_family([model], _base_of(cfg, model))
        dtype = family.pool().dtype if cfg.dtype == "auto" else cfg.dtype
        recipe = references(family.pool(), seed=cfg.seed, dtype=dtype)["average"]
    measures = [m for m in load_measures(cfg) if not hasattr(m, "observe")]  # one model has nothing to be compared with
    tasks = (*load_tasks(cfg), *measures)
    if cfg.task.get("names") is None:
        print("note: no task.names given, scoring on the tasks of the embedded zoo", file=sys.stderr)
    bench = make_evaluator(cfg, family, tasks, recipe.out_dtype, {}).open()
    told: list[str] = []
    work = Work("model", "test", recipe, {t.name: t.items[split] for t in tasks})
    (evaluation,) = bench.evaluate(work, record=lambda kind, **facts: told.append(facts["traceback"]))
    bench.close()
    if evaluation.error_code:
        raise MergeError(f"{model} cannot be scored ({evaluation.error_code}).\n{''.join(told)}")
    means = [(t, s, task_mean(s, t.metric)) for t, s in zip(tasks, evaluation.scores, strict=True)]
    return {
        t.name: {"metric": t.metric.name, "score": t.report(s), "stderr": e.stderr, "items": e.n_items}
        for t, s, e in means
    }


def _base_of(cfg: DictConfig, model: str) -> str | None:
    """An adapter is scored over parents.base, if one is set; a checkpoint by itself."""
    from evomerge.models.lora import is_adapter
    from evomerge.models.parent import locate

    folder, _ = locate(model)
    return None if is_pico(cfg) or not is_adapter(folder) else plain(cfg.parents.base)
