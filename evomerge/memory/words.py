"""The memory of a search in words: does it fit, where do the parents lie, and which settings would do better."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeAlias

from evomerge.errors import ConfigError
from evomerge.memory.plan import Job, Load, Machine, Plan, plan, usable
from evomerge.models.residency import Placement

#: Settings in words, and the job and machine that they make.
Way: TypeAlias = tuple[str, Job, Machine]
RANKS: tuple[Placement | None, ...] = (None, "disk", "host", "device")
WHERE = {
    "device": "all parents stay on the device",
    "host": "parents stay in the host's memory and are copied over piece by piece for every candidate",
    "disk": "parents are read from disk piece by piece for every candidate, which is slow",
    None: "it does not fit",
}
MOST = 8  # devices in one machine: no more are suggested
SHORTEST = 64  # tokens: no max_length below this is suggested


def check(found: Plan) -> None:
    """Raises ConfigError, with the numbers and the way out, if the search fits nowhere."""
    if found.placement is not None:
        return
    machine = found.machine
    if found.loading > usable(machine.host):
        fewer = "fewer workers, " if machine.workers > 1 else ""
        raise ConfigError(
            f"the live model takes {gb(found.live)} of host memory while it is loaded{_in_all(found)}, and "
            f"{gb(machine.host)} are free. Use {fewer}dtype=bfloat16, a machine with more memory, or a smaller model."
        )
    anywhere = plan(replace(found.job, residency=None), machine)
    if anywhere.placement is not None:
        raise ConfigError(_residency_words(found))
    if machine.engine:
        raise ConfigError(_engine_words(found))
    remedies = ways_out(anywhere)
    advice = f"Set {', or '.join(remedies)}." if remedies else "Use a larger device or a smaller model."
    raise ConfigError(
        f"{gb(machine.device)} are free on {device_words(machine)} ({gb(usable(machine.device))} after a reserve) and "
        f"the search needs {gb(found.streamed_peak)}{_crew(machine)}: {gb(found.share(found.live))} for the live "
        f"model, {gb(found.evaluator)} for scoring {load_words(found.job.load)}, "
        f"{gb(found.building + found.buffers)} while building{_learned(found)}. {advice}"
    )


def _learned(found: Plan) -> str:
    """Nothing to say of little."""
    return f", {gb(found.learned)} for what the method learns of the parents" if found.job.keeps else ""


def _residency_words(found: Plan) -> str:
    """The parents do not fit where they are to lie, but would elsewhere."""
    job, machine = found.job, found.machine
    each = f" for each of {machine.workers} workers" if machine.workers > 1 else ""
    needs = f"the parents take {gb(found.parents)}{each}, and {gb(machine.host)} are free there"
    if machine.unified or job.residency == "device":
        needs = (
            f"the search needs {gb(found.resident_peak)}{_crew(machine)} with all parents on {device_words(machine)}, "
            f"and {gb(machine.device)} are free"
        )
    return f"merge.residency={job.residency} cannot be: {needs}. Set {', or '.join(ways_out(found))}."


def _engine_words(found: Plan) -> str:
    machine, needed = found.machine, found.streamed_peak - found.machine.reserved
    more = found.outgrows_engine
    return (
        f"backend.gpu_memory_utilization={machine.engine:g} leaves the engine {gb(machine.reserved)} of "
        f"{device_words(machine)} for a live model of {gb(found.share(found.live))}, and building "
        f"{gb(machine.room - machine.reserved)} where it needs {gb(needed)}. {'Raise' if more else 'Lower'} it, or set "
        f"backend.tensor_parallel={2 * machine.devices}, or give fewer parents."
    )


def _in_all(found: Plan) -> str:
    return f", {gb(found.loading)} with all {found.machine.workers} workers" if found.machine.workers > 1 else ""


def _crew(machine: Machine) -> str:
    """Whose peak is told: where memory is one, that of all workers together."""
    return f" for {machine.workers} workers, each" if machine.unified and machine.workers > 1 else ""


def ways_out(found: Plan) -> list[str]:
    """Settings under which the search fits, or its parents come nearer to the device; at most one of a kind."""
    job, machine = found.job, found.machine
    kinds: list[list[Way]] = [
        [(words, other, machine) for words, other in kind]
        for kind in (_residencies(job), _batches(job), _lengths(job), _dtypes(job), _parents(job))
    ]
    kinds.append(list(_machines(machine, job)))
    firsts = (next((way[0] for way in kind if _helps(way, found)), None) for kind in kinds)
    return [words for words in firsts if words]


def _helps(way: Way, found: Plan) -> bool:
    _, job, machine = way
    return RANKS.index(plan(job, machine).placement) > RANKS.index(found.placement)


def _machines(machine: Machine, job: Job) -> Iterator[Way]:
    """Fewer workers on one memory, or a worker's model over more devices of the same size."""
    if machine.engine:
        return  # no setting of these is the engine's
    if machine.unified:
        for n in _halves(machine.workers):
            yield f"executor.workers={n}", job, replace(machine, workers=n)
        return
    for n in range(machine.devices + 1, MOST + 1):
        yield f"backend.device_map=balanced over {n} devices", job, replace(machine, devices=n)


