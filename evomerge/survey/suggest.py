"""Settings to start a search from, each with its reason: rules of thumb of ours, none of them tuned."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from evomerge.survey import figures
from evomerge.survey.findings import NEAR_COPY, copies, findings
from evomerge.survey.nouns import Suggestion, Survey, Tally, added

SMALL = 0.1  # relative norm of task vectors that a base carries with room to spare
ORTHOGONAL = 0.3  # greatest cosine of task vectors that hardly overlap
WIDE, USUAL = 2.0, 1.5  # upper ends of a weight's range
SPARSE = 0.3  # share of entries equal to the base, from which the largest densities do nothing
BLURRED = 0.15  # rounding error as a share of the norm, from which trimming is worth a try
CLASH = 0.02  # sign conflict beyond chance, from which it is more than noise
UNEVEN = 1.25  # ratio of shares between parents, from which depths or parts deserve weights of their own
TURN = 0.3  # difference of cosines, from which parts deserve weights of their own
GROUPS = 3
PARTS = ("self_attn", "embeddings", "head")  # mlp is the bulk of a model: the others are held against it


def suggestions(survey: Survey) -> list[Suggestion]:
    """Overrides of `evomerge search`; none while an alarm stands."""
    if any(finding.level == "alarm" for finding in findings(survey)):
        return [Suggestion((), "An alarm stands: settle it first, or the search spends its budget on broken merges.")]
    if survey.base is None:
        return list(_without_base(survey))
    if not (figures.norms(survey.total) > 0).any():
        return []
    return [*_weights(survey), *_density(survey), *_groups(survey), *_parts(survey)]


def _without_base(survey: Survey) -> Iterator[Suggestion]:
    if len(survey.parents) == 2:
        yield Suggestion(("space.method=slerp",), "Two parents without a base: slerp walks from one to the other.")
    else:
        yield Suggestion(
            ("space.method=linear",),
            "Without a base only averages can be searched; linear keeps their weights' sum at 1.",
        )


def _weights(survey: Survey) -> Iterator[Suggestion]:
    tally = survey.total
    cosines = [abs(c) for c in _pairwise(figures.cosines(tally)) if np.isfinite(c)]
    longest = float(np.nanmax(figures.relative_norms(tally)))
    if copies(survey) or (cosines and max(cosines) > NEAR_COPY):
        yield Suggestion(
            ("space.fixed={normalize: true}",),
            f"Some task vectors are almost one (cosine up to {max(cosines, default=1):.2f}): freely added they would "
            "double their common change, so weights are shares of 1.",
        )
    elif max(cosines, default=0) >= ORTHOGONAL and _upper_end(tally) < USUAL:
        yield Suggestion(
            (f"space.ranges.weight=[-0.2,{_upper_end(tally)}]",),
            f"Task vectors overlap (cosines up to {max(cosines):.2f}) and their sum is {_sum_length(tally):.1f} times "
            "as long as if they did not: the upper end is scaled down to that.",
        )
    elif max(cosines, default=0) < ORTHOGONAL and longest < SMALL:
        yield Suggestion(
            (f"space.ranges.weight=[-0.2,{WIDE}]",),
            f"Task vectors hardly overlap (cosines up to {max(cosines, default=0):.2f}) and are short (up to "
            f"{longest:.3f} of the base's norm): each can be weighed by itself, also well above 1.",
        )


def _upper_end(tally: Tally) -> float:
    return float(np.clip(round(USUAL / _sum_length(tally), 1), 0.5, USUAL))


def _sum_length(tally: Tally) -> float:
    """Length of the task vectors' sum, over what it would be if they were orthogonal."""
    gram = figures.vectors(tally)
    return float(np.sqrt(max(gram.sum(), 0.0) / np.trace(gram)))


