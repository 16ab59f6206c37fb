"""From settings to a plan: everything is made and checked here, cheap things first, before any model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from evomerge.config import make, plain
from evomerge.errors import ConfigError, TaskError
from evomerge.fitting import check_goals, drawn, goals_of, what_is_known
from evomerge.identity import identity_of
from evomerge.ingredients import load_measures, load_tasks, make_evaluator, open_parents
from evomerge.lineage import warm_start
from evomerge.plan import Plan
from evomerge.problem import Problem
from evomerge.tasks.measures import refuse_equal_names
from evomerge.types import Genome, Recipe

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
    space = make("space", cfg.space, family.pool(), **common)
    make_optimizer = _maker("optimizer", cfg, space)
    make_control = _maker("control", cfg, space) if cfg.get("control") else None
    tasks = (*load_tasks(cfg), *load_measures(cfg))
    refuse_equal_names([t.name for t in tasks])
    items = {split: {t.name: t.items[split] for t in tasks} for split in ("search", "selection", "test")}
    _check_counts(items)
    references = _references(family.pool(), **common)
    evaluator = make_evaluator(cfg, family, tasks, dtype, references)
    known, told = what_is_known(cfg, folder, made["calibration"], evaluator, space, references)
    plan = Plan(
        space=space,
        references=references,
        make_optimizer=make_optimizer,
        make_control=make_control,
        evaluator=evaluator,
        executor=made["executor"],
        subset=made["subset"],
        estimator=made["estimator"],
        robust=PostStrat(),
        race=made["race"],
        goals=goals_of(cfg, made["objective"], tasks, references),
        metrics={t.name: t.metric for t in tasks},
        items=items,
        budget=made["budget"],
        seed=cfg.seed,
        subtasks={t.name: t.subtasks for t in tasks},
        known=known,
        fresh=made["subset"].fresh,
        finalists=cfg.finalists,
        max_failed=cfg.max_failed,
        warm_start=warm_start(folder, force),
    )
    check_goals(plan)
    drawn(plan)
    notes = (*speech.notes(family), *(note for task in tasks for note in task.notes), *told)
    return Prepared(plan, identity_of(cfg, family, tasks, plan, dtype), notes, _advice(plan), force)


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
    made = {group: make(group, cfg[group]) for group in FAMILIES}
    return {**made, "budget": make("budget", {"_target_": "evomerge.budget.Budget", **plain(cfg.budget)})}


def _check_counts(items: Mapping[str, Any]) -> None:
    for split, tasks in items.items():
        for task, ids in tasks.items():
            if len(ids) < 2:
                raise TaskError(
                    f"task '{task}' has {len(ids)} {split} item; wanted at least 2, or its error cannot be known. "
                    "Give it more documents, raise subset.n, or change split.selection."
                )


def _maker(group: str, cfg: DictConfig, space: Any) -> Any:
    """A function from starts to an optimizer; tried once now, so that bad settings are told at once."""

    def maker(starts: Sequence[Genome]) -> Any:
        problem = Problem(space.variables, starts=tuple(starts), active=getattr(space, "active", None))
        return make(group, cfg[group], problem, cfg.seed)

    maker(())
    return maker


def _references(pool: Any, **common: Any) -> dict[str, Recipe]:
    from evomerge.spaces.references import references

    return references(pool, **common)


def _advice(plan: Plan) -> tuple[str, ...]:
    budget, size = plan.budget.evaluations, plan.space.size
    if budget is None or size <= budget / 15:
        return ()
    return (
        f"{size} variables are many for {budget} evaluations (rule of thumb: at most {max(1, budget // 15)}); "
        "fewer space.groups or parts, or a larger budget, will be used better",
    )
