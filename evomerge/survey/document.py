"""A survey as JSON data.

Keys: base; entries; parents: [{name, digest, dtype, rank, norm, relative_norm, cosine_to_base, equal_share, ulps,
rounding_error}]; pairs: [{parents, cosine, distance, cosine_of_weights, parts: {part: cosine}}]; blocks: [{stack,
block, part, entries, relative_norms: {parent: x}, conflict, weighted_conflict}] for every block and part, stack and
block null outside the blocks; conflict, weighted_conflict, conflict_by_chance over the whole model; locks: [{parent,
kind, found, tried, example}]; findings: [{level, kind, parents, text}]; suggestions: [{overrides, reason}]. Cosines and
distances are those of task vectors, or of weights where base is null. What cannot be known is null, never NaN.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from evomerge.survey import figures
from evomerge.survey.findings import findings
from evomerge.survey.nouns import Survey
from evomerge.survey.suggest import suggestions


def document(survey: Survey) -> dict[str, Any]:
    """The survey as plain data, every float finite or None."""
    whole = survey.total
    found: dict[str, Any] = _finite(
        {
            "base": survey.base,
            "entries": whole.entries,
            "parents": _parents(survey),
            "pairs": _pairs(survey),
            "blocks": _blocks(survey),
            "conflict": figures.conflict(whole),
            "weighted_conflict": figures.weighted_conflict(whole),
            "conflict_by_chance": figures.conflict_by_chance(len(survey.parents)),
            "locks": [asdict(lock) for lock in survey.locks],
            "findings": [asdict(finding) for finding in findings(survey)],
            "suggestions": [asdict(suggestion) for suggestion in suggestions(survey)],
        }
    )
    return found


def _parents(survey: Survey) -> list[dict[str, Any]]:
    whole, based = survey.total, survey.base is not None
    unknown = np.full(len(survey.parents), np.nan)
    columns = {
        "norm": figures.norms(whole),
        "relative_norm": figures.relative_norms(whole),
        "cosine_to_base": figures.weight_cosines(survey.matrices)[0, 1:] if based else unknown,
        "equal_share": figures.equal_shares(whole) if based else unknown,
        "ulps": figures.ulps(whole),
        "rounding_error": figures.rounding(whole),
    }
    return [
        {**asdict(card), **{key: float(column[i]) for key, column in columns.items()}}
        for i, card in enumerate(survey.parents)
    ]


def _pairs(survey: Survey) -> list[dict[str, Any]]:
    whole, parts = survey.total, survey.by_part
    cosines, distances, weights = figures.cosines(whole), figures.distances(whole), figures.weight_cosines(whole)
    first = 1 if survey.base is not None else 0  # the base has the first row
    return [
        {
            "parents": [survey.names[i], survey.names[j]],
            "cosine": float(cosines[i, j]),
            "distance": float(distances[i, j]),
            "cosine_of_weights": float(weights[first + i, first + j]),
            "parts": {part: float(figures.cosines(parts[part])[i, j]) for part in survey.parts},
        }
        for i, j in figures.pairs(len(survey.parents))
    ]


def _blocks(survey: Survey) -> list[dict[str, Any]]:
    found = survey.by_block_and_part
    places: list[tuple[str, int] | None] = [*survey.blocks, None]
    return [
        {
            "stack": place[0] if place else None,
            "block": place[1] if place else None,
            "part": part,
            "entries": found[place, part].entries,
            "relative_norms": dict(
                zip(survey.names, map(float, figures.relative_norms(found[place, part])), strict=True)
            ),
            "conflict": figures.conflict(found[place, part]),
            "weighted_conflict": figures.weighted_conflict(found[place, part]),
        }
        for place in places
        for part in survey.parts
        if (place, part) in found
    ]


def _finite(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
