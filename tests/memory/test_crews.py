"""Devices dealt out to workers: as few each as will do."""

from __future__ import annotations

from evomerge.memory.crews import best_crew, fewest_devices
from evomerge.memory.plan import Machine, plan
from tests.memory.test_plan import GB, JOB


def test_a_search_goes_to_one_device_if_it_fits_there():
    roomy, tight = (plan(JOB, Machine(n * GB, 512 * GB, devices=4)) for n in (80, 18))
    assert fewest_devices(roomy).machine.devices == 1
    assert tight.placement is not None and fewest_devices(tight) is tight


def test_devices_are_dealt_out_to_as_many_workers_as_fit():
    crews = [best_crew(JOB, Machine(n * GB, 999 * GB, devices=8)).machine for n in (80, 18, 12)]
    assert [(m.workers, m.devices) for m in crews] == [(8, 1), (4, 2), (2, 4)]
    assert all(m.workers * m.devices == 8 for m in crews)
    assert best_crew(JOB, Machine(GB, 999 * GB, devices=8)).placement is None
