"""Rows of measures as plain text tables, in percentage points."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.measure import Row

#: How a cell of each measure is printed; scores in points.
_POINTS = (
    "mae",
    "regret",
    "bias",
    "curse",
    "full_mae",
    "gain_mae",
    "regret_unselected",
    "regret_visited",
    "curse_fresh",
)


def cell(row: Row, name: str) -> str:
    """One measure; with its interval where the row has one of a difference."""
    if name not in row:
        return "-"
    if name.startswith("gain_"):
        return "{} [{}, {}]".format(*(_number(row[name + end], name) for end in ("", "_low", "_high")))
    return _number(row[name], name)


def _number(value: float, name: str) -> str:
    if name in _POINTS:
        return f"{100 * value:.1f}"
    return f"{value:.0f}" if name.startswith("items") or name in ("candidates", "draws") else f"{value:.2f}"


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, the first ones flush left."""
    widths = [max(len(line[i]) for line in [heads, *lines]) for i in range(len(heads))]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in [heads, *lines]
    )


def by_items(rows: Sequence[Row], names: Sequence[str]) -> str:
    """One line per subset and estimator, one column per number of items; a cell holds `names` in their order."""
    sizes = sorted({r["items"] for r in rows})
    found = {(r["subset"], r["estimator"], r["items"]): " ".join(cell(r, n) for n in names) for r in rows}
    members = list(dict.fromkeys((r["subset"], r["estimator"]) for r in rows))
    lines = [[*m, *(found.get((*m, n), "-") for n in sizes)] for m in members]
    return table(["subset", "estimator", *(f"n={n}" for n in sizes)], lines)


def searches(rows: Sequence[Row]) -> str:
    """One line per setting and budget."""
    names = ("candidates", "regret", "regret_unselected", "regret_visited", "curse", "curse_fresh", "mae", "spearman",
             "coverage", "winner_coverage", "items_search", "items_total")  # fmt: skip
    lines = [
        [str(r["items"]), r["subset"], r["estimator"], draws_of(r), str(r["n"]), *(cell(r, n) for n in names)]
        for r in rows
    ]
    return table(["budget", "subset", "estimator", "items are", "n", *names], lines)


def draws_of(row: Row) -> str:
    """In words: fresh or fixed items, raced or not."""
    return ("fresh" if row["fresh"] else "fixed") + (", raced" if row["race"] else "")


def reached(rows: Sequence[Row]) -> str:
    """One line per way of judging, one column per target regret: items, n, and the share saved."""
    targets = list(dict.fromkeys(r["target"] for r in rows))
    ways: dict[tuple[str, ...], dict[float, str]] = {}
    for row in rows:
        ways.setdefault((row["subset"], row["estimator"], draws_of(row)), {})[row["target"]] = _reach(row)
    lines = [[*way, *(cells[t] for t in targets)] for way, cells in ways.items()]
    return table(["subset", "estimator", "items are", *(f"{100 * t:g} points" for t in targets)], lines)


def _reach(row: Row) -> str:
    if row["items"] is None:
        return "never"
    saved = (f"{100 * row['saving' + end]:.0f}" for end in ("", "_low", "_high"))
    return "{:.0f} (n={}) {} [{}, {}]".format(row["items"], row["n"], *saved)
