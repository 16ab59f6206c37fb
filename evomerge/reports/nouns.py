"""The nouns of a report: plain, frozen data that tables, Markdown and JSON are written from.

All scores are oriented (higher is better) and in the unit of their task; a mean is the mean over tasks, each task
counting the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from evomerge.types import Estimate, Metric

#: In the order a run comes to them; references, search and control are scored on "search" items.
SPLITS = ("search", "selection", "test")


@dataclass(frozen=True)
class TaskFacts:
    """A task or measure, how it is scored, and how many items it has by split (one not reached yet may be absent).

    goal: whether it counts in means.
    """

    name: str
    metric: Metric
    counts: Mapping[str, int]
    goal: bool = True


@dataclass(frozen=True)
class Standing:
    """How one finalist scored: by split and task. `found` is its search estimate in the objective's unit.

    It is None where there are several goals: see Front. `error_code` is set if it could not be scored on the newest
    split it came to. goals: the tasks that count in means, () for all. broken: by how much it breaks the constraints on
    selection items.
    """

    id: str
    label: str
    digest: str
    found: Estimate | None
    scores: Mapping[str, Mapping[str, Estimate]]
    error_code: str | None = None
    goals: tuple[str, ...] = ()
    broken: float = 0.0

    def mean(self, split: str) -> Estimate | None:
        """Mean over tasks with its standard error; None if not scored on this split."""
        tasks = [e for task, e in self.scores.get(split, {}).items() if task in self.goals or not self.goals]
        if not tasks:
            return None
        stderr = float(np.sqrt(sum(e.stderr**2 for e in tasks))) / len(tasks)
        return Estimate(float(np.mean([e.value for e in tasks])), stderr, sum(e.n_items for e in tasks))


@dataclass(frozen=True)
class Interval:
    """A difference and its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """Winner minus rival on the same items of one split: in the mean over tasks, and task by task."""

    split: str
    rival: str
    n_items: int
    mean: Interval
    tasks: Mapping[str, Interval]


@dataclass(frozen=True)
class Optimism:
    """Mean task score of the winner by split, and how far the search overrated it (search minus test).

    None where it was not scored. `drift` is search minus test for base, parents and average, which no search has
    chosen: what the splits differ in by themselves.
    """

    search: float | None
    selection: float | None
    test: float | None
    optimism: float | None
    drift: float | None


@dataclass(frozen=True)
class Cost:
    """What a phase took: rows (failed and repeated ones included), scored items, seconds inside evaluations."""

    phase: str
    evaluations: int
    items: int
    seconds: float


@dataclass(frozen=True)
class Raced:
    """What the search's race left out: items not asked, and the seconds they would have taken."""

    items: int
    of: int
    seconds: float


@dataclass(frozen=True)
class Level:
    """How far estimates stood above weighted means of the same answers; `alarm`: the batch from which that was too far.

    From then on the robust estimator served. `batches`: how many were compared.
    """

    difference: float
    stderr: float
    batches: int
    alarm: int | None


@dataclass(frozen=True)
class Front:
    """Finalists of a run of several goals, of which none is as good as another in every goal.

    ids: those on the front, found by posterior means on selection items, and `knee`, the winner. The rest is of all
    finalists, each with one number a goal. scores, by split and id: estimates of the "search", posteriors of the
    "selection", what the "test" measured. floor, by split: what the objective measures from. gains: winner minus
    finalist in the test, items paired. violations: by how much those that break constraints do.
    """

    goals: tuple[str, ...]
    ids: tuple[str, ...]
    knee: str
    scores: Mapping[str, Mapping[str, tuple[Estimate, ...]]]
    floor: Mapping[str, tuple[float, ...]]
    gains: Mapping[str, tuple[Interval, ...]]
    violations: Mapping[str, float]


@dataclass(frozen=True)
class Report:
    """Everything a run found. `winner` is a finalist's id, None before the first selection.

    failures: evaluations by error code. deaths: of workers over a work while their driver lived. cut: candidates of a
    batch that the budget cut, and the full batch (None: not known). opened: how many selections were followed by a
    whole test. fallbacks: estimates told by the rule that had to step in. front: None for a run of one goal.
    """

    folder: str
    state: str
    finished: bool
    follow_on: str
    settings: Mapping[str, str]
    base: str | None
    parents: Mapping[str, str | None]
    tasks: tuple[TaskFacts, ...]
    standings: tuple[Standing, ...]
    winner: str | None
    differences: tuple[Difference, ...]
    optimism: Optimism | None
    costs: tuple[Cost, ...]
    failures: Mapping[str, int]
    aliases: int
    retries: int
    deaths: int
    stop_reason: str | None
    cut: tuple[int, int | None] | None
    opened: int
    notes: tuple[str, ...]
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    level: Level | None = None
    raced: Raced | None = None
    front: Front | None = None
    verdict: str = ""
    warnings: tuple[str, ...] = ()

    def standing(self, ident: str | None) -> Standing | None:
        return next((s for s in self.standings if s.id == ident), None)

    def difference(self, rival: str, split: str = "test") -> Difference | None:
        """Winner minus this rival on a split, if both were scored there."""
        return next((d for d in self.differences if (d.rival, d.split) == (rival, split)), None)

    @property
    def split(self) -> str:
        """The newest split that anything was scored on."""
        return next((s for s in reversed(SPLITS) if any(one.mean(s) for one in self.standings)), "search")


def is_rival(ident: str) -> bool:
    """Whether a finalist is what a search must beat: base, a parent, the plain average, the control, a warm start."""
    return ident in ("base", "average") or ident.startswith(("parent:", "control:", "warm:"))
