"""Numbers and finalists in words, the same in every form of a report."""

from __future__ import annotations

from evomerge.reports.nouns import Interval, Report, Standing
from evomerge.types import Estimate


def number(value: float | None, sign: str = "") -> str:
    """Three decimals, or one digit of what is smaller; `sign` "+" shows that of positive numbers too."""
    if value is None:
        return "-"
    return f"{value:{sign}.3f}" if value == 0 or abs(value) >= 0.0005 else f"{value:{sign}.0e}"


def with_error(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{number(estimate.value)} ± {number(estimate.stderr)}"


def span(interval: Interval, sign: str = "+") -> str:
    return f"{number(interval.value, sign)} [{number(interval.low)}, {number(interval.high)}]"


def plural(n: int, noun: str, many: str = "") -> str:
    return f"{n} {noun if n == 1 else many or noun + 's'}"


def called(standing: Standing, report: Report) -> str:
    """A finalist in a sentence: "the best parent (trec)", "the plain average", "candidate 57"."""
    kind, _, name = standing.id.partition(":")
    if kind == "parent":
        return f"the best parent ({name})" if _is_best_parent(standing, report) else f"the parent {name}"
    return standing.label if kind in ("search", "control") else f"the {standing.label}"


def _is_best_parent(standing: Standing, report: Report) -> bool:
    parents = [s for s in report.standings if s.id.startswith("parent:")]
    tested = {s.id: mean.value for s in parents if (mean := s.mean("test"))}
    return len(tested) > 1 and max(tested, key=lambda ident: tested[ident]) == standing.id


def capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def headline(report: Report) -> list[str]:
    """What was run, and where it stands."""
    models = [*(["base"] if report.base else []), *report.parents]
    settings = ", ".join(f"{key} {value}" for key, value in report.settings.items())
    facts = [f"models: {', '.join(models)}" if models else "", settings]
    return [
        f"{report.folder}: {report.state}.",
        *([capital("; ".join(filter(None, facts))) + "."] if any(facts) else []),
    ]
