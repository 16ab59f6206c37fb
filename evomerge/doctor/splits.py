"""The smallest difference that a number of items can show: what a search on them can hope to prove.

Two models are compared item by item. If they disagree on a share d of the items (one right, the other wrong), the
mean difference over n items has a standard error of sqrt(d / n), and a true difference of

    delta = (z_0.975 + z_0.80) sqrt(d / n) = 2.80 sqrt(d / n)

is found significant at two-sided 5% with a power of 80% (Connor 1987, doi:10.2307/2531961, without the small term in
delta squared). Models cannot differ by more than they disagree: where delta would exceed d, d is delta itself, which
gives 7.85 / n.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from evomerge.types import Metric

Z = 1.959964 + 0.841621  # standard normal quantiles at 0.975 and 0.80
#: Share of items on which two merges of one family disagree: assumed, for nothing has been scored yet.
USUAL = 1 / 8
#: Disagreement of two coins: as bad as it gets for models that are half right.
WORST = 1 / 2
#: Fewer search items than this, and candidates that differ by a fifth look alike.
FEW = 30


@dataclass(frozen=True)
class Power:
    """Items of a task in a split, and the smallest differences of a score in [0, 1] they show; None: of no use."""

    task: str
    split: str
    n: int
    usual: float | None
    worst: float | None


def smallest_difference(n: float, disagreement: float = USUAL) -> float | None:
    """The difference that n items show with 80% power at two-sided 5%; None if not even 1 could be shown."""
    usual = Z * math.sqrt(disagreement / n)
    found = usual if usual <= disagreement else max(disagreement, Z * Z / n)
    return found if found <= 1 else None


def powers(items: Mapping[str, Mapping[str, tuple[str, ...]]], metrics: Mapping[str, Metric]) -> list[Power]:
    """One entry per task and split. items: split -> task -> ids. Scores of kind "pairs" have no scale of their own."""
    return [
        Power(task, split, len(ids), *_differences(len(ids), metrics[task]))
        for split, tasks in items.items()
        for task, ids in tasks.items()
    ]


def _differences(n: int, metric: Metric) -> tuple[float | None, float | None]:
    if metric.kind == "pairs":
        return None, None
    return smallest_difference(n), smallest_difference(n, WORST)


def sentence(power: Power, metric: Metric) -> str:
    """On 120 test items a winner must be better by about 0.09."""
    where = f"on {power.n} {power.split} items of {power.task}"
    if metric.kind == "pairs":
        return f"{where}: {metric.name} has no fixed scale, so no smallest difference can be named"
    if power.usual is None:
        return f"{where} no difference at all can be shown"
    worst = "" if power.worst is None else f" ({power.worst:.2f} if the two disagreed on every second item)"
    return f"{where} a winner must be better by about {power.usual:.2f}{worst}"


def mean_sentence(counts: Mapping[str, int], split: str) -> str:
    """The same for the mean over tasks of equal weight, which is as sharp as one task of `effective` items."""
    effective = len(counts) ** 2 / sum(1 / n for n in counts.values())
    found = smallest_difference(effective)
    told = "no difference at all can be shown" if found is None else f"by about {found:.2f}"
    return (
        f"in the mean over {len(counts)} tasks ({sum(counts.values())} {split} items): {told} (80% power at two-sided"
        f" 5%, taking it that two merges disagree on {USUAL:.1%} of items)"
    )
