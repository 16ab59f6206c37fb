"""A report as grids of words: what the terminal and Markdown both show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from evomerge.reports.nouns import Difference, Raced, Report, Standing, TaskFacts
from evomerge.reports.wording import number, plural, span, with_error
from evomerge.types import Estimate

TASKS_ABREAST = 4  # more do not fit 100 columns
TITLES = {
    "test": "Scores on test items",
    "selection": "Scores on selection items (no test yet)",
    "search": "Scores on search items so far (optimistic: candidates are chosen by them)",
}
ENDS = {
    "evaluations": "its evaluations are spent",
    "items": "its items are spent",
    "seconds": "its seconds are spent",
    "exhausted": "the optimizer has nothing left to ask",
    "target": "its target is reached",
    "stagnation": "nothing better was found any more",
    "failures": "too many candidates failed",
}


@dataclass(frozen=True)
class Grid:
    """A title, column names, and rows of cells; the first `names` columns hold words. `note` explains below."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    names: int = 1


def score_grids(report: Report) -> list[Grid]:
    """Finalists by tasks on the newest split; many tasks take several grids, and the last has the means."""
    parts = [report.tasks[i : i + TASKS_ABREAST] for i in range(0, len(report.tasks), TASKS_ABREAST)]
    return [_score_grid(part, report, last=part is parts[-1]) for part in parts]


def _score_grid(tasks: tuple[TaskFacts, ...], report: Report, last: bool) -> Grid:
    means = _mean_columns(report) if last else {}
    columns = ("finalist", *map(_task_title, tasks), *means)
    rows = tuple(
        (_marked(s, report), *(_cell(s, task, report.split) for task in tasks), *(mean(s) for mean in means.values()))
        for s in report.standings
    )
    note = "* winner, chosen on selection items." if report.winner else ""
    note += " ! breaks a constraint there." if any(s.broken for s in report.standings) else ""
    return Grid(TITLES[report.split], columns, rows, f"{note} {_sign_note(report) if last else ''}".strip())


def _mean_columns(report: Report) -> dict[str, Callable[[Standing], str]]:
    columns: dict[str, Callable[[Standing], str]] = {"mean": lambda s: with_error(s.mean(report.split))}
    if report.split == "test":
        columns["selection mean"] = lambda s: _value(s.mean("selection"))
    return columns if report.front else columns | {"search objective": lambda s: _value(s.found)}


def _value(estimate: Estimate | None) -> str:
    return number(estimate.value if estimate else None)


def _task_title(task: TaskFacts) -> str:
    return task.name if task.metric.higher_is_better else f"{task.name} (lower is better)"


def _cell(standing: Standing, task: TaskFacts, split: str) -> str:
    """A task's score in its own sign: estimates are oriented, people know their metrics as they are."""
    if split not in standing.scores and standing.error_code:
        return f"failed: {standing.error_code}"
    estimate = standing.scores.get(split, {}).get(task.name)
    sign = 1 if _as_is(task) else -1
    return number(estimate and sign * estimate.value)


def _as_is(task: TaskFacts) -> bool:
    return task.metric.higher_is_better or task.metric.kind == "pairs"  # pairs are never turned round


def _sign_note(report: Report) -> str:
    apart = [task.name for task in report.tasks if not task.goal]
    turned = not all(_as_is(task) for task in report.tasks if task.goal)
    notes = ["In the means, tasks where lower is better count with a minus."] * turned
    return " ".join([*notes, *([f"Means leave out {', '.join(apart)}: no goal."] if apart else [])])


def _marked(standing: Standing, report: Report) -> str:
    return standing.label + (" *" if standing.id == report.winner else "") + (" !" if standing.broken else "")


def difference_grid(report: Report) -> Grid:
    """Rival by rival, the mean and then each task: winner minus rival on test and on selection items."""
    winner = report.standing(report.winner)
    rivals = list(dict.fromkeys(d.rival for d in report.differences))
    rows = tuple(row for rival in rivals for row in _difference_rows(rival, report))
    title = (
        f"{winner.label if winner else 'winner'} minus its rivals, with 95% intervals (positive: the winner is better)"
    )
    return Grid(title, ("rival", "in", *_splits(report)), rows, _optimism_note(report), names=2)


def _splits(report: Report) -> list[str]:
    return list(dict.fromkeys(d.split for d in report.differences))


def _difference_rows(rival: str, report: Report) -> list[tuple[str, ...]]:
    found = [report.difference(rival, split) for split in _splits(report)]
    standing = report.standing(rival)
    mean = (standing.label if standing else rival, "mean", *(span(d.mean) if d else "-" for d in found))
    tasks = [t.name for t in report.tasks] if len(report.tasks) > 1 else []
    return [mean, *(("", task, *(_task_span(d, task) for d in found)) for task in tasks)]


def _task_span(difference: Difference | None, task: str) -> str:
    return span(difference.tasks[task]) if difference else "-"


def _optimism_note(report: Report) -> str:
    """Winner's curse in a sentence."""
    o, winner = report.optimism, report.standing(report.winner)
    if o is None or winner is None:
        return ""
    means = {"search": o.search, "selection": o.selection, "test": o.test}
    told = ", ".join(f"{split} {number(value)}" for split, value in means.items() if value is not None)
    if o.search is None:
        return f"Mean score of {winner.label}: {told}; the search never scored it itself."
    drift = "" if o.drift is None else f" (references, which nothing chose: {number(o.drift, '+')})"
    over = "" if o.optimism is None else f": optimism {number(o.optimism, '+')}{drift}"
    return f"Mean score of {winner.label}: {told}{over}."


def cost_grid(report: Report) -> Grid:
    """Evaluations, paid items and seconds by phase."""
    rows = tuple((c.phase, str(c.evaluations), str(c.items), f"{c.seconds:.1f}") for c in report.costs)
    extra = [f"the search ended: {ENDS.get(report.stop_reason, report.stop_reason)}"] if report.stop_reason else []
    extra += [plural(report.aliases, "equal recipe") + " not scored again"] if report.aliases else []
    extra += [plural(report.retries, "retry", "retries") + " with a smaller batch"] if report.retries else []
    extra += [plural(report.deaths, "worker") + " died or hung over a candidate"] if report.deaths else []
    extra += [_raced(report.raced)] if report.raced else []
    sizes = [f"{t.name}: " + ", ".join(f"{n} {split}" for split, n in t.counts.items()) for t in report.tasks]
    note = "; ".join([*extra, *(["items by split: " + "; ".join(sizes)] if sizes else [])])
    return Grid("Costs by phase", ("phase", "evaluations", "items", "seconds"), rows, note)


def _raced(raced: Raced) -> str:
    return f"racing spared {raced.items} of {raced.of} search items, about {raced.seconds:.0f} s at this run's pace"
