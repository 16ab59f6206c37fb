"""What the doctor found as grids of words, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from evomerge.doctor import timing
from evomerge.doctor.checks import Examination
from evomerge.doctor.findings import Finding
from evomerge.doctor.profiles import largest_batch
from evomerge.memory.plan import Machine, Plan
from evomerge.memory.words import gb, load_words, ways_out, where
from evomerge.reports.grids import Grid


def line(finding: Finding) -> str:
    return f"{finding.level:<8} {finding.topic:<10} {finding.text}"


def memory_grid(plans: Mapping[str, Plan], title: str) -> Grid:
    """One column for each plan, all that is held at once in the rows."""
    rows: dict[str, list[str]] = {}
    for found in plans.values():
        for name, cell in (_crew(found.machine) | _cells(found)).items():
            rows.setdefault(name, []).append(cell)
    alone = (
        {"workers on the machine", "devices of a worker"} if all(_alone(p.machine) for p in plans.values()) else set()
    )
    rows = {name: cells for name, cells in rows.items() if name not in alone}
    return Grid(title, ("", *plans), tuple((name, *cells) for name, cells in rows.items()))


def _alone(machine: Machine) -> bool:
    return machine.workers == machine.devices == 1


def _crew(machine: Machine) -> dict[str, str]:
    return {"workers on the machine": str(machine.workers), "devices of a worker": str(machine.devices)}


def _cells(found: Plan) -> dict[str, str]:
    return {
        "parents at rest": gb(found.parents),
        "live model": gb(found.live),
        f"scoring {load_words(found.job.load)}": gb(found.evaluator),
        "learned of the parents": gb(found.learned + found.tables),
        "building, parents on the device": gb(found.building),
        "building, pieces copied there": gb(found.building + found.buffers),
        "free on the device": gb(found.machine.device),
        "needed with parents on the device": gb(found.resident_peak),
        "needed with pieces copied there": gb(found.streamed_peak),
        "free on the host": gb(found.machine.host),
        "parents lie": found.placement or "nowhere: it does not fit",
    }


def profile_lines(plans: Mapping[str, Plan], profile: str) -> list[str]:
    """The verdict for each model in a sentence."""
    return [f"{name} on {profile}: {_verdict(found)}" for name, found in plans.items()]


def _verdict(found: Plan) -> str:
    if found.placement is not None:
        return f"{crew_words(found)}{where(found)}."
    smaller = largest_batch(found)
    if smaller.placement is not None:
        size = smaller.job.load.batch_size
        return f"fits with backend.batch_size={size}: {crew_words(smaller)}{where(smaller)}."
    return "does not fit: use a larger device or a smaller model."


def crew_words(found: Plan) -> str:
    """How many workers on how many devices each; nothing for one worker on one."""
    workers, devices = found.machine.workers, found.machine.devices
    if workers == devices == 1:
        return ""
    each = "a device" if devices == 1 else f"{devices} devices (backend.device_map=balanced)"
    return f"{workers} worker{'s' if workers > 1 else ''} of {each}{' each' if workers > 1 else ''}, "


def time_grid(found: timing.Estimate) -> Grid:
    rows = [("loading", f"{found.loading:.1f}", f"{found.loading:.1f}")]
    rows += [(name, f"{s.low:.1f}", f"{s.high:.1f}") for name, s in found.phases.items()]
    rows += [("in all", f"{found.total.low:.1f}", f"{found.total.high:.1f}")]
    return Grid("Seconds by phase", ("phase", "from", "to"), tuple(rows))


# ---------------------------------------------------------------- JSON


def as_json(found: Examination) -> dict[str, Any]:
    """Plain data; `works` is whether a search would start and fit."""
    return {
        "works": found.findings.works,
        "findings": [asdict(f) for f in found.findings.all],
        "memory": plan_data(found.memory) if found.memory else None,
        "seconds": asdict(found.estimate) if found.estimate else None,
    }


def plan_data(found: Plan) -> dict[str, Any]:
    return {
        **asdict(found),
        "resident_peak": found.resident_peak,
        "streamed_peak": found.streamed_peak,
        "placement": found.placement,
        "ways_out": ways_out(found),
    }
