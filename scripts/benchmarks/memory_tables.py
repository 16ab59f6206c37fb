"""What a search of 7B to 70B holds and what a candidate costs: from shapes, counted traffic and assumed rates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from evomerge.doctor.profiles import BATCH, TOKENS, largest_batch, machine, typical
from evomerge.memory.crews import best_crew
from evomerge.memory.plan import Plan

MODELS = ("7B", "8B", "14B", "32B", "70B")
PARENTS = (2, 4, 8, 16)
PROFILES = ("24gb", "80gb", "8x80gb")
ITEMS = 500  # of a candidate, each of TOKENS tokens


@dataclass(frozen=True)
class Rates:
    """Bytes and operations a second, assumed: what such machines reach of their data sheets.

    host: from the host's memory to one device. hosts: to all devices together. disk: one for all workers.
    """

    device: float
    host: float
    hosts: float
    disk: float
    flops: float


#: RTX 4090 and H100 SXM: 70% of the memory's 1.0 and 3.35 TB/s, a pageable copy over PCIe 4 and 5, one NVMe drive,
#: and 40% of 165 and 990 dense bfloat16 TFLOP/s. A pageable copy goes through the host's memory three times, and two
#: sockets of eight DDR5 channels each give some 300 GB/s.
RATES = {
    "24gb": Rates(0.7e12, 10e9, 10e9, 3e9, 66e12),
    "80gb": Rates(2.3e12, 20e9, 20e9, 3e9, 400e12),
    "8x80gb": Rates(2.3e12, 20e9, 100e9, 3e9, 400e12),
}


@dataclass(frozen=True)
class Cost:
    """Seconds of one candidate on one worker, and of all workers together a minute."""

    building: float  # through the device's memory
    bringing: float  # parents' tensors from host or disk
    scoring: float
    a_minute: float


def plans() -> Iterator[tuple[str, int, str, Plan]]:
    """(model, parents, profile, plan with the devices dealt out and the batch as large as fits)."""
    for profile in PROFILES:
        for model in MODELS:
            for n in PARENTS:
                yield model, n, profile, largest_batch(best_crew(typical(model, n), machine(profile)))


def cost(found: Plan, rates: Rates, per_entry: float) -> Cost:
    """per_entry: bytes that the method moves for an entry of the model, at this number of parents.

    A model in pieces is built and run piece after piece, so several devices of one worker make it no faster. Workers
    share what the host and its disk bring, as if all brought at the same time.
    """
    workers = found.machine.workers
    moved = per_entry * found.job.shape.parameters
    shared = {"device": None, "host": min(rates.host, rates.hosts / workers), "disk": rates.disk / workers}
    away = shared["host" if found.placement == "disk" and found.at_hand else str(found.placement)]
    building = moved / rates.device
    bringing = found.parents / away if away else 0.0
    scoring = 2 * found.job.shape.parameters * ITEMS * TOKENS / rates.flops
    return Cost(building, bringing, scoring, 60 * workers / (building + bringing + scoring))


# ---------------------------------------------------------------- as Markdown


def table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [titles, tuple("---" for _ in titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rates_table() -> str:
    titles = ("machine", "device, GB/s", "host to one device", "host to all devices", "disk for all", "TFLOP/s")
    lines = []
    for name, r in RATES.items():
        figures = [f"{rate / 1e9:.0f}" for rate in (r.device, r.host, r.hosts, r.disk)]
        lines.append((name, *figures, f"{r.flops / 1e12:.0f}"))
    return table(titles, lines)


def memory_table(profile: str) -> str:
    """One line for a model, a cell for each number of parents: where they lie, and what the fullest device holds."""
    rows: dict[str, list[str]] = {}
    for model, _, name, found in plans():
        if name == profile:
            rows.setdefault(model, []).append(_cell(found))
    titles = ("model", *(f"{n} parents and base" for n in PARENTS))
    return table(titles, [(model, *cells) for model, cells in rows.items()])


def _cell(found: Plan) -> str:
    if found.placement is None:
        return "does not fit"
    size = found.job.load.batch_size
    batch = "" if size == BATCH else f", batch {size}"
    there = found.machine
    crew = "" if there.workers == there.devices == 1 else f", {there.workers} x {there.devices}"
    return f"{found.placement}, {found.peak / 1e9:.0f} GB{crew}{batch}"


def time_table(profile: str, n_parents: int, per_entry: Mapping[tuple[str, int], float]) -> str:
    """One line for a model: seconds of its parts by method, and candidates a minute of the whole machine."""
    rows = []
    for model, n, name, found in plans():
        if (n, name) != (n_parents, profile) or found.placement is None:
            continue
        for method in dict.fromkeys(m for m, _ in per_entry):
            c = cost(found, RATES[profile], per_entry[method, n])
            figures = (f"{c.building:.2f}", f"{c.bringing:.1f}", f"{c.scoring:.1f}", f"{c.a_minute:.1f}")
            rows.append((model, method, str(found.placement), *figures))
    titles = ("model", "method", "parents lie", "build, s", "bring, s", "score, s", "candidates a minute")
    return table(titles, rows)
