"""From settings to a search: everything is made and checked here, cheap things first, before any model is loaded."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from evomerge.config import ZOO, make, plain
from evomerge.errors import ConfigError, JournalError, MergeError, TaskError
from evomerge.journal import Journal, Watch, unwatched
from evomerge.lineage import retire, warm_start
from evomerge.lines import write_whole
from evomerge.overrides import key_of
from evomerge.phases import search
from evomerge.plan import Plan
from evomerge.types import Estimate, Recipe, Work

LIBRARIES = ("evomerge", "torch", "transformers", "lm-eval", "cma", "numpy")


@dataclass(frozen=True)
class Prepared:
    """A search that is ready to start: its plan, what it is identified by, and what the user should know."""

    plan: Plan
    identity: Mapping[str, Any]
    notes: tuple[str, ...]  # of the tasks: part of the report
    advice: tuple[str, ...]  # about this budget: shown, not kept
    new_lineage: bool = False


def run(prepared: Prepared, folder: Path, command: Mapping[str, Any], watch: Watch = unwatched) -> str:
    """Search in this folder, or go on with what it holds; returns the winner's id."""
    if prepared.new_lineage:
        retire(folder)
    journal = Journal(folder, watch=watch)
    try:
        journal.begin(prepared.identity, {name: version(name) for name in LIBRARIES}, prepared.notes)
        write_whole(folder / "command.json", json.dumps(command, indent=1) + "\n")  # what `evomerge resume` repeats
        watch("begin", folder=str(folder))
        watch("notes", notes=[*prepared.notes, *prepared.advice])
        return search(prepared.plan, journal)
    finally:
        journal.close()


def command_of(folder: Path) -> tuple[list[str], list[str], str]:
    """What a run was started with: overrides (without run=), config folders, where its relative paths start."""
    path = folder / "command.json"
    if not path.is_file():
        raise JournalError(
            f"{folder} has no command.json: no run was started there. Start one: evomerge search run={folder}"
        )
    try:
        found = json.loads(path.read_text())
        cwd = found["cwd"] if Path(found["cwd"]).is_dir() else "."
        words = [word for word in found["overrides"] if key_of(word) != "run"]
        return words, list(found["config_dirs"]), cwd
    except (ValueError, KeyError, TypeError) as e:
        raise JournalError(f"{path} is damaged ({e}). Repeat the command that started the run instead.") from e


def prepare(cfg: DictConfig, folder: Path, *, force: bool = False) -> Prepared:
    """Make everything the settings name. Raises EvomergeError at the first thing that is wrong."""
    from evomerge.models import speech

    made = _cheap(cfg)
    family = open_parents(cfg)
    dtype = family.pool().dtype if cfg.dtype == "auto" else cfg.dtype
    common = {"seed": cfg.seed, "dtype": dtype}
    space = make("space", cfg.space, family.pool(), **common)
    make_optimizer = _maker("optimizer", cfg, space.variables)
    make_control = _maker("control", cfg, space.variables) if cfg.get("control") else None
    tasks = load_tasks(cfg)
    bank = {t.name: t.items["search"] for t in tasks}
    items = {
        "search": made["subset"].draw(bank, cfg.seed),
        **{split: {t.name: t.items[split] for t in tasks} for split in ("selection", "test")},
    }
    _check_counts(items)
    _check_objective(made["objective"], len(tasks))
    plan = Plan(
        space=space,
        references=_references(family.pool(), **common),
        make_optimizer=make_optimizer,
        make_control=make_control,
        evaluator=_evaluator(cfg, family, tasks, dtype),
        executor=made["executor"],
        estimator=made["estimator"],
        objective=made["objective"],
        metrics={t.name: t.metric for t in tasks},
        items=items,
        budget=made["budget"],
        finalists=cfg.finalists,
        max_failed=cfg.max_failed,
        warm_start=warm_start(folder, force),
    )
    notes = (*speech.notes(family), *(note for task in tasks for note in task.notes))
    return Prepared(plan, _identity(cfg, family, tasks, plan, dtype), notes, _advice(plan), force)


def place_parents(prepared: Prepared, cfg: DictConfig) -> None:
    """Decide where the parents lie, after what the evaluator needs. Raises ConfigError if the search fits nowhere."""
    from evomerge.memory import words
    from evomerge.memory.planning import plan_search

    plan, evaluator = prepared.plan, prepared.plan.evaluator
    found, _ = plan_search(
        evaluator.family,
        evaluator.tasks,
        plan.space.decode(np.full(plan.space.size, 0.5)),
        evaluator.device,
        dtype=evaluator.dtype,
        batch_size=cfg.backend.batch_size,
        max_length=cfg.backend.get("max_length"),
    )
    words.check(found)
    evaluator.family.resident = found.placement == "device"


def _cheap(cfg: DictConfig) -> dict[str, Any]:
    """What needs no file: a typo is told before a checkpoint is opened."""
    for name, low, high in (("finalists", 1, 100), ("max_failed", 0, 1), ("seed", 0, 2**32 - 1)):
        if not isinstance(cfg[name], int | float) or not low <= cfg[name] <= high:
            raise ConfigError(f"{name} is {cfg[name]!r}; wanted a number from {low} to {high}.")
    if cfg.threads is not None and (not isinstance(cfg.threads, int) or cfg.threads < 1):
        raise ConfigError(f"threads is {cfg.threads!r}; wanted a whole number from 1, or null.")
    made = {group: make(group, cfg[group]) for group in ("subset", "estimator", "objective", "executor")}
    return {**made, "budget": make("budget", {"_target_": "evomerge.budget.Budget", **plain(cfg.budget)})}


