"""Steps of the self-test that need no model: the device, its speed, the masks and the methods on it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import psutil
import torch

from evomerge.doctor.timing import synchronize
from evomerge.methods import METHODS
from evomerge.methods.masks import Region, entire, mask_key
from evomerge.types import Method

SHAPE = (96, 257)  # odd, so that no slice is a neat power of two
CUTS = (1, 17, 95)  # rows at which tensors are cut
#: Largest difference of a method's result between devices, for values of about 1 in float32.
TOLERANCE = 1e-5
COPIED = {"cpu": 2**27, "cuda": 2**30, "mps": 2**28}  # bytes of the buffer that is copied to time the memory


class StepFailed(Exception):
    """A step did not find what it must; `figures` are what it did find."""

    def __init__(self, reason: str, figures: dict[str, Any]) -> None:
        super().__init__(reason)
        self.figures = figures


def device_facts(device: torch.device) -> dict[str, Any]:
    """What the machine is, and how fast its memory copies: bytes read and written by the second."""
    facts: dict[str, Any] = {"device": str(device), "torch": torch.__version__, "threads": torch.get_num_threads()}
    if device.type == "cuda":
        known = torch.cuda.get_device_properties(device)
        facts |= {"name": known.name, "bytes": known.total_memory, "capability": f"{known.major}.{known.minor}"}
    return {**facts, "host_bytes": psutil.virtual_memory().total, "bytes_per_second": bandwidth(device)}


def bandwidth(device: torch.device, repeats: int = 5) -> float:
    """Bytes per second of the fastest of some copies, those read and those written both counted."""
    source = torch.ones(COPIED[device.type] // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    fastest = float("inf")
    for _ in range(repeats + 1):  # the first touches fresh memory; it is never the fastest
        synchronize(device)
        began = time.perf_counter()
        target.copy_(source)
        synchronize(device)
        fastest = min(fastest, time.perf_counter() - began)
    return 2 * source.nbytes / fastest


# ---------------------------------------------------------------- masks and methods


def masks(device: torch.device) -> dict[str, Any]:
    """The random numbers of a place are the same on the CPU and on the device."""
    keys = tuple(mask_key(7, parent, "layer.weight") for parent in "abc")
    here, there = (Region(SHAPE, entire(SHAPE), keys, d).uniforms().cpu() for d in (torch.device("cpu"), device))
    figures = {"numbers": here.numel(), "unequal": int((here != there).sum())}
    if figures["unequal"]:
        raise StepFailed(f"{figures['unequal']} of {here.numel()} random numbers differ from the CPU's", figures)
    return figures


def slices(device: torch.device) -> dict[str, Any]:
    """Every method gives the same bits for a slice as for the slice of the whole."""
    sliced = {name: method for name, method in METHODS.items() if method.scope == "slice"}
    figures = {name: _unequal_slices(method, device) for name, method in sliced.items()}
    odd = [name for name, unequal in figures.items() if unequal]
    if odd:
        raise StepFailed(f"slices differ from the whole in {', '.join(odd)}", {"unequal": figures})
    return {"unequal": figures}


def _unequal_slices(method: Method, device: torch.device) -> int:
    whole = merged(method, device)
    parts = [merged(method, device, box) for box in _boxes()]
    return int((torch.cat(parts) != whole).sum())


def _boxes() -> Iterator[tuple[slice, ...]]:
    edges = (0, *CUTS, SHAPE[0])
    for first, last in pairwise(edges):
        yield (slice(first, last), *entire(SHAPE[1:]))


def methods(device: torch.device) -> dict[str, Any]:
    """Every method's result on the device against the CPU's: the largest difference."""
    here, there = ({n: merged(m, d) for n, m in METHODS.items()} for d in (torch.device("cpu"), device))
    figures = {name: float((here[name] - there[name].cpu()).abs().max()) for name in METHODS}
    odd = [name for name, difference in figures.items() if not difference <= TOLERANCE]
    if odd:
        raise StepFailed(f"{', '.join(odd)} differ from the CPU by more than {TOLERANCE}", {"largest": figures})
    return {"largest": figures}


def merged(method: Method, device: torch.device, box: tuple[slice, ...] | None = None) -> torch.Tensor:
    """The method at its defaults (densities 0.5) on random parents; a slice of it with `box`."""
    low, high = method.arity
    n = max(low, min(3, high or 3))
    values = torch.randn((n, *SHAPE), generator=torch.Generator().manual_seed(3)).to(device)
    keys = tuple(mask_key(3, str(k), "layer.weight") for k in range(n))
    knobs = {k.name: 0.5 if k.name == "density" else k.default for k in method.knobs if k.default is not None}
    everything = entire(SHAPE)
    stats = None
    if method.prepare is not None:
        stats = method.prepare(values, window=Region(SHAPE, everything, keys, device), **knobs)
    part = box or everything
    window = Region(SHAPE, part, keys, device)
    return method.fn(values[(slice(None), *part)], window=window, stats=stats, **knobs)
