"""Goals, subset and earlier answers, fitted to the tasks of a search: tried on made-up answers before any is paid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from evomerge import constraints
from evomerge.calibration import lookup
from evomerge.calibration.bank import item_bank
from evomerge.calibration.key import settings_of
from evomerge.calibration.run import designs
from evomerge.config import plain
from evomerge.errors import ConfigError
from evomerge.families import Objective, Space, Task
from evomerge.plan import Goals, Known, Plan, Scale
from evomerge.tasks.measures import goal_indices
from evomerge.types import Estimate, Evaluation, Items, ItemScores, Recipe


def what_is_known(
    cfg: DictConfig,
    folder: Path,
    calibration: lookup.Calibration,
    evaluator: Any,
    space: Space,
    references: Mapping[str, Recipe],
) -> tuple[Known, tuple[str, ...]]:
    """Where the references' answers may be found, designs, other models' answers; and notes on what was left out."""
    found = lookup.given(calibration.use, evaluator.tasks)
    extra = designs(space, calibration.designs, cfg.seed)
    recipes = {**references, **extra}
    settings = settings_of(evaluator, plain(cfg.backend))
    told: list[str] = []
    cache = lookup.Cache(folder, settings, recipes, found.answers, on=calibration.cache, tell=told.append)
    leaderboard = found.leaderboard(evaluator.tasks, recipes)
    return Known(cache.find, cache.keep, told, extra, leaderboard), found.notes


def goals_of(cfg: DictConfig, objective: Objective, tasks: Sequence[Task], references: Mapping[str, Recipe]) -> Goals:
    """The objective, what it sees, and the constraints. Raises ConfigError for names that are not known."""
    metrics = {t.name: t.metric for t in tasks}
    on = goal_indices(list(metrics), plain(cfg.goals), plain(cfg.measures))
    return Goals(objective, on, constraints.read(plain(cfg.constraints), metrics, references))


def check_goals(plan: Plan) -> None:
    """Try them on made-up estimates: a wrong number of weights is told before anything is scored."""
    tasks = (Estimate(0.5, 0.1, 10),) * len(plan.metrics)
    goals = plan.goals.combine(tasks, Scale(dict.fromkeys(plan.references, tasks)))
    if len(goals) > 1 and plan.race.chunks > 1:
        raise ConfigError(
            f"there are {len(goals)} goals, and a race can only judge one: a candidate that is poor in the first may "
            "be the best in another. Set race=none."
        )


def drawn(plan: Plan) -> Items:
    """Items like those that a candidate will be asked, drawn from a bank of made-up answers.

    Raises ConfigError for what the subset cannot do: told before anything is scored.
    """
    rng = np.random.default_rng(0)
    known = {name: _made_up(name, plan, rng) for name in (*plan.references, *plan.known.designs)}
    bank = item_bank(plan.items["search"], plan.metrics, known, plan.subtasks, plan.known.leaderboard)
    return bank.name(plan.subset.fit(bank, plan.seed).draw(0).index)


def _made_up(name: str, plan: Plan, rng: np.random.Generator) -> Evaluation:
    items = plan.items["search"]
    scores = tuple(
        ItemScores(task, ids, rng.integers(0, 2, (len(ids), 2) if metric.kind == "pairs" else len(ids)).astype(float))
        for (task, ids), metric in zip(items.items(), plan.metrics.values(), strict=True)
    )
    return Evaluation(name, "references", "", items, scores)
