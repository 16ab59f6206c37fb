"""A machine's devices dealt out: how many a worker needs, and how many workers that leaves."""

from __future__ import annotations

from dataclasses import replace

from evomerge.memory.plan import Job, Machine, Plan, plan


def fewest_devices(found: Plan) -> Plan:
    """The plan with each worker's model on one device if it fits there, else as it is."""
    alone = plan(found.job, replace(found.machine, devices=1))
    return alone if alone.placement is not None else found


def best_crew(job: Job, machine: Machine) -> Plan:
    """The machine's devices dealt out to as many workers as fit, if possible without reading parents from the disk.

    A model in pieces is computed piece after piece, so more workers are faster, even where each copies its parents
    from the host: bringing them takes a fraction of scoring. Mapped files lie on the host once for all workers, where
    pinned copies for each may not fit.
    """
    n = machine.devices
    sizes = [k for k in range(1, n + 1) if n % k == 0]
    plans = [plan(job, replace(machine, devices=k, workers=n // k)) for k in sizes]
    near = [p for p in plans if p.placement and (p.placement != "disk" or p.at_hand)]
    fitting = [p for p in plans if p.placement is not None]
    return (near or fitting or plans[-1:])[0]