def _density(survey: Survey) -> Iterator[Suggestion]:
    tally = survey.total
    equal = _left_alone(survey)
    blur = float(np.nan_to_num(figures.rounding(tally)).max())
    chance = figures.conflict_by_chance(len(survey.parents))
    if equal > SPARSE:
        high = round(1 - equal, 2)
        yield Suggestion(
            ("space.method=ties", f"space.ranges.density=[{min(0.1, high / 4):.2g},{high:.2g}]"),
            f"Every parent left {equal:.0%} or more of the tensors it changed as in the base: densities "
            f"above {high:.2g} keep all.",
        )
    elif blur > BLURRED:
        yield Suggestion(
            ("space.method=ties", "space.ranges.density=[0.1,0.8]"),
            f"Rounding blurs a task vector by {blur:.0%} of its length, most felt in small entries: "
            "trimming drops those.",
        )
    elif figures.weighted_conflict(tally) > chance + CLASH:
        yield Suggestion(
            ("space.method=ties",),
            f"Signs disagree more than chance would have it ({figures.weighted_conflict(tally):.2f}, by chance "
            f"{chance:.2f}): ties keeps the majority's side of each entry.",
        )


def _left_alone(survey: Survey) -> float:
    """Least share, over the parents, of entries equal to the base in the tensors that a parent changed at all."""
    equal = np.array([tally.equal for tally in survey.tallies.values()])  # (tensors, P)
    entries = np.array([tally.entries for tally in survey.tallies.values()])[:, None]
    changed = equal < entries
    totals = np.where(changed, entries, 0).sum(0)
    shares = np.where(changed, equal, 0).sum(0)[totals > 0] / totals[totals > 0]
    return float(shares.min(initial=1.0))


def _groups(survey: Survey) -> Iterator[Suggestion]:
    blocks = list(survey.by_block.values())
    if len(blocks) < 2 * GROUPS or len(survey.parents) < 2:
        return
    bands = [added([blocks[i] for i in band]) for band in np.array_split(np.arange(len(blocks)), GROUPS)]
    ratio = _unevenness(bands)
    if ratio > UNEVEN:
        yield Suggestion(
            (f"space.groups={GROUPS}",),
            f"The parents change different depths: their ratio of lengths varies {ratio:.1f}-fold over {GROUPS} bands "
            "of blocks, and one weight cannot suit all.",
        )


def _parts(survey: Survey) -> Iterator[Suggestion]:
    found = survey.by_part
    if "mlp" not in found or len(survey.parents) < 2:
        return
    odd = [part for part in PARTS if part in found and _differs(found[part], _neighbours(survey, part))]
    if odd:
        yield Suggestion(
            (f"space.parts=[{','.join(odd)}]",),
            f"The parents' task vectors meet differently in {' and '.join(odd)} than in mlp (other cosines, or another "
            "ratio of lengths): weights of their own, and one set for the rest.",
        )


def _neighbours(survey: Survey, part: str) -> Tally:
    """The mlp that a part would share its weights with: all, or for embeddings and head the nearest band of blocks."""
    found = survey.by_block_and_part
    tallies = [found[block, "mlp"] for block in survey.blocks if (block, "mlp") in found]
    near = -(-len(tallies) // GROUPS)
    return added({"embeddings": tallies[:near], "head": tallies[-near:]}.get(part, tallies))


def _differs(one: Tally, two: Tally) -> bool:
    gaps = [abs(a - b) for a, b in zip(_pairwise(figures.cosines(one)), _pairwise(figures.cosines(two)), strict=True)]
    return _unevenness([one, two]) > UNEVEN or any(gap > TURN for gap in gaps)


def _unevenness(tallies: list[Tally]) -> float:
    """How much the parents' ratio of relative norms varies: the greatest over parents and places; 1 if not at all."""
    lengths = np.array([figures.relative_norms(t) for t in tallies])  # (places, P)
    lengths = lengths[:, np.isfinite(lengths).all(0) & (lengths > 0).all(0)]
    if lengths.shape[1] < 2:
        return 1.0
    profile = lengths / lengths.mean(0)
    profile = profile / profile.mean(1, keepdims=True)
    return float((profile.max(0) / profile.min(0)).max())


def _pairwise(matrix: np.ndarray) -> list[float]:
    return [float(matrix[i, j]) for i, j in figures.pairs(len(matrix))]
