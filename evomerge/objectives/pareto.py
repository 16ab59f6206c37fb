"""Several goals at once: one per task, or per set of tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evomerge.errors import ConfigError, unknown
from evomerge.objectives.shares import mean, positive, shares
from evomerge.types import Estimate


class Pareto:
    """Each task is a goal, in shares of the gap closed (see gap_closed), so that goals can be compared and weighed.

    sets: {goal: [task, ...]} makes one goal of several tasks, their mean; tasks in no set stay goals of their own.
    Sets name tasks and `combine` sees estimates alone: with sets, ask for `goals` first, it says which task is where,
    and one objective serves one order of tasks.
    """

    def __init__(self, sets: Mapping[str, Sequence[str]] | None = None, min_gap: float = 0.1):
        self._sets = {goal: tuple(tasks) for goal, tasks in (sets or {}).items()}
        self._min_gap = positive("min_gap", min_gap)
        self._places: tuple[tuple[int, ...], ...] | None = None
        self._refuse_bad_sets()

    def goals(self, tasks: Sequence[str]) -> tuple[str, ...]:
        """Sets first, as they are written, then the tasks in none. Raises ConfigError for names that do not fit."""
        merged = [task for members in self._sets.values() for task in members]
        for task in merged:
            if task not in tasks:
                raise ConfigError(unknown("task in objective.sets", task, tasks))
        alone = [task for task in tasks if task not in merged]
        for goal in self._sets:
            if goal in alone:
                raise ConfigError(f"objective.sets.{goal} has the name of a task outside it. Give it another name.")
        members = [*self._sets.values(), *((task,) for task in alone)]
        self._remember(tuple(tuple(tasks.index(task) for task in one) for one in members))
        return (*self._sets, *alone)

    def combine(
        self, tasks: Sequence[Estimate], floor: Sequence[Estimate], parents: Sequence[Sequence[Estimate]]
    ) -> tuple[Estimate, ...]:
        closed, stderrs = shares(tasks, floor, parents, min_gap=self._min_gap)
        goals = [list(places) for places in self._where(len(tasks))]
        return tuple(mean(closed[g], stderrs[g], [tasks[i] for i in g]) for g in goals)

    def _remember(self, places: tuple[tuple[int, ...], ...]) -> None:
        if self._sets and self._places not in (None, places):
            raise ConfigError(
                f"objective.sets was asked for other tasks before, its goals' places were {self._places} and would be "
                f"{places}. Make an objective for each list of tasks."
            )
        self._places = places

    def _where(self, n_tasks: int) -> Sequence[Sequence[int]]:
        """The places of each goal's tasks."""
        if not self._sets:
            return [(i,) for i in range(n_tasks)]
        if self._places is None or sum(map(len, self._places)) != n_tasks:
            raise ConfigError(
                f"objective.sets names tasks, and {n_tasks} unnamed ones came. Ask for goals(names) first."
            )
        return self._places

    def _refuse_bad_sets(self) -> None:
        merged = [task for members in self._sets.values() for task in members]
        for goal, members in self._sets.items():
            if not members:
                raise ConfigError(f"objective.sets.{goal} is empty; wanted names of tasks.")
        for task in merged:
            if merged.count(task) > 1:
                raise ConfigError(f"objective.sets names '{task}' {merged.count(task)} times; wanted each task once.")
