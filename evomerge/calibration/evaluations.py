"""Evaluations of whole banks as answers, and back, without losing a bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from evomerge.calibration.bank import is_endpoint
from evomerge.calibration.key import digest_of
from evomerge.calibration.responses import Responses
from evomerge.types import Evaluation, ItemScores, Recipe, Work


def answers_of(recipes: Mapping[str, Recipe], found: Mapping[str, Evaluation], settings: str) -> Responses:
    """What these models, by their names in the plan, answered to the items of the first; failed ones are left out."""
    names = [name for name, evaluation in found.items() if not evaluation.error_code]
    items = [(task, i) for name in names[:1] for task, ids in found[name].items.items() for i in ids]
    rows = [_row(found[name].scores).on(items) for name in names]
    return Responses(
        models=tuple(names),
        kinds=tuple(kind_of(name) for name in names),
        digests=tuple(digest_of(recipes[name]) for name in names),
        items=tuple(items),
        values=_stacked([row.values for row in rows], len(items)),
        sizes=_some([row.sizes for row in rows], len(items)),
        margins=_some([row.margins for row in rows], len(items)),
        batch_sizes=tuple(found[name].batch_size or 0 for name in names),
        settings=settings,
    )


def kind_of(name: str) -> str:
    """Kind of a model by its name in the plan: base, parent:NAME, average, or a design."""
    if is_endpoint(name):
        return name.partition(":")[0]
    return "average" if name == "average" else "design"


def evaluation_of(work: Work, answers: Responses) -> Evaluation | None:
    """The evaluation of this work, equal in every bit to the one that was kept; None if that asked other items.

    Padding and batches make an item's answer depend on those asked with it, so a part of a bank is no match.
    """
    m = answers.row(digest_of(work.recipe))
    asked = {(task, i) for task, ids in work.items.items() for i in ids}
    if m is None or asked != {item for item in answers.items if item[0] in work.items}:
        return None
    scores = tuple(scores_of(task, ids, m, answers) for task, ids in work.items.items())
    if any(np.isnan(s.values).any() for s in scores):
        return None
    return Evaluation(
        work.id,
        work.phase,
        work.recipe.digest,
        work.items,
        scores,
        genome=work.genome,
        rung=work.rung,
        batch_size=answers.batch_sizes[m] or None,
    )


def scores_of(task: str, items: Sequence[str], m: int, answers: Responses) -> ItemScores:
    """What model m answered to items of one task."""
    places = [answers.place[task, i] for i in items]
    values, sizes, margins = (
        None if matrix is None or np.isnan(matrix[m, places]).all() else matrix[m, places]
        for matrix in (answers.values, answers.sizes, answers.margins)
    )
    if values is None:
        values = np.full(len(places), np.nan)
    return ItemScores(task, tuple(items), values if sizes is None else np.stack([values, sizes], 1), margins)


def _row(scores: Sequence[ItemScores]) -> Responses:
    """One model's answers; sizes and margins are NaN where a task has none."""
    blanks = [np.full(len(s.items), np.nan) for s in scores]
    pairs = [
        s.values if s.values.ndim == 2 else np.stack([s.values, b], 1) for s, b in zip(scores, blanks, strict=True)
    ]
    both = np.concatenate([np.zeros((0, 2)), *pairs])
    margins = [b if s.margins is None else s.margins for s, b in zip(scores, blanks, strict=True)]
    return Responses(
        ("",),
        ("other",),
        ("",),
        tuple((s.task, i) for s in scores for i in s.items),
        both[:, 0][None],
        both[:, 1][None],
        np.concatenate([np.zeros(0), *margins])[None],
    )


def _some(rows: Sequence[np.ndarray | None], n: int) -> np.ndarray | None:
    """float64 (M, n), or None if there is not one number in it."""
    found = _stacked(rows, n)
    return None if np.isnan(found).all() else found


def _stacked(rows: Sequence[np.ndarray | None], n: int) -> np.ndarray:
    blank = np.full((1, n), np.nan)
    return np.concatenate([np.zeros((0, n)), *(blank if row is None else row for row in rows)])
