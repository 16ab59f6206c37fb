"""The checks of `evomerge doctor` in order, cheap to dear: each says what it found, and the next goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge import ingredients, preparation
from evomerge.config import plain
from evomerge.doctor import device, parents, splits, timing
from evomerge.doctor.findings import Findings, note, ok
from evomerge.memory import words as memory
from evomerge.memory.crews import best_crew, fewest_devices
from evomerge.memory.plan import Machine
from evomerge.memory.plan import Plan as MemoryPlan
from evomerge.memory.planning import (
    beside_engine,
    dearest,
    devices_given,
    devices_of,
    plan_search,
    spreads_by_plan,
    tokenizer_of,
    workers_here,
)
from evomerge.memory.prompts import Asked, ask_all
from evomerge.models.blank import pick_device
from evomerge.spaces.references import references
from evomerge.types import Recipe


@dataclass
class Examination:
    """What the checks found out: each may be missing where an earlier one failed."""

    findings: Findings
    prepared: preparation.Prepared | None = None
    family: Any = None
    tasks: tuple[Any, ...] = ()
    asked: Mapping[str, Asked] | None = None
    memory: MemoryPlan | None = None
    workers: int = 1
    estimate: timing.Estimate | None = None


def examine(
    cfg: Any,
    *,
    machine: Machine | None = None,
    quick: bool = False,
    findings: Findings | None = None,
    tell: timing.Tell = lambda what: None,
) -> Examination:
    """All checks. machine: the one to plan memory for, else this one; quick: leave out the measured run.

    Findings are made as the checks go; `tell` is called with what is being done where that takes a while.
    """
    found = Examination(findings or Findings())
    if not _download(cfg, found.findings):
        return found
    _prepare(cfg, found)
    device.check(cfg, found.findings)
    if found.prepared is not None and machine is None:
        _executor(cfg, found)
    if found.family is not None:
        _parents(found)
    if found.prepared is not None:
        _space(found.prepared, found.findings)
    if found.tasks:
        _splits(found)
    if found.family is not None and found.tasks:
        _memory(cfg, machine, found)
    if found.prepared is not None:
        found.prepared.plan.executor.close()  # a cluster may have been started to be looked at
    if not quick and found.prepared is not None and found.findings.works and found.asked is not None:
        _time(found, tell)
    return found


def _download(cfg: Any, findings: Findings) -> bool:
    """Whether all parents are on this machine: nothing is downloaded here."""
    names = [n for n in (plain(cfg.parents.base), *(plain(cfg.parents.models) or [])) if n]
    missing = parents.absent(list(map(str, names)))
    for name in missing:
        findings.say(parents.download(name))
    return not missing


def _prepare(cfg: Any, found: Examination) -> None:
    """Everything a search makes before it starts; if that fails, parents and tasks each by themselves."""
    findings = found.findings
    with findings.of("settings"):
        found.prepared = preparation.prepare(cfg, Path(str(cfg.run)))
        found.family, found.tasks = found.prepared.plan.evaluator.family, found.prepared.plan.evaluator.tasks
        findings.say(ok("settings", "a search can be made of them"))
        return
    with findings.of("parents"):
        found.family = ingredients.open_parents(cfg)
    with findings.of("tasks"):
        found.tasks = ingredients.load_tasks(cfg)


def _executor(cfg: Any, found: Examination) -> None:
    """Where candidates are evaluated, and how many at a time."""
    assert found.prepared is not None
    found.workers = found.prepared.plan.executor.workers  # known: the executor was checked with the settings
    each = devices_of(found.prepared.plan.evaluator.backend, devices_given(plain(cfg.executor)))
    on = f", {each:g} devices each" if each != 1 else ""
    plural = "s" if found.workers > 1 else ""
    found.findings.say(ok("executor", f"{executor_name(cfg)}, {found.workers} worker{plural}{on}"))


def executor_name(cfg: Any) -> str:
    return str(cfg.executor["_target_"]).split(".")[-2]


def _parents(found: Examination) -> None:
    for finding in parents.identities(found.family):
        found.findings.say(finding)
    found.findings.say(parents.vocabularies(found.family))


def _space(prepared: preparation.Prepared, findings: Findings) -> None:
    """Variables against the budget, and what the report of the run would remark."""
    budget = prepared.plan.budget
    limits = {"evaluations": budget.evaluations, "items": budget.items, "seconds": budget.seconds}
    told = ", ".join(f"{value:g} {name}" for name, value in limits.items() if value is not None)
    findings.say(ok("space", f"{prepared.plan.space.size} variables, a budget of {told}"))
    for advice in prepared.advice:
        findings.say(note("space", advice))
    of_tasks = {told for task in prepared.plan.evaluator.tasks for told in task.notes}  # told with their items
    for remark in prepared.notes:
        if remark not in of_tasks:
            findings.say(note("run", remark))


# ---------------------------------------------------------------- items


def _splits(found: Examination) -> None:
    """What the items can show, then what the tasks say of their own splits."""
    findings, metrics = found.findings, {t.name: t.metric for t in found.tasks}
    items = found.prepared.plan.items if found.prepared else _all_splits(found.tasks)
    for power in splits.powers(items, metrics):
        weak = power.n < splits.FEW
        if power.split == "test" or weak:
            more = f"; more than {splits.FEW} would be better" if weak else ""
            findings.say((note if weak else ok)("items", splits.sentence(power, metrics[power.task]) + more))
    plain_tasks = {t: len(ids) for t, ids in items["test"].items() if metrics[t].kind != "pairs"}
    if len(plain_tasks) > 1:
        findings.say(ok("items", splits.mean_sentence(plain_tasks, "test")))
    for task in found.tasks:
        for told in task.notes:
            findings.say(note("items", told))


def _all_splits(tasks: tuple[Any, ...]) -> dict[str, dict[str, tuple[str, ...]]]:
    return {split: {t.name: t.items[split] for t in tasks} for split in ("search", "selection", "test")}


# ---------------------------------------------------------------- memory and time


def _memory(cfg: Any, machine: Machine | None, found: Examination) -> None:
    findings = found.findings
    if found.prepared is not None and getattr(found.prepared.plan.evaluator.backend, "remote", False):
        with findings.of("memory"):
            found.asked = ask_all(found.tasks, tokenizer_of(found.family))
            findings.say(ok("memory", "the model lies on a server: nothing of it is held here"))
        return
    with findings.of("memory"):
        found.memory = memory_plan(cfg, found, machine)
        memory.check(found.memory)
        best = found.memory.placement == "device"
        ways = [] if best else memory.ways_out(found.memory)
        remedy = f". Better with {', or '.join(ways)}" if ways else ""
        findings.say((ok if best else note)("memory", memory.sentence(found.memory) + remedy))
    if found.memory is not None:
        findings.say(parents.disk(Path(str(cfg.run)), found.memory.live))


def memory_plan(cfg: Any, found: Examination, machine: Machine | None) -> MemoryPlan:
    """The plan of this search, its prompts measured. Raises EvomergeError if there is no tokenizer or device."""
    dtype = found.family.pool().dtype if cfg.dtype == "auto" else cfg.dtype
    backend = found.prepared.plan.evaluator.backend if found.prepared else None
    planned, found.asked = plan_search(
        found.family,
        found.tasks,
        _sample(found, dtype),
        machine or pick_device(cfg.device),
        dtype=dtype,
        batch_size=cfg.backend.batch_size,
        max_length=cfg.backend.get("max_length"),
        workers=machine.workers if machine else workers_here(plain(cfg.executor), found.workers),
        devices=machine.devices if machine else devices_of(backend, devices_given(plain(cfg.executor))),
        residency=ingredients.residency_of(cfg),
    )
    planned = beside_engine(planned, backend)
    if machine is not None:
        return best_crew(planned.job, planned.machine)
    return fewest_devices(planned) if spreads_by_plan(backend) else planned


def _sample(found: Examination, dtype: str) -> Recipe:
    """Any candidate: it names the methods in use. Where no space could be made, the plain average."""
    if found.prepared is not None:
        return dearest(found.prepared.plan.space)
    return references(found.family.pool(), seed=0, dtype=dtype)["average"]


def _time(found: Examination, tell: timing.Tell) -> None:
    assert found.prepared is not None and found.asked is not None
    with found.findings.of("time"):
        e = timing.measure(found.prepared.plan, found.asked, tell, workers=found.workers)
        found.estimate = e
        who = f"{e.workers} workers, if each is as fast as one alone and none waits" if e.workers > 1 else "one worker"
        found.findings.say(
            ok(
                "time",
                f"about {timing.human(e.total)} for the whole run on {who}: {timing.human(e.candidate)} a "
                f"candidate, {timing.human(e.merge)} of them for the merge",
            )
        )
