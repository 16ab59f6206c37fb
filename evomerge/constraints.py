"""Bounds on tasks and measures: how likely a candidate keeps them, and by how much it breaks those it does not.

An estimate is a normal distribution with its standard error. A bound is kept if it holds with probability `sure` or
more; else it adds the expected shortfall E[max(0, bound - score)] to the violation (the closed form of expected
improvement, Jones et al. 1998, doi:10.1023/A:1008306431147), counted in units of the references' spread on that task,
so that tokens and shares can be added. The bound itself is taken as exact.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.errors import ConfigError, unknown
from evomerge.plan import Scale
from evomerge.types import Estimate, Metric

_KEYS = ("min", "max", "of", "sure")
_BEST = "best_parent"
_PARENT = "parent:"
_PERPLEXITIES = ("word_perplexity", "byte_perplexity", "perplexity")


@dataclass(frozen=True)
class Constraint:
    """Bounds in the metric's own units, on the score or, with `of`, on the score minus that of a reference.

    place: of the task among the run's tasks and measures. of: a name among Scale.references, or "best_parent".
    """

    task: str
    place: int
    metric: Metric
    low: float | None = None
    high: float | None = None
    of: str | None = None
    sure: float = 0.5

    def margins(self, value: float, scale: Scale) -> list[float]:
        """How far an oriented score lies inside each bound; negative outside."""
        start = 0.0 if self.of is None else shown(self.metric, _score_of(self.of, self.place, scale))
        sides = ((self.low, _direction(self.metric)), (self.high, -_direction(self.metric)))
        return [side * (value - oriented(self.metric, start + bound)) for bound, side in sides if bound is not None]

    def broken(self, estimate: Estimate, scale: Scale) -> float:
        """0 if every bound is kept, else the expected shortfall in spreads of the references."""
        short = sum(_shortfall(m, estimate.stderr, self.sure) for m in self.margins(estimate.value, scale))
        return short / _spread(self.place, scale)


def violation(tasks: Sequence[Estimate], scale: Scale, constraints: Sequence[Constraint]) -> float:
    """Of all constraints together: 0 if a candidate keeps them all, as far as its estimates can tell."""
    return sum((c.broken(tasks[c.place], scale) for c in constraints), 0.0)


def _shortfall(margin: float, stderr: float, sure: float) -> float:
    """E[max(0, -margin - noise)], or 0 if P(margin + noise >= 0) is at least `sure`; no stderr, no noise."""
    if not (0 < stderr < math.inf):
        return max(0.0, -margin)
    z = margin / stderr
    kept = math.erfc(-z / math.sqrt(2)) / 2
    if kept >= sure:
        return 0.0
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return stderr * density - margin * (1 - kept)


def _spread(place: int, scale: Scale) -> float:
    """Between the best and the worst reference; 1 if they are alike."""
    values = [estimates[place].value for estimates in scale.references.values()]
    return (max(values) - min(values)) or 1.0


def _score_of(name: str, place: int, scale: Scale) -> float:
    if name == _BEST:
        return max(parent[place].value for parent in scale.parents)
    return scale.references[name][place].value


# ---------------------------------------------------------------- the metric's own units


def shown(metric: Metric, value: float) -> float:
    """An oriented score, higher is better, as the metric is read: an error rate of 0.1 is estimated as -0.1."""
    if _is_perplexity(metric):
        return math.exp(min(-value, 700.0))  # above, it overflows
    return value * _factor(metric)


def oriented(metric: Metric, value: float) -> float:
    """The inverse of `shown`; a perplexity of 0 or less is one that nothing reaches."""
    if _is_perplexity(metric):
        return -math.log(max(value, 1e-300))
    return value / _factor(metric)


def _is_perplexity(metric: Metric) -> bool:
    return metric.kind == "pairs" and metric.name in _PERPLEXITIES


def _factor(metric: Metric) -> float:
    """Pairs are estimated in nats per weight, whatever they are shown as; those we have no name for stay that."""
    if metric.kind == "pairs":
        return -1 / math.log(2) if metric.name == "bits_per_byte" else 1.0
    return 1.0 if metric.higher_is_better else -1.0


def _direction(metric: Metric) -> float:
    """1 if what is shown rises with the oriented score, else -1."""
    return -1.0 if _is_perplexity(metric) else math.copysign(1.0, _factor(metric))


# ---------------------------------------------------------------- reading


def read(
    given: Mapping[str, Any], metrics: Mapping[str, Metric], references: Collection[str]
) -> tuple[Constraint, ...]:
    """Constraints by name of a task or measure: {min, max, of, sure}, or a list of such.

    references: the ids of the plan's. Raises ConfigError for a task, key or reference that is not known, and for
    bounds that are missing, no numbers, or contradict each other.
    """
    for task in given:
        if task not in metrics:
            raise ConfigError(unknown("task or measure in constraints", str(task), metrics))
    places = {task: place for place, task in enumerate(metrics)}
    return tuple(
        _read(task, places[task], metrics[task], one, references)
        for task, node in given.items()
        for one in (node if isinstance(node, list | tuple) else [node])
    )


def _read(task: str, place: int, metric: Metric, node: Any, references: Collection[str]) -> Constraint:
    where = f"constraints.{task}"
    if not isinstance(node, Mapping):
        raise ConfigError(
            f"{where} is {node!r}; wanted bounds such as {{max: 0.1}} or {{min: -0.02, of: best_parent}}."
        )
    for key in node:
        if key not in _KEYS:
            raise ConfigError(unknown("setting", f"{where}.{key}", [f"{where}.{k}" for k in _KEYS]))
    low, high = (_number(f"{where}.{key}", node.get(key)) for key in ("min", "max"))
    if low is None and high is None:
        raise ConfigError(f"{where} bounds nothing. Set min, max, or both.")
    if low is not None and high is not None and low > high:
        raise ConfigError(f"{where}: min {low:g} is above max {high:g}, so no score can keep both. Lower one of them.")
    sure = _number(f"{where}.sure", node.get("sure", 0.5))
    if sure is None or not 0 < sure < 1:
        raise ConfigError(f"{where}.sure is {sure}; wanted a probability between 0 and 1, such as 0.5.")
    return Constraint(task, place, metric, low, high, _reference(where, node.get("of"), references), sure)


def _number(where: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{where} is {value!r}; wanted a finite number.")
    return float(value)


def _reference(where: str, name: str | None, references: Collection[str]) -> str | None:
    """The id of the reference of this name: parents go by their own."""
    known = {reference.removeprefix(_PARENT): reference for reference in references}
    known |= {_BEST: _BEST} if any(reference.startswith(_PARENT) for reference in references) else {}
    if name is not None and name not in known and name not in references:
        raise ConfigError(unknown(f"reference in {where}.of", str(name), known))
    return None if name is None else known.get(name, name)
