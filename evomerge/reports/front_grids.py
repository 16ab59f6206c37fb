"""A front as grids of words, and what it says of the winner in a sentence."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from evomerge.reports.front import hypervolumes, rivals
from evomerge.reports.grids import TASKS_ABREAST, Grid
from evomerge.reports.nouns import Front, Interval, Report, Standing, is_rival
from evomerge.reports.wording import called, capital, number, plural, span, with_error

SHOWN = {"selection": "posterior", "test": "test"}
NOTE = (
    "* the knee, which is the winner. posterior: on selection items, by which the front was found; test only reports. "
    "Where errors overlap, who dominates whom is uncertain."
)


def front_grids(front: Front, report: Report) -> list[Grid]:
    """Members by goals, the posterior above the test score; many goals take several grids."""
    parts = [range(len(front.goals))[i : i + TASKS_ABREAST] for i in range(0, len(front.goals), TASKS_ABREAST)]
    finalists = plural(len(report.standings), "finalist")
    title = f"Front: {len(front.ids)} of {finalists}; the others are dominated, break constraints or were not scored"
    return [
        Grid(title, ("finalist", "in", *(front.goals[g] for g in part)), _rows(part, front, report), _note(front), 2)
        for part in parts
    ]


def _rows(part: range, front: Front, report: Report) -> tuple[tuple[str, ...], ...]:
    splits = [split for split in SHOWN if split in front.scores]
    return tuple(
        (_name(ident, front, report) if split == splits[0] else "", SHOWN[split], *_cells(ident, split, part, front))
        for ident in front.ids
        for split in splits
    )


def _name(ident: str, front: Front, report: Report) -> str:
    standing = report.standing(ident)
    return (standing.label if standing else ident) + (" *" if ident == front.knee else "")


def _cells(ident: str, split: str, part: range, front: Front) -> list[str]:
    scored = front.scores[split].get(ident)
    return ["failed" if scored is None else with_error(scored[g]) for g in part]


def _note(front: Front) -> str:
    broken = " None keeps all constraints: these break them least." if front.violations.get(front.knee) else ""
    return NOTE + broken


def hypervolume_grid(front: Front) -> Grid:
    """What the search gained in hypervolume."""
    found = hypervolumes(front)
    names = {"front": f"the front ({len(front.ids)})", "rivals": f"without the search ({len(rivals(front))})"}
    heads = {"search": "search estimate", **SHOWN}
    rows = tuple((name, *(number(found[split][key]) for split in found)) for key, name in names.items())
    note = (
        "The volume above the base (the plain average without one); what is below it in any goal adds nothing. "
        "Without the search: the front of references, control and warm starts alone."
    )
    return Grid("Hypervolume", ("of", *(heads[split] for split in found)), rows, note)


# ---------------------------------------------------------------- the verdict


def front_verdict(winner: Standing, front: Front, report: Report) -> str:
    """The knee, and goal by goal what it gains in the test over the rival with the best mean of goals there."""
    among = f"the knee of a front of {len(front.ids)} over {plural(len(front.goals), 'goal')}"
    if is_rival(winner.id):
        return f"The search found no better compromise: {called(winner, report)} is {among}. {_finds(front, report)}"
    rival = _best_rival(front)
    if rival is None:
        return f"{capital(called(winner, report))} is {among}; no rival could be scored in the test."
    standing = report.standing(rival)
    gains = zip(front.goals, front.gains[rival], strict=True)
    told = "; ".join(f"{_word(gain)} in {goal} ({span(gain)})" for goal, gain in gains)
    against = called(standing, report) if standing else rival
    return f"{capital(called(winner, report))} is {among}. Against {against} it is, on test items, {told}."


def _best_rival(front: Front) -> str | None:
    means: Mapping[str, float] = {
        i: float(np.mean([e.value for e in goals])) for i, goals in front.scores.get("test", {}).items() if is_rival(i)
    }
    return max(means, key=lambda i: means[i], default=None)


def _word(gain: Interval) -> str:
    if gain.low > 0:
        return "better"
    return "worse" if gain.high < 0 else "not told apart"


def _finds(front: Front, report: Report) -> str:
    finds = [standing.label for i in front.ids if not is_rival(i) and (standing := report.standing(i))]
    return f"Its own finds on the front: {', '.join(finds)}." if finds else "None of its finds is on the front."
