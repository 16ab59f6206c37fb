"""The finalists of a run: how each scored by split and task, and what sets the winner apart from its rivals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evomerge.estimators.mean import task_mean
from evomerge.reports.compare import differences, optimism
from evomerge.reports.nouns import SPLITS, Difference, Optimism, Standing, is_rival
from evomerge.reports.record import Record
from evomerge.rows import estimates_data, read_estimates
from evomerge.types import Estimate, Evaluation, ItemScores, Metric

SO_FAR = 3  # candidates shown of a search that has no finalists yet


def finalists(record: Record) -> list[Mapping[str, Any]]:
    """Id, digest and search estimate of the newest finalists; before a selection, of references and best so far."""
    selection = record.newest_stop("selection")
    if selection:
        return list(selection["finalists"])
    return [{"id": name, "digest": digest} for name, digest in record.references.items()] + _best_so_far(record)


def _best_so_far(record: Record) -> list[Mapping[str, Any]]:
    told = [one for c in record.commits for one in zip(c.results, c.goals, c.tasks, strict=True)]
    newest = {result.id: (result, found, tasks) for result, found, tasks in told if not result.error_code}
    good = sorted(newest.values(), key=lambda one: (one[0].violation, -np.mean(one[0].fitness)))
    digests = {e.id: e.recipe_digest for e in record.evaluations if e.phase == "search"}
    first: dict[str, Mapping[str, Any]] = {}
    for result, found, tasks in good:
        digest, estimates = digests[result.id], {"found": estimates_data(found), "tasks": estimates_data(tasks)}
        first.setdefault(digest, {"id": f"search:{result.id}", "digest": digest, **estimates})
    return list(first.values())[:SO_FAR]


def standing(
    finalist: Mapping[str, Any], metrics: Mapping[str, Metric], record: Record, goals: tuple[str, ...] = ()
) -> Standing:
    """How a finalist (its stop row's id, digest, found, tasks) scored; on search items, what was estimated."""
    ident, found, tasks = str(finalist["id"]), finalist.get("found"), finalist.get("tasks")
    scored = {split: e for split in SPLITS if (e := _scored(finalist, split, record))}
    scores = {split: _task_scores(e, metrics) for split, e in scored.items() if not e.error_code}
    if tasks:
        scores["search"] = dict(zip(metrics, read_estimates(tasks), strict=True))
    newest = list(scored.values())[-1:]
    return Standing(
        id=ident,
        label=label(ident, record),
        digest=finalist["digest"],
        found=Estimate(*found[0]) if found and len(found) == 1 else None,
        scores=scores,
        error_code=newest[0].error_code if newest else None,
        goals=goals,
        broken=(record.newest_stop("selection") or {}).get("violations", {}).get(ident, 0.0),
    )


def _scored(finalist: Mapping[str, Any], split: str, record: Record) -> Evaluation | None:
    ident, digest = str(finalist["id"]), finalist["digest"]
    if split != "search":
        return record.evaluation(split, ident, digest)
    return record.evaluation("references", ident, digest)  # on the whole bank; candidates are estimated


def _task_scores(evaluation: Evaluation, metrics: Mapping[str, Metric]) -> dict[str, Estimate]:
    scores = {s.task: s for s in evaluation.scores}
    return {task: task_mean(scores[task], metric) for task, metric in metrics.items() if task in scores}


def label(ident: str, record: Record) -> str:
    """A finalist's id in words."""
    kind, _, rest = ident.partition(":")
    words = {"average": "plain average", "mean": "optimizer mean", "parent": f"parent {rest}"}
    words |= {"control": f"control {rest} (best of {record.counts['control']})", "search": f"candidate {rest}"}
    words |= {"warm": f"warm start {rest}"}
    return words.get(kind, ident)


def all_differences(
    named: Sequence[Mapping[str, Any]],
    standings: Sequence[Standing],
    winner: str | None,
    metrics: Mapping[str, Metric],
    record: Record,
) -> list[Difference]:
    """Winner minus each rival, on test and on selection items."""
    if winner is None:
        return []
    rivals = [s.id for s in standings if is_rival(s.id) and s.id != winner] + _runner_up(standings, winner)
    splits = {split: _item_scores(named, split, record) for split in ("test", "selection")}
    goals = standings[0].goals
    return [d for split, scores in splits.items() for d in differences(split, scores, metrics, winner, rivals, goals)]


def _runner_up(standings: Sequence[Standing], winner: str) -> list[str]:
    """Where the winner is no find of the search: the search's best on selection items, to be set against it."""
    found = [(mean.value, s.id) for s in standings if not is_rival(s.id) and (mean := s.mean("selection"))]
    return [max(found)[1]] if found and is_rival(winner) else []


def _item_scores(named: Sequence[Mapping[str, Any]], split: str, record: Record) -> dict[str, dict[str, ItemScores]]:
    scored = {str(f["id"]): _scored(f, split, record) for f in named}
    return {ident: {s.task: s for s in e.scores} for ident, e in scored.items() if e and not e.error_code}


def winners_curse(standings: Sequence[Standing], winner: str | None) -> Optimism | None:
    """How far the search overrated the winner; None without one."""
    chosen = next((s for s in standings if s.id == winner), None)
    fixed = [s for s in standings if is_rival(s.id) and not s.id.startswith(("control:", "warm:"))]
    return optimism(chosen, fixed) if chosen else None
