"""Measures by kind: what is known of a merge beside its tasks, and which of all these are the goals of a search."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from evomerge.errors import ConfigError, unknown

#: Constructors by kind; each takes a name, a split and settings of its own.
KINDS = {
    "perplexity": "evomerge.tasks.perplexity.Perplexity",
    "divergence": "evomerge.tasks.divergence.Divergence",
    "length": "evomerge.tasks.length.Length",
    "refusal": "evomerge.tasks.refusal.Refusal",
    "language": "evomerge.tasks.language.Language",
    "callable": "evomerge.tasks.callable.Own",
}


def targeted(name: str, node: Any) -> dict[str, Any]:
    """A node of `measures` as one that evomerge.config.make takes. Raises ConfigError for an unknown kind."""
    if not isinstance(node, Mapping):
        raise ConfigError(
            f"measures.{name} is {node!r}; wanted a mapping such as {{kind: perplexity, file: notes.txt}}."
        )
    settings = dict(node)
    kind = settings.pop("kind", None)
    for given in ("name", "split"):
        if given in settings:
            raise ConfigError(f"measures.{name}.{given} is given by the search. Leave it out.")
    if "_target_" in settings:
        if kind is not None:
            raise ConfigError(f"measures.{name} has both kind and _target_. Leave one of them out.")
        return settings
    if kind not in KINDS:
        raise ConfigError(unknown(f"measures.{name}.kind", str(kind), KINDS))
    return {"_target_": KINDS[kind], **settings}


def refuse_equal_names(names: Sequence[str]) -> None:
    """Raises ConfigError if a measure is named as a task is: scores are filed by name."""
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"'{name}' names both a task and a measure. Give the measure another name.")


def goal_indices(names: Sequence[str], goals: Sequence[str] | None, measures: Collection[str]) -> tuple[int, ...]:
    """Places in `names` (tasks, then measures) of what the objective sees, in the order of `goals`.

    None: all tasks and no measure. Raises ConfigError for an unknown or repeated name, or if nothing is left.
    """
    if goals is None:
        found = tuple(i for i, name in enumerate(names) if name not in measures)
        if not found:
            raise ConfigError(
                f"there are measures and no tasks; name the goals among them: 'goals=[{','.join(names)}]'."
            )
        return found
    if isinstance(goals, str) or not goals:
        raise ConfigError(f"goals is {goals!r}; wanted a list of tasks and measures, or null for all tasks.")
    for name in goals:
        if name not in names:
            raise ConfigError(unknown("task or measure in goals", name, names))
        if list(goals).count(name) > 1:
            raise ConfigError(f"goals names '{name}' twice. Give it a larger weight instead: objective=weighted_mean.")
    return tuple(list(names).index(name) for name in goals)
