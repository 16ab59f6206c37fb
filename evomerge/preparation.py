"""From settings to a plan: everything is made and checked here, cheap things first, before any model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from evomerge.config import fits, make, plain
from evomerge.errors import ConfigError, TaskError
from evomerge.fitting import check_goals, drawn, goals_of, what_is_known
from evomerge.identity import identity_of
from evomerge.ingredients import compile_of, load_measures, load_tasks, make_evaluator, open_parents, residency_of
from evomerge.lineage import warm_starts
from evomerge.plan import Plan
from evomerge.searcher import check_search, control_maker, make_space, maker
from evomerge.tasks.measures import refuse_equal_names
from evomerge.types import Recipe

#: Config groups whose members need nothing but their settings.
FAMILIES = ("subset", "estimator", "race", "objective", "executor", "calibration")


@dataclass(frozen=True)
class Prepared:
    """A search that is ready to start: its plan, what it is identified by, and what the user should know."""

    plan: Plan
    identity: Mapping[str, Any]
    notes: tuple[str, ...]  # of the tasks: part of the report
    advice: tuple[str, ...]  # about this budget: shown, not kept
    new_lineage: bool = False


def prepare(cfg: DictConfig, folder: Path, *, force: bool = False) -> Prepared:
    """Make everything the settings name. Raises EvomergeError at the first thing that is wrong."""
    from evomerge.estimators.post_strat import PostStrat
    from evomerge.models import speech

    made = _cheap(cfg)
    family = open_parents(cfg)
    dtype = family.pool().dtype if cfg.dtype == "auto" else cfg.dtype
    common = {"seed": cfg.seed, "dtype": dtype}
    space = make_space(cfg, family.pool(), **common)
    warm, left_out = warm_starts(plain(cfg.warm_start), folder, force, space)
    tasks = (*load_tasks(cfg), *load_measures(cfg))
    refuse_equal_names([t.name for t in tasks])
    items = {split: {t.name: t.items[split] for t in tasks} for split in ("search", "selection", "test")}
    _check_counts(items)
    references = _references(family.pool(), **common)
    goals = goals_of(cfg, made["objective"], tasks, references)
    named = goals.names([t.name for t in tasks])
    make_control, without = control_maker(cfg, space, named)
    evaluator = make_evaluator(cfg, family, tasks, dtype, references)
    _check_backend(evaluator, [*references.values(), *warm], space)
    known, told = what_is_known(cfg, folder, made["calibration"], evaluator, space, references)
    plan = Plan(
        space=space,
        references=references,
        make_optimizer=maker("optimizer", cfg, space, named),
        make_control=make_control,
        evaluator=evaluator,
        executor=made["executor"],
        subset=made["subset"],
        estimator=made["estimator"],
        robust=PostStrat(),
        race=made["race"],
        goals=goals,
        metrics={t.name: t.metric for t in tasks},
        items=items,
        budget=made["budget"],
        seed=cfg.seed,
        subtasks={t.name: t.subtasks for t in tasks},
        known=known,
        fresh=made["subset"].fresh,
        finalists=cfg.finalists,
        max_failed=cfg.max_failed,
        warm=warm,
    )
    check_goals(plan)
    each = sum(map(len, drawn(plan).values()))
    advice = (*check_search(cfg, plan, named, each), *_advice(cfg, plan))
    made["executor"].check(evaluator)  # last: to look at a cluster may mean to start one
    notes = (*speech.notes(family), *(note for task in tasks for note in task.notes), *told, *left_out, *without)
    return Prepared(plan, identity_of(cfg, family, tasks, plan, dtype), notes, advice, force)


def place_parents(prepared: Prepared, cfg: DictConfig) -> Prepared:
    """Decide where the parents lie, after what the evaluator needs, and tell it.

    Raises ConfigError if the search fits nowhere.
    """
    try:
        return replace(prepared, advice=(*prepared.advice, *_place(prepared, cfg)))
    except BaseException:
        prepared.plan.executor.close()
        raise


def _place(prepared: Prepared, cfg: DictConfig) -> tuple[str, ...]:
    from evomerge.memory import words
    from evomerge.memory.planning import dearest, devices_given, devices_of, plan_search, settle, workers_here

    plan, evaluator = prepared.plan, prepared.plan.evaluator
    if getattr(evaluator.backend, "remote", False):
        return ()
    found, _ = plan_search(
        evaluator.family,
        evaluator.tasks,
        dearest(plan.space),
        evaluator.device,
        dtype=evaluator.dtype,
        batch_size=cfg.backend.batch_size,
        max_length=cfg.backend.get("max_length"),
        workers=workers_here(plain(cfg.executor), plan.executor.workers),
        devices=devices_of(evaluator.backend, devices_given(plain(cfg.executor))),
        residency=residency_of(cfg),
    )
    settled = settle(found, evaluator)
    words.check(settled)
    return (words.sentence(settled),)


def _cheap(cfg: DictConfig) -> dict[str, Any]:
    """What needs no file: a typo is told before a checkpoint is opened."""
    for name, kind, low, high in (("finalists", int, 1, 100), ("max_failed", float, 0, 1), ("seed", int, 0, 2**32 - 1)):
        if not fits(cfg[name], kind) or not low <= cfg[name] <= high:
            whole = "whole " if kind is int else ""
            raise ConfigError(f"{name} is {cfg[name]!r}; wanted a {whole}number from {low} to {high}.")
    if cfg.threads is not None and (not isinstance(cfg.threads, int) or cfg.threads < 1):
        raise ConfigError(f"threads is {cfg.threads!r}; wanted a whole number from 1, or null.")
    residency_of(cfg), compile_of(cfg)
    made = {group: make(group, cfg[group]) for group in FAMILIES}
    return {**made, "budget": make("budget", {"_target_": "evomerge.budget.Budget", **plain(cfg.budget)})}


def _check_backend(evaluator: Any, recipes: Sequence[Recipe], space: Any) -> None:
    """Refuse parents and methods that the backend does not serve."""
    from evomerge.memory.planning import choices_of

    if hasattr(evaluator.backend, "check"):
        evaluator.backend.check(evaluator.family, [*recipes, *choices_of(space)])


def _check_counts(items: Mapping[str, Any]) -> None:
    for split, tasks in items.items():
        for task, ids in tasks.items():
            if len(ids) < 2:
                raise TaskError(
                    f"task '{task}' has {len(ids)} {split} item; wanted at least 2, or its error cannot be known. "
                    "Give it more documents, raise subset.n, or change split.selection."
                )


def _references(pool: Any, **common: Any) -> dict[str, Recipe]:
    from evomerge.spaces.references import references

    return references(pool, **common)


def _advice(cfg: DictConfig, plan: Plan) -> tuple[str, ...]:
    budget, size = plan.budget.evaluations, plan.space.size
    if budget is None or size <= budget / 15 or "stages" in cfg.optimizer:  # these begin with few
        return ()
    return (
        f"{size} variables are many for {budget} evaluations (rule of thumb: at most {max(1, budget // 15)}); "
        "fewer space.groups or parts, or a larger budget, will be used better",
    )
