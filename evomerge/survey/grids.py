"""A survey as grids of words: parents, pairs, and depth, none wider than 100 columns for the usual names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from evomerge.reports.grids import Grid
from evomerge.reports.wording import number
from evomerge.survey import figures
from evomerge.survey.nouns import Card, Survey, Tally, added

ROWS = 16  # more blocks than that are shown in bands
PAIRS = 15  # more pairs are left to --json
ABREAST = 6  # parents beside each other


def grids(survey: Survey) -> list[Grid]:
    """Parents, pairs, lengths by depth, sign conflict by depth: as far as they can be known."""
    found = [_parents(survey), _pairs(survey)]
    if survey.base is not None:
        found += [*_lengths(survey), _conflict(survey)]
    return [grid for grid in found if grid.rows]


def short(name: str, width: int = 18) -> str:
    return name if len(name) <= width else f"{name[: width - 9]}…{name[-8:]}"


# ---------------------------------------------------------------- parents and pairs


def _parents(survey: Survey) -> Grid:
    whole = survey.total
    columns: dict[str, list[str]] = {
        "stored as": [_stored(card) for card in survey.parents],
        "norm": [f"{x:.4g}" for x in figures.norms(whole)],
    }
    note = "norm: length of the weights."
    if survey.base is not None:
        columns["of base's"] = [_digits(x) for x in figures.relative_norms(whole)]
        columns["cosine to base"] = [_number(x) for x in figures.weight_cosines(survey.matrices)[0, 1:]]
        columns["equal"] = [f"{x:.0%}" for x in figures.equal_shares(whole)]
        columns["ulps"] = [_digits(x) for x in figures.ulps(whole)]
        columns["rounding"] = ["-" if np.isnan(x) else f"{x:.0%}" for x in figures.rounding(whole)]
        note = (
            "norm: length of the task vector (parent minus base); cosine to base: of the matrices' weights; equal: "
            "entries exactly as in the base; ulps: a typical change in steps of the dtype; rounding: error that "
            "storing makes, as a share of the norm."
        )
    rows = zip(map(short, survey.names), *columns.values(), strict=True)
    return Grid("Parents", ("parent", *columns), tuple(rows), note, names=2)


def _stored(card: Card) -> str:
    return f"{card.dtype}, rank {card.rank}" if card.rank is not None else card.dtype


def _pairs(survey: Survey) -> Grid:
    whole, parts = survey.total, survey.by_part
    among = figures.pairs(len(survey.parents))
    cosines, gaps = figures.cosines(whole), figures.distances(whole)
    shown = sorted(among, key=lambda pair: -np.nan_to_num(abs(cosines[pair])))[:PAIRS]
    rows = tuple(
        (
            f"{short(survey.names[i])}, {short(survey.names[j])}",
            _number(cosines[i, j]),
            *(_number(figures.cosines(parts[part])[i, j]) for part in survey.parts),
            f"{gaps[i, j]:.4g}",
        )
        for i, j in shown
    )
    what = "task vectors" if survey.base is not None else "weights"
    rest = f"The {PAIRS} closest of {len(among)} pairs; --json has all." if len(among) > PAIRS else ""
    return Grid(f"Cosines of {what}", ("pair", "whole", *survey.parts, "distance"), rows, rest)


# ---------------------------------------------------------------- depth


def _lengths(survey: Survey) -> list[Grid]:
    """Relative norm of the task vectors by depth, some parents beside each other."""
    bands = _bands(survey)
    firsts = range(0, len(survey.names), ABREAST)
    return [
        Grid(
            "Length of the task vectors by depth, relative to the base's there",
            ("blocks", *(short(name, 12) for name in survey.names[first : first + ABREAST])),
            tuple(
                (band, *map(_digits, figures.relative_norms(tally)[first : first + ABREAST]))
                for band, tally in bands.items()
            ),
        )
        for first in firsts
    ]


def _conflict(survey: Survey) -> Grid:
    """Sign conflict by depth and part."""
    parts = {part: _bands(survey, part) for part in survey.parts}
    whole = _bands(survey)
    rows = tuple(
        (band, _shares(whole[band]), *(_shares(parts[part].get(band)) for part in survey.parts)) for band in whole
    )
    chance = figures.conflict_by_chance(len(survey.parents))
    note = (
        "Of the entries that two or more parents changed, the share whose signs differ (in brackets: weighed by the "
        f"size of the changes); {chance:.2f} by chance where all change them."
    )
    shown = rows if len(survey.parents) > 1 else ()
    return Grid("Sign conflict by depth and part", ("blocks", "all parts", *survey.parts), shown, note)


def _bands(survey: Survey, part: str | None = None) -> dict[str, Tally]:
    """Title -> sums: runs of blocks, few enough to read, and what lies outside the blocks last."""
    found = survey.by_block_and_part
    blocks = [(stack, block) for stack, block in survey.blocks]
    size = -(-len(blocks) // ROWS) if blocks else 1
    titled: Mapping[str, Sequence[tuple[str, int] | None]] = {
        **{_title(survey, run): run for stack in survey.stacks for run in _runs(survey, stack, size)},
        "outside": [None],
    }
    chosen: Callable[[str], bool] = lambda one: part is None or one == part  # noqa: E731
    tallies = {
        title: [found[place, one] for place in run for one in survey.parts if chosen(one) and (place, one) in found]
        for title, run in titled.items()
    }
    return {title: added(some) for title, some in tallies.items() if some}


def _runs(survey: Survey, stack: str, size: int) -> list[list[tuple[str, int]]]:
    depth = survey.stacks[stack]
    return [[(stack, b) for b in range(first, min(first + size, depth))] for first in range(0, depth, size)]


def _title(survey: Survey, run: Sequence[tuple[str, int]]) -> str:
    (stack, first), (_, last) = run[0], run[-1]
    numbers = f"{first}" if first == last else f"{first}-{last}"
    return f"{stack} {numbers}" if len(survey.stacks) > 1 else numbers


def _shares(tally: Tally | None) -> str:
    if tally is None or not tally.shared:
        return "-"
    return f"{figures.conflict(tally):.2f} ({figures.weighted_conflict(tally):.2f})"


def _number(value: float) -> str:
    return "-" if np.isnan(value) else number(float(value))


def _digits(value: float) -> str:
    """Two digits: lengths of task vectors span orders of magnitude."""
    return "-" if np.isnan(value) else f"{value:.2g}"
