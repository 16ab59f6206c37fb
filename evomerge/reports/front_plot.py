"""A front as a picture: two goals against each other, or all goals side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evomerge.errors import ConfigError
from evomerge.reports.front import values
from evomerge.reports.nouns import Front, is_rival

SIZE = (8.0, 5.5)  # inches
DPI = 120
SPLIT_NOTE = "posterior on selection items; bars: 95%"


def plot(front: Front, path: Path) -> None:
    """Write a PNG of 960 x 660 pixels. Raises ConfigError without matplotlib, or where it cannot be written."""
    figure_class, canvas = _matplotlib()
    figure = figure_class(figsize=SIZE, dpi=DPI, layout="constrained")
    canvas(figure)  # our own canvas: a caller's pyplot backend stays as it is
    axes = figure.subplots()
    (_plane if len(front.goals) == 2 else _lines)(axes, front)
    axes.set_title(f"front of {len(front.ids)} ({SPLIT_NOTE})", fontsize=10)
    axes.legend(fontsize=8)
    try:
        figure.savefig(path, format="png")
    except OSError as e:
        raise ConfigError(f"the picture cannot be written to {path} ({e}). Give --plot a file in a folder.") from e


def _matplotlib() -> tuple[Any, Any]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as e:
        raise ConfigError("--plot needs matplotlib. Install it: pip install 'evomerge[plots]'.") from e
    return Figure, FigureCanvasAgg


def _plane(axes: Any, front: Front) -> None:
    """Two goals: finalists with their intervals, those of the front joined."""
    for ident, (x, y) in front.scores["selection"].items():
        style = _style(ident, front)
        axes.errorbar(x.value, y.value, xerr=1.96 * x.stderr, yerr=1.96 * y.stderr, elinewidth=0.7, **style)
        axes.annotate(ident, (x.value, y.value), textcoords="offset points", xytext=(5, 5), fontsize=7)
    joined = sorted(map(tuple, values(front, front.ids, "selection")))
    axes.plot(*zip(*joined, strict=True), color="grey", linewidth=0.8, zorder=0, label="front")
    axes.set_xlabel(front.goals[0])
    axes.set_ylabel(front.goals[1])


def _lines(axes: Any, front: Front) -> None:
    """Any number of goals: a line a member of the front."""
    places = range(len(front.goals))
    for ident in front.ids:
        goals = front.scores["selection"][ident]
        style = {**_style(ident, front), "fmt": "o-", "label": ident}
        axes.errorbar(places, [e.value for e in goals], yerr=[1.96 * e.stderr for e in goals], capsize=2, **style)
    axes.set_xticks(list(places), front.goals)
    axes.set_ylabel("goal")


def _style(ident: str, front: Front) -> dict[str, Any]:
    """Round: found by the search; square: what went in; filled: on the front; large: the knee."""
    filled = "full" if ident in front.ids else "none"
    size = 10 if ident == front.knee else 5
    label = "knee" if ident == front.knee else None
    colour = "tab:grey" if is_rival(ident) else "tab:blue"
    return {"fmt": "s" if is_rival(ident) else "o", "fillstyle": filled, "markersize": size, "label": label} | (
        {"color": colour} if len(front.goals) == 2 else {}
    )
