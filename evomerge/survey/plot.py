"""A survey as one picture: sign conflict by block and part, length by block, cosines of the parents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from evomerge.errors import ConfigError
from evomerge.survey import figures
from evomerge.survey.grids import short
from evomerge.survey.nouns import Survey

SIZE = (15.0, 5.2)  # inches
DPI = 120
SPREAD = 0.25  # sign conflict further than this from chance has the same colour


def plot(survey: Survey, path: Path) -> None:
    """Write a PNG of 1800 x 624 pixels. Raises ConfigError without matplotlib, or where it cannot be written."""
    figure_class, canvas = _matplotlib()
    figure = figure_class(figsize=SIZE, dpi=DPI, layout="constrained")
    canvas(figure)  # our own canvas: a caller's pyplot backend stays as it is
    axes = figure.subplots(1, 3, width_ratios=(1.0, 1.4, 1.1)) if survey.base else [figure.subplots()]
    if survey.base is not None:
        _conflict(figure, axes[0], survey)
        _lengths(axes[1], survey)
    _cosines(figure, axes[-1], survey)
    try:
        figure.savefig(path, format="png")
    except OSError as e:
        raise ConfigError(f"the picture cannot be written to {path} ({e}). Give --png a file in a folder.") from e


def _matplotlib() -> tuple[Any, Any]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as e:
        raise ConfigError("--png needs matplotlib. Install it: pip install 'evomerge[plots]'.") from e
    return Figure, FigureCanvasAgg


def _conflict(figure: Any, axes: Any, survey: Survey) -> None:
    """Heat map around chance: red where signs differ more often. What lies outside the blocks has the last row."""
    found = survey.by_block_and_part
    places: list[tuple[str, int] | None] = [*survey.blocks, None]
    shares = [
        [figures.weighted_conflict(found[place, part]) if (place, part) in found else np.nan for part in survey.parts]
        for place in places
    ]
    chance = figures.conflict_by_chance(len(survey.parents))
    ends = {"vmin": chance - SPREAD, "vmax": chance + SPREAD}
    image = axes.imshow(np.array(shares), aspect="auto", cmap="RdBu_r", **ends)
    axes.set_facecolor("0.85")  # no such part there
    axes.set_xticks(range(len(survey.parts)), survey.parts, rotation=30, ha="right")
    rows = _ticks(len(survey.blocks))
    axes.set_yticks([*rows, len(survey.blocks)], [*(_label(survey, row) for row in rows), "outside"])
    axes.set_title(f"Sign conflict, weighted (by chance {chance:.2f})")
    axes.set_ylabel("block")
    figure.colorbar(image, ax=axes, extend="both")


def _lengths(axes: Any, survey: Survey) -> None:
    """A line per parent."""
    found = survey.by_block
    lengths = np.array([figures.relative_norms(found[block]) for block in survey.blocks])  # (blocks, P)
    for i, name in enumerate(survey.names):
        axes.plot(lengths[:, i], marker="o", markersize=3, label=short(name))
    rows = _ticks(len(survey.blocks))
    axes.set_xticks(rows, [_label(survey, row) for row in rows])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("block")
    axes.set_title("Length of the task vectors, relative to the base's")
    axes.grid(alpha=0.3)
    axes.legend()


def _cosines(figure: Any, axes: Any, survey: Survey) -> None:
    """Matrix with its numbers, as far as they can be read."""
    cosines = figures.cosines(survey.total)
    ends = {"vmin": -1, "vmax": 1} if survey.base is not None else {}
    image = axes.imshow(cosines, cmap="RdBu_r" if survey.base is not None else "viridis", **ends)
    names = [short(name) for name in survey.names]
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_title(f"Cosines of {'task vectors' if survey.base is not None else 'weights'}")
    if len(names) <= 10:
        for i, j in np.ndindex(cosines.shape):
            dark = survey.base is not None and abs(cosines[i, j]) > 0.6
            axes.text(j, i, f"{cosines[i, j]:.2f}", ha="center", va="center", color="white" if dark else "black")
    figure.colorbar(image, ax=axes)


def _ticks(n: int) -> list[int]:
    """About a dozen of n rows, whole steps apart."""
    return list(range(0, n, max(1, -(-n // 12))))


def _label(survey: Survey, row: int) -> str:
    stack, block = survey.blocks[row]
    return f"{stack.split('.')[0]} {block}" if len(survey.stacks) > 1 else str(block)
