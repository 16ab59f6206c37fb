"""What one ask/tell phase has come to know, batch by batch; all of it follows from the journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from evomerge.budget import Meter
from evomerge.calibration.bank import observe
from evomerge.estimators.level import alarmed
from evomerge.fitness import Fitness, weight_of
from evomerge.items import Draw, Observed
from evomerge.journal import Journal
from evomerge.plan import Plan, Scored
from evomerge.rows import Commit
from evomerge.scoring import Desk
from evomerge.types import Evaluation, Work

Id = int | str


@dataclass
class Course:
    """A phase under way.

    works, rows: of each candidate, rows one per draw it was scored on. scored: with the estimates last told.
    robust: the level of the plan's estimator was found to be off. asked: batches so far. repeats: candidates
    since the last one whose recipe was new. newest: ids of the batch told last.
    """

    phase: str
    plan: Plan
    fitness: Fitness
    journal: Journal
    meter: Meter
    works: dict[Id, Work] = field(default_factory=dict)
    rows: dict[Id, list[Evaluation]] = field(default_factory=dict)
    draws: dict[int, Draw] = field(default_factory=dict)
    scored: dict[Id, Scored] = field(default_factory=dict)
    levels: list[tuple[float, float]] = field(default_factory=list)
    robust: bool = False
    asked: int = 0
    repeats: int = 0
    newest: tuple[Id, ...] = ()
    _known: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.desk = Desk(self.plan, self.journal, self.meter.elapsed)

    def answered(self, works: Sequence[Work], rows: Sequence[Evaluation], draw_number: int, draw: Draw) -> None:
        """Take the answers of a batch."""
        self.draws[draw_number] = draw
        for work, row in zip(works, rows, strict=True):
            self.works[work.id] = work
            self.rows.setdefault(work.id, []).append(row)

    def told(self, scored: Sequence[Scored], new: Sequence[Id], commit: Commit) -> None:
        """Take what a commit says of a batch."""
        self._count_repeats([s for s in scored if s.id in set(new)])
        self.scored.update({s.id: s for s in scored})
        self.newest = tuple(new)
        self.levels += [commit.level] if commit.level else []
        self.robust = self.robust or alarmed(self.levels)

    def _count_repeats(self, new: Sequence[Scored]) -> None:
        for one in new:
            self.repeats = self.repeats + 1 if one.recipe.digest in self._known else 0
            self._known.add(one.recipe.digest)

    def failure(self, ident: Id) -> str | None:
        """The error code of a candidate's newest evaluation."""
        return self.rows[ident][-1].error_code

    def observed(self, ids: Sequence[Id]) -> list[Observed]:
        """All answers of these candidates, as far as they did not fail."""
        weight = weight_of(self.fitness.bank, list(self.draws.values()))
        return [observe(i, self.rows[i], self.fitness.bank, weight) for i in ids if not self.failure(i)]

    def earlier(self, but: Sequence[Id]) -> list[Observed]:
        """The answers of all others, oldest first."""
        return self.observed([i for i in self.rows if i not in set(but)])
