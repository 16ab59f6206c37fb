"""Runs to report on: spheres scored by hand-made rules, with headers as rich as real ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from evomerge.journal import Journal
from evomerge.phases import search
from evomerge.types import Candidate, ItemScores
from tests.sphere import SphereEvaluator, plan

IDENTITY = {
    "seed": 1,
    "tasks": [
        {
            "name": name,
            "metric": {"name": "acc", "higher_is_better": True, "kind": "mean"},
            "items": {split: {"count": 6, "digest": "0"} for split in ("search", "selection", "test")},
        }
        for name in ("alpha", "beta")
    ],
    "parents": {"base": "b0", "models": {"a": "a1"}},
    "objective": {"_target_": "evomerge.objectives.weighted_mean.WeightedMean"},
    "optimizer": {"_target_": "evomerge.optimizers.cma_es.CmaEs"},
}


class Listed:
    """Asks the given first coordinates, all in one batch."""

    elitist = True
    many_goals = takes_choices = wants_answers = False

    def __init__(self, firsts):
        self.lag = self.step = len(firsts)
        self._firsts = firsts

    def ask(self, n):
        asked, self._firsts = self._firsts[:n], self._firsts[n:]
        return [Candidate(i, np.array([x, 0.0, 0.0, 0.0])) for i, x in enumerate(asked)]

    def tell(self, results):
        pass


class Ruled(SphereEvaluator):
    """Scores by a rule: (work, task, first weight, n items) -> values."""

    def __init__(self, rule, **settings):
        super().__init__(**settings)
        self._rule = rule

    def open(self):
        bench = super().open()
        plain = bench.evaluate

        def ruled(work, **how):
            (done,) = plain(work, **how)
            first = work.recipe.slots[0].blends["*"].knobs["weight"][0]
            values = {s.task: np.asarray(self._rule(work, s.task, first, len(s.items)), float) for s in done.scores}
            yield replace(done, scores=tuple(ItemScores(t, work.items[t], v) for t, v in values.items()))

        bench.evaluate = ruled
        return bench


def level(work, task, first, n):
    """Every item scores the first weight: base 0, parent 1, average 0.5, candidates what was listed."""
    return np.full(n, first)


def listed(found, control=(), rule=level):
    """Changes to a plan: these candidates, this control, this rule."""
    return {
        "make_optimizer": lambda starts: Listed(list(found)),
        "make_control": (lambda starts: Listed(list(control))) if control else None,
        "evaluator": Ruled(rule),
    }


def run_as(folder, identity, **changes):
    journal = Journal(folder)
    try:
        journal.begin(identity, {})
        return search(plan(**changes), journal)
    finally:
        journal.close()


def cut_after(folder, lines, to):
    """A copy of a run as it was after so many rows."""
    to.mkdir()
    kept = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)[:lines]
    (to / "journal.jsonl").write_bytes(b"".join(kept))
    return to
