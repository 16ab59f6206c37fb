"""What a run found in one plain sentence, and what should keep its reader from believing too much of it."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import numpy as np

from evomerge.reports.front_grids import front_verdict
from evomerge.reports.nouns import Difference, Report, Standing, TaskFacts, is_rival
from evomerge.reports.wording import called, capital, number, plural, span

FEW = 100  # test items of a task below which its scores are called too few


def verdict(report: Report) -> str:
    """The winner against its best rival on the test items: the best there of base, parents, average and control.

    Of several goals, what it gains in each.
    """
    winner = report.standing(report.winner)
    if winner is None:
        return f"No verdict yet: {report.state}."
    if winner.error_code:
        return (
            f"No verdict: {called(winner, report)} was selected, but could not be scored again ({winner.error_code})."
        )
    if any("test" not in s.scores and not s.error_code for s in report.standings):
        return f"No verdict yet: {called(winner, report)} was selected, the test is not complete."
    if report.front:
        return front_verdict(winner, report.front, report)
    if is_rival(winner.id):
        return _found_nothing(winner, report)
    rival = best_rival(report)
    if rival is None:
        return f"No verdict: nothing could be scored in the test to set {called(winner, report)} against."
    return _against(called(winner, report), called(rival, report), report.difference(rival.id))


def best_rival(report: Report) -> Standing | None:
    """The best on test items of what the winner was compared with there."""
    rivals = [s for s in report.standings if is_rival(s.id) and report.difference(s.id)]
    return max(rivals, key=_test_mean, default=None)


def _test_mean(standing: Standing) -> float:
    mean = standing.mean("test")
    return mean.value if mean else -np.inf


def _against(winner: str, rival: str, d: Difference | None) -> str:
    assert d is not None, "a best rival is one with a difference"
    on = f"on {plural(d.n_items, 'test item')}"
    if d.mean.low > 0:
        return f"{capital(winner)} beats {rival} by {span(d.mean, '')} {on}."
    if d.mean.high < 0:
        return f"{capital(winner)} is worse than {rival}: {span(d.mean)} {on}."
    return f"No evidence that {winner} beats {rival}: {span(d.mean)} {on}."


def _found_nothing(winner: Standing, report: Report) -> str:
    """The winner is a reference or the control: it is set against the best that the search found, if anything."""
    nothing = f"The search found nothing better than {called(winner, report)}"
    found = next((s for s in report.standings if not is_rival(s.id) and report.difference(s.id)), None)
    d = report.difference(found.id) if found else None
    if found is None or d is None:
        return nothing + "."
    minus = f"{called(winner, report)} minus {called(found, report)} is {span(d.mean)} on {d.n_items} test items"
    if d.mean.high < 0:
        return (
            f"Selection chose {called(winner, report)} over the search's best, which does better in the test: {minus}."
        )
    return f"{nothing}: {minus}."


# ---------------------------------------------------------------- warnings


def warnings(report: Report) -> tuple[str, ...]:
    """Sentences, the gravest first; the tasks' own notes last."""
    kinds = (
        _infeasible,
        _no_difference,
        _control,
        _opened,
        _level,
        _misfits,
        _fallbacks,
        _few_items,
        _failed,
        _cut,
        _equal_parents,
    )
    return (*chain.from_iterable(kind(report) for kind in kinds), *report.notes)


def _infeasible(report: Report) -> list[str]:
    winner = report.standing(report.winner)
    if winner is None or not winner.broken:
        return []
    return ["No finalist keeps all constraints on selection items: the winner breaks them least."]


def _no_difference(report: Report) -> list[str]:
    rival = best_rival(report)
    d = report.difference(rival.id) if rival else None
    if report.front or rival is None or d is None or not d.mean.low <= 0 <= d.mean.high:
        return []
    return [f"The interval of winner minus {rival.label} includes zero: the test cannot tell them apart."]


