"""What the events of a run tell about its workers: when each candidate was served, and what lay between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean, median
from typing import Any

PHASE = "search"


@dataclass(frozen=True)
class Served:
    """A candidate that was answered: the driver's times of sending it out and of its last answer, the worker's seconds.

    waited: seconds between the two that were spent behind an earlier candidate of the same worker.
    """

    id: int
    worker: str
    began: float
    ended: float
    seconds: float
    waited: float = 0.0

    @property
    def overhead(self) -> float:
        """Seconds that the executor took beside evaluating."""
        return self.ended - self.began - self.waited - self.seconds


def served(events: Sequence[Mapping[str, Any]], own: Mapping[int, float] | None = None) -> list[Served]:
    """The candidates of the search, by the time of their last answer; attempts that came to nothing are left out.

    own: seconds by the worker's own clock, for candidates where they are known; else as the driver saw them.
    """
    sent: dict[int, Mapping[str, Any]] = {}
    found: dict[int, Served] = {}
    for event in (e for e in events if e.get("phase") == PHASE and "id" in e):
        ident = event["id"]
        if event["event"] == "attempt":
            sent[ident] = event
        elif event["event"] == "done" and ident in sent:
            earlier = found.pop(ident).seconds if ident in found else 0.0  # rungs of a race
            worker = str(event.get("worker", sent[ident].get("worker", 0)))
            found[ident] = Served(ident, worker, sent[ident]["time"], event["time"], earlier + event["seconds"])
    clocked = [replace(s, seconds=(own or {}).get(s.id, s.seconds)) for s in found.values()]
    return _behind(sorted(clocked, key=lambda s: s.ended))


def _behind(found: Sequence[Served]) -> list[Served]:
    last: dict[str, float] = {}
    told = []
    for s in found:
        waited = max(0.0, last.get(s.worker, s.began) - s.began)
        told.append(replace(s, waited=waited))
        last[s.worker] = s.ended
    return told


@dataclass(frozen=True)
class Figures:
    """Of one run's search, from the first candidate sent out to the last that came back."""

    candidates: int
    candidates_per_minute: float
    idle_share: float
    overhead_ms: float


def figures(found: Sequence[Served], workers: int) -> Figures:
    """overhead_ms: median of a candidate."""
    wall = max(s.ended for s in found) - min(s.began for s in found)
    return Figures(
        candidates=len(found),
        candidates_per_minute=60 * len(found) / wall,
        idle_share=1 - sum(s.seconds for s in found) / (workers * wall),
        overhead_ms=1000 * median(s.overhead for s in found),
    )


def driver_seconds(found: Sequence[Served], step: int) -> tuple[float, float]:
    """What the driver takes for one result and for one tell, in a run of one worker that tells `step` at once.

    Between two candidates there is one result; where a batch ended, all its tells too. With step 1 they cannot be told
    apart: then both are the result's.
    """
    gaps = {b.id: b.began - a.ended for a, b in pairwise(found)}
    within = [g for ident, g in gaps.items() if ident % step]
    between = [g for ident, g in gaps.items() if ident % step == 0]
    if not within or not between:
        return fmean(gaps.values()) if gaps else 0.0, 0.0
    result = median(within)
    return result, max(0.0, median(between) - result) / step