def _check_counts(items: Mapping[str, Any]) -> None:
    for split, tasks in items.items():
        for task, ids in tasks.items():
            if len(ids) < 2:
                raise TaskError(
                    f"task '{task}' has {len(ids)} {split} item; wanted at least 2, or its error cannot be known. "
                    "Give it more documents, raise subset.n, or change split.selection."
                )


def _check_objective(objective: Any, n_tasks: int) -> None:
    """Try it on made-up estimates: a wrong number of weights is told before anything is scored."""
    tasks = (Estimate(0.5, 0.1, 10),) * n_tasks
    objective.combine(tasks, tasks, [tasks])


def _maker(group: str, cfg: DictConfig, variables: Any) -> Any:
    """A function from a start genome to an optimizer; tried once now, so that bad settings are told at once."""

    def maker(start: Any) -> Any:
        return make(group, cfg[group], variables, cfg.seed, start)

    maker(None)
    return maker


def open_parents(cfg: DictConfig) -> Any:
    from evomerge.models.family import open_family

    models, base = plain(cfg.parents.models), plain(cfg.parents.base)
    if models and is_pico(cfg) and not any(str(model).startswith(str(ZOO)) for model in models):
        raise ConfigError(
            "parents.models are your own, and parents.base is still the embedded zoo's. Set "
            "parents.base=PATH_OR_HUB_ID, or parents.base=null to merge without a base."
        )
    return open_family(models, base, cfg.parents.get("vocabulary", "equal"))


def is_pico(cfg: DictConfig) -> bool:
    return str(plain(cfg.parents.base) or "").startswith(str(ZOO / "pico"))


def load_tasks(cfg: DictConfig) -> tuple[Any, ...]:
    """The tasks; the embedded zoo brings its own, other parents need theirs named."""
    node = dict(cfg.task)
    if node.get("names") is None and "names" in node:
        if not is_pico(cfg):
            raise ConfigError(
                "no tasks given for these parents. Set 'task.names=[...]' (and task.include_path=DIR for yours)."
            )
        tasks = ZOO / "pico" / "tasks"
        node.update(names=sorted(p.stem for p in tasks.glob("*.yaml")), include_path=str(tasks))
    return tuple(make("task", {k: plain(v) for k, v in node.items()}, split=plain(cfg.split)))


def _references(pool: Any, **common: Any) -> dict[str, Recipe]:
    from evomerge.spaces.references import references

    return references(pool, **common)


def _evaluator(cfg: DictConfig, family: Any, tasks: tuple[Any, ...], dtype: str) -> Any:
    from evomerge.evaluate import Evaluator
    from evomerge.models.blank import check_names, pick_device, pick_dtype

    pick_dtype(dtype)
    check_names(family.base_folder, family.model.files)
    backend = make("backend", cfg.backend)
    return Evaluator(family, tasks, backend, pick_device(cfg.device), dtype, cfg.threads)


def _identity(cfg: DictConfig, family: Any, tasks: tuple[Any, ...], plan: Plan, dtype: str) -> dict[str, Any]:
    """What makes two runs the same run. Budget, executor and folder are free to change."""
    import torch

    from evomerge.models import speech
    from evomerge.spaces.references import unique

    groups = ("space", "optimizer", "control", "estimator", "objective", "subset", "backend")
    pool = family.pool()
    return {
        **{group: plain(cfg.get(group)) for group in groups},
        "seed": cfg.seed,
        "finalists": cfg.finalists,
        "max_failed": cfg.max_failed,
        "parents": {"base": pool.base, "models": dict(zip(unique(pool.names), pool.digests, strict=True))},
        "vocabulary": {"policy": pool.vocabulary, "tokenizer": speech.digest(family)},
        "tasks": [t.identity() for t in tasks],
        "n_items": {split: {t: len(ids) for t, ids in items.items()} for split, items in plan.items.items()},
        "dtype": dtype,
        "device": plan.evaluator.device.type,
        "threads": cfg.threads or torch.get_num_threads(),
        "warm_start": plan.warm_start.digest if plan.warm_start else None,
        "metrics": {name: asdict(metric) for name, metric in plan.metrics.items()},
    }


def _advice(plan: Plan) -> tuple[str, ...]:
    budget, size = plan.budget.evaluations, plan.space.size
    if budget is None or size <= budget / 15:
        return ()
    return (
        f"{size} variables are many for {budget} evaluations (rule of thumb: at most {max(1, budget // 15)}); "
        "fewer space.groups or parts, or a larger budget, will be used better",
    )


# ---------------------------------------------------------------- scoring without a search


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
    tasks = load_tasks(cfg)
    if cfg.task.get("names") is None:
        print("note: no task.names given, scoring on the tasks of the embedded zoo", file=sys.stderr)
    bench = _evaluator(cfg, family, tasks, recipe.out_dtype).open()
    told: list[str] = []
    work = Work("model", "test", recipe, {t.name: t.items[split] for t in tasks})
    evaluation = bench.evaluate(work, record=lambda kind, **facts: told.append(facts["traceback"]))
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