def _residencies(job: Job) -> Iterator[tuple[str, Job]]:
    if job.residency is not None:
        yield "merge.residency=auto", replace(job, residency=None)


def _batches(job: Job) -> Iterator[tuple[str, Job]]:
    for size in _halves(job.load.batch_size):
        yield f"backend.batch_size={size}", replace(job, load=replace(job.load, batch_size=size))


def _lengths(job: Job) -> Iterator[tuple[str, Job]]:
    for n in _halves(max(job.load.scored, job.load.generated)):
        if n >= SHORTEST:
            shorter = replace(job.load, scored=min(n, job.load.scored), generated=min(n, job.load.generated))
            yield f"backend.max_length={n}", replace(job, load=shorter)


def _dtypes(job: Job) -> Iterator[tuple[str, Job]]:
    if job.live_itemsize > 2:
        half = replace(job, live_itemsize=2)
        yield "dtype=bfloat16", half
        yield from ((f"dtype=bfloat16 with {words}", smaller) for words, smaller in _batches(half))


def _parents(job: Job) -> Iterator[tuple[str, Job]]:
    """Fewer parents, the first ones; the base stays."""
    bases = len(job.checkpoints) + len(job.adapters) - job.n_parents
    for n in range(job.n_parents - 1, 1, -1):
        adapters = job.adapters[:n]
        kept = job.checkpoints[: bases + n - len(adapters)]
        yield f"parents.models to {n} parents", replace(job, n_parents=n, checkpoints=kept, adapters=adapters)


def _halves(n: int) -> list[int]:
    return [n >> k for k in range(1, n.bit_length())]


# ---------------------------------------------------------------- in words


def sentence(found: Plan) -> str:
    """Where the parents lie, with the peak; for a search that fits."""
    whose = f" of all {found.machine.workers} workers" if found.machine.unified and found.machine.workers > 1 else ""
    peak = f"{gb(found.peak)} of {gb(found.machine.device)} free{_where(found.machine)}"
    return f"{where(found)}; peak{whose} {peak}"


def where(found: Plan) -> str:
    """Where the parents lie; files that the host's memory can hold are read from there after the first time."""
    if found.placement == "disk" and found.at_hand and not found.machine.unified:
        return "parents are copied over piece by piece for every candidate from files that the host's memory can hold"
    return WHERE[found.placement]


def _where(machine: Machine) -> str:
    """Nothing to say of one worker on one device."""
    each = f" on each of its {machine.devices} devices" if machine.devices > 1 else ""
    if machine.workers == 1 or machine.unified:
        return each
    return f"{each or ' on its device'}, for each of {machine.workers} workers"


def device_words(machine: Machine) -> str:
    return "the device" if machine.devices == 1 else f"each of {machine.devices} devices"


def load_words(load: Load) -> str:
    return f"{load.batch_size} requests of up to {max(load.scored, load.generated)} tokens at once"


def gb(size: int) -> str:
    """Bytes as people read them: 15.2 GB, 310 MB, 6 kB."""
    for unit, name, digits in ((10**9, "GB", 1), (10**6, "MB", 1 if size < 10**7 else 0)):
        if size >= unit:
            return f"{size / unit:.{digits}f} {name}"
    return f"{size / 1e3:.0f} kB"