def _control(report: Report) -> list[str]:
    control = next((s for s in report.standings if s.id.startswith("control:") and s.id != report.winner), None)
    d = report.difference(control.id) if control else None
    if report.front or control is None or d is None or d.mean.low > 0:
        return []
    return [f"{capital(control.label)} did as well as the winner ({span(d.mean)}): a cheap grid or draw was enough."]


def _opened(report: Report) -> list[str]:
    if report.opened < 2:
        return []
    return [
        f"The test items have been opened {report.opened} times by runs of this folder: what was decided in between "
        "was not blind to them."
    ]


def _level(report: Report) -> list[str]:
    level = report.level
    if level is None or level.alarm is None:
        return []
    return [
        f"The estimator's level was off by {number(level.difference, '+')} (standard error {number(level.stderr)}): "
        f"from batch {level.alarm} on, scores were estimated by post-stratified means instead."
    ]


def _misfits(report: Report) -> list[str]:
    n = report.fallbacks.get("misfit", 0)
    if not n:
        return []
    return [
        f"{plural(n, 'candidate')} answered far worse than any mixture of the parents would (a collapsed merge): "
        "estimated by plain weighted means, and nothing was learned from them."
    ]


#: What estimators had to do instead, and why.
FALLBACKS = {
    "few-models": "too few models answered the items to know what each asks: item parameters are a guess",
    "one-endpoint": "there is but one parent to mix: its ability was scaled",
    "unbounded": "scores without bounds: plain weighted means",
    "greg": "scores without bounds: estimated by regression on the parents' scores",
    "no-items": "some candidate has answered no item of a task: what the parents' scores say",
    "no-spread": "equal scores show no spread: the error is that of the parents' answers",
}


def _fallbacks(report: Report) -> list[str]:
    known = [(rule, n) for rule, n in report.fallbacks.items() if rule in FALLBACKS]
    return [f"Estimates of {plural(n, 'candidate')} fell back ({rule}): {FALLBACKS[rule]}." for rule, n in known]


def _few_items(report: Report) -> list[str]:
    few = [t for t in report.tasks if 0 < t.counts.get("test", FEW) < FEW]
    return [f"Task {t.name} has only {plural(t.counts['test'], 'test item')}{_visible(t, report)}." for t in few]


def _visible(task: TaskFacts, report: Report) -> str:
    """The smallest difference that two independent scores of that many items can show: two standard errors of it."""
    shown = report.standing(report.winner)
    estimate = shown.scores.get("test", {}).get(task.name) if shown else None
    if estimate is None or not np.isfinite(estimate.stderr) or estimate.stderr == 0:
        return ""
    least = 2 * np.sqrt(2) * estimate.stderr
    return f": unless scores agree item by item, differences below about {number(least)} are within its noise"


def _failed(report: Report) -> list[str]:
    if not report.failures:
        return []
    codes = ", ".join(f"{code}: {n}" for code, n in Counter(report.failures).most_common())
    total = sum(c.evaluations for c in report.costs)
    return [f"{sum(report.failures.values())} of {total} evaluations failed ({codes})."]


def _cut(report: Report) -> list[str]:
    if report.cut is None:
        return []
    n, m = report.cut
    of = f" of {m}" if m else ""
    return [f"The last batch was cut at {n}{of} and not learned from; a larger budget continues it."]


def _equal_parents(report: Report) -> list[str]:
    names: dict[str, list[str]] = {}
    for name, digest in {"base": report.base, **report.parents}.items():
        if digest:
            names.setdefault(digest, []).append(name)
    return [f"These are the same model: {', '.join(same)}." for same in names.values() if len(same) > 1]


def follow_on(report: Report) -> str:
    """What to do next."""
    if report.stop_reason == "failures":
        return "Read the tracebacks in events.jsonl, narrow the ranges or allow more failures, and use a new folder."
    if not report.finished:
        return "The same command again goes on from here; nothing paid is paid twice."
    return "The same command with a larger budget extends the search; nothing paid is paid twice."
