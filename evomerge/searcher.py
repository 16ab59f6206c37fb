"""An optimizer for a search: made from the settings and the space, and refused where it cannot serve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from evomerge.config import make, plain
from evomerge.errors import ConfigError
from evomerge.families import Optimizer
from evomerge.plan import Plan
from evomerge.problem import Problem
from evomerge.types import Genome, Pool

Maker = Callable[[Sequence[Genome]], Optimizer]


def make_space(cfg: DictConfig, pool: Pool, **common: Any) -> Any:
    """The space, with as many depth groups as the optimizer has a use for where the settings leave that open."""
    node = plain(cfg.space)
    if "groups" in node and node["groups"] is None:
        stages = plain(OmegaConf.select(cfg, "optimizer.stages"))
        good = isinstance(stages, list) and stages and all(type(stage) is int for stage in stages)  # else `make` tells
        node = {**node, "groups": min(max(stages), sum(pool.stacks.values())) if good else 1}
    return make("space", node, pool, **common)


def maker(group: str, cfg: DictConfig, space: Any, goals: Sequence[str]) -> Maker:
    """A function from starts to the optimizer of a config group; tried once, so that bad settings are told at once.

    Raises ConfigError if it cannot serve this space, or so many goals.
    """

    def made(starts: Sequence[Genome]) -> Optimizer:
        active, common_scale = getattr(space, "active", None), getattr(space, "common_scale", True)
        problem = Problem(space.variables, len(goals), tuple(starts), active, common_scale)
        optimizer: Optimizer = make(group, cfg[group], problem, cfg.seed)
        _check_fit(_name(group, cfg), optimizer, problem, goals)
        return optimizer

    made(())
    return made


def control_maker(cfg: DictConfig, space: Any, goals: Sequence[str]) -> tuple[Maker | None, list[str]]:
    """As `maker`, of the control; None with a note where the space has no common scale for a grid to move."""
    if not cfg.get("control"):
        return None, []
    if _name("control", cfg) == "control=lambda_grid" and not getattr(space, "common_scale", True):
        return None, [
            "no control: a grid over one common scale is one merge again and again in this space, whose weights are "
            "normalised or have none; control=uniform is a rival that it can have"
        ]
    return maker("control", cfg, space, goals), []


def _name(group: str, cfg: DictConfig) -> str:
    """group=NAME, as far as the module of its class tells."""
    return f"{group}={str(cfg[group].get('_target_')).split('.')[-2]}"


def _check_fit(name: str, optimizer: Optimizer, problem: Problem, goals: Sequence[str]) -> None:
    if len(goals) > 1 and not optimizer.many_goals:
        raise ConfigError(
            f"there are {len(goals)} goals ({', '.join(goals)}), and {name} maximises one. Use optimizer=nsga2, nsga3 "
            "or smsemoa, or one goal: objective=gap_closed."
        )
    discrete = [v for v in problem.variables if v.levels]
    if discrete and not optimizer.takes_choices:
        raise ConfigError(
            f"{name} is for continuous variables, and {discrete[0].name} has {discrete[0].levels} values. Use "
            "optimizer=mixed_ga, cma_int or ga, or take it out of the search (space.search, space.fixed)."
        )


def check_search(cfg: DictConfig, plan: Plan, goals: Sequence[str], items_each: int) -> list[str]:
    """What optimizer, budget, race and draws must agree on; returns advice. Raises ConfigError.

    items_each: of a candidate.
    """
    optimizer, budget = plan.make_optimizer(()), plan.budget
    name = _name("optimizer", cfg)
    one_by_one = optimizer.step < max(2, optimizer.lag)
    if one_by_one and plan.race.chunks > 1:
        raise ConfigError(
            f"{name} is told one candidate at a time, and a race needs whole batches. Set race=none, or another "
            "optimizer."
        )
    if plan.fresh and optimizer.elitist and (one_by_one or not hasattr(optimizer, "living")):
        raise ConfigError(
            f"{name} compares scores of all its candidates, so they must come from one draw of items. Set "
            "subset.fresh=null, or another optimizer."
        )
    if len(goals) > 1 and (budget.target is not None or budget.stagnation is not None):
        raise ConfigError(
            f"budget.target and budget.stagnation look at one goal, and there are {len(goals)}: {', '.join(goals)}. "
            "Set both to null."
        )
    if budget.items is not None and budget.items < items_each:
        raise ConfigError(
            f"budget.items is {budget.items}, and one candidate answers {items_each}. Raise it, or lower subset.n."
        )
    for limit, value, each in (("evaluations", budget.evaluations, 1), ("items", budget.items, items_each)):
        if value is not None and value < each * optimizer.step:
            return [
                f"the first batch of {name} has {optimizer.step} candidates, and budget.{limit} is {value}: they are "
                "scored as they come, and the optimizer learns nothing. Raise the budget, or make the batch smaller "
                "(population, batch, points, line)"
            ]
    return []
