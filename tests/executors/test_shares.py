"""How a machine's GPUs and cores are shared out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from evomerge.errors import ConfigError
from evomerge.executors import shares as room
from evomerge.executors.shares import Share, shares


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Eight cores; four GPUs, of which the driver may use three."""
    monkeypatch.setattr(room, "cores", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2, GPU-abc")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)


def on(device, threads=None):
    return SimpleNamespace(device=torch.device(device), threads=threads)


def gpus(evaluator, workers=None, devices=None, each=1):
    return [share.gpus for share in shares(evaluator, workers, devices, each)[0]]


def test_every_visible_gpu_has_a_worker_that_sees_no_other():
    assert gpus(on("cuda")) == [("0",), ("2",), ("GPU-abc",)]
    assert shares(on("cuda", 2), 1, None, 2)[0][0].environment == {
        "CUDA_VISIBLE_DEVICES": "0,2",
        "OMP_NUM_THREADS": "2",
    }


def test_gpus_are_chosen_by_place_or_by_name():
    assert gpus(on("cuda"), devices=[2, 0]) == [("GPU-abc",), ("0",)]
    assert gpus(on("cuda"), devices=["GPU-abc"]) == [("GPU-abc",)]
    assert gpus(on("cuda:1")) == [("2",)]
    assert gpus(on("cuda:1"), devices=[0]) == [("0",)]


@pytest.mark.parametrize("devices", [[3], [-1], ["1"], [0, 9]])
def test_a_gpu_that_is_not_visible_is_refused(devices):
    with pytest.raises(ConfigError, match=r"executor.devices names .* visible here are \['0', '2', 'GPU-abc'\]"):
        shares(on("cuda"), None, devices, 1)


@pytest.mark.parametrize("workers, each, wanted", [(4, 1, 4), (2, 2, 4), (None, 5, 5)])
def test_more_gpus_than_present_are_refused_with_both_numbers(workers, each, wanted):
    with pytest.raises(ConfigError, match=f"want {wanted} GPUs, and 3 are to be had"):
        shares(on("cuda"), workers, None, each)


def test_a_gpu_named_on_the_cpu_is_refused():
    with pytest.raises(ConfigError, match=r"executor.devices is \[0\], and device=cpu uses none"):
        shares(on("cpu"), None, [0], 1)
    with pytest.raises(ConfigError, match=r"executor.gpus_per_worker is 2, and device=cpu uses none"):
        shares(on("cpu"), None, None, 2)


def test_cores_are_shared_by_the_drivers_number_of_threads():
    assert shares(on("cpu", 2), None, None, 1) == ([Share(2)] * 4, ())
    assert shares(on("cpu", 8), 1, None, 1) == ([Share(8)], ())
    assert shares(SimpleNamespace(), None, None, 1)[0] == [Share(torch.get_num_threads())] * (
        8 // torch.get_num_threads()
    )


def test_more_threads_than_cores_are_allowed_and_told():
    found, (note,) = shares(on("cpu", 3), 3, None, 1)
    assert found == [Share(3)] * 3
    assert "3 workers of 3 threads share 8 cores" in note


@pytest.mark.parametrize("threads", [5, 8, 16])
def test_that_threads_leave_room_for_but_one_worker_is_told(threads):
    (share,), (note,) = shares(on("cpu", threads), None, None, 1)
    assert share == Share(threads)
    assert note == f"one worker of {threads} threads on 8 cores: threads=1 makes 8 workers"


def test_one_worker_on_one_core_is_as_it_should_be(monkeypatch):
    monkeypatch.setattr(room, "cores", lambda: 1)
    assert shares(on("cpu", 1), None, None, 1) == ([Share(1)], ())
    assert shares(on("cpu", 2), None, None, 1) == ([Share(2)], ())


def test_the_cpu_keeps_what_is_visible():
    assert "CUDA_VISIBLE_DEVICES" not in Share(1).environment
