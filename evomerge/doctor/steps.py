"""Steps of the self-test that need no model: the device, its speed, the masks and the methods on it."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

import psutil
import torch

from evomerge.doctor.timing import synchronize
from evomerge.engine import fused, loops
from evomerge.engine.passes import Pass
from evomerge.engine.pieces import Inputs
from evomerge.engine.sources import Stored
from evomerge.methods import METHODS
from evomerge.methods.entries import Entries
from evomerge.methods.masks import WIDTH, columns, entry_word, mask_key, shared_word, tie_word
from evomerge.types import Method

CPU = torch.device("cpu")
PARENTS = 3
SHAPE = (96, 257)  # odd, so that no slice is a neat power of two
CUTS = (1, 17, 95)  # rows at which tensors are cut
#: Largest difference of a method's result between devices, for values of about 1 in float32.
TOLERANCE = 1e-5
#: The method whose loop is compiled: it draws, elects and divides.
COMPILED = "dare_ties"
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
    """The random words of a place are the same on the CPU and on the device."""
    here, there = drawn(CPU), drawn(device).cpu()
    figures = {"numbers": here.numel(), "unequal": int((here != there).sum())}
    if figures["unequal"]:
        raise StepFailed(f"{figures['unequal']} of {here.numel()} random numbers differ from the CPU's", figures)
    return figures


def drawn(device: torch.device) -> torch.Tensor:
    """int32 (PARENTS + 1, rows, WIDTH): words of entries, and the word that parts equals."""
    empty = torch.zeros(PARENTS, 96 * WIDTH, device=device)
    rows, column = Entries.of(empty, _keys(PARENTS)).words()[..., None], columns(device)
    shared = shared_word(column, rows[0])
    return torch.stack([*(entry_word(shared, word) for word in rows[1:]), tie_word(column, rows[0])])


def slices(device: torch.device) -> dict[str, Any]:
    """Every method gives the same bits for a slice as for the slice of the whole."""
    figures = {name: _unequal_slices(prepared(method, device)) for name, method in METHODS.items()}
    odd = [name for name, unequal in figures.items() if unequal]
    if odd:
        raise StepFailed(f"slices differ from the whole in {', '.join(odd)}", {"unequal": figures})
    return {"unequal": figures}


def _unequal_slices(made: Pass) -> int:
    """Entries that differ: rows one after the other, and boxes of some columns."""
    whole, unequal = merged(made), 0
    for first, last in pairwise((0, *CUTS, SHAPE[0])):
        rows = torch.empty_like(whole[first:last])
        made.flat(first * SHAPE[1], last * SHAPE[1], rows.view(-1))
        box = (slice(first, last), slice(first, SHAPE[1] - 1))
        part = torch.empty_like(whole[box])
        made.box(box, part)
        unequal += int((rows != whole[first:last]).sum()) + int((part != whole[box]).sum())
    return unequal


def methods(device: torch.device) -> dict[str, Any]:
    """Every method's result on the device against the CPU's: the largest difference."""
    here, there = ({n: merged(prepared(m, d)) for n, m in METHODS.items()} for d in (CPU, device))
    figures = {name: float((here[name] - there[name].cpu()).abs().max()) for name in METHODS}
    odd = [name for name, difference in figures.items() if not difference <= TOLERANCE]
    if odd:
        raise StepFailed(f"{', '.join(odd)} differ from the CPU by more than {TOLERANCE}", {"largest": figures})
    return {"largest": figures}


def compiled(device: torch.device) -> dict[str, Any]:
    """If there is a compiler, a compiled loop gives what its operations give one by one: on a CPU the same bits."""
    if not loops.possible(device.type):
        return {"compiler": False}
    figures = {"compiler": True, "largest": _compiled_difference(METHODS[COMPILED], device)}
    if not figures["largest"] <= (0 if device.type == "cpu" else TOLERANCE):
        raise StepFailed("a compiled loop gives other numbers than its operations", figures)
    return figures


def _compiled_difference(method: Method, device: torch.device) -> float:
    """Raises StepFailed if the compiler, though it is there, compiles nothing."""
    made = prepared(method, device, (96, WIDTH))
    words = made.entries.words()[..., None] if made.settled.kernel.random else None
    values = made.entries.read(0, made.entries.n, range(made.entries.parents))
    operands = fused.Operands(None, [v.view(-1, WIDTH) for v in values], made.numbers, None, words, ())
    out = torch.empty(96, WIDTH, device=device)
    try:
        for _ in range(2):  # from the second time on the compiled code is called as it stands
            loops.compiled(fused.merge, made.settled.kernel, made.inputs.given, operands, out.fill_(math.nan))
    except loops.NotCompiled as e:
        raise StepFailed("there is a compiler, and it fails", {"compiler": True}) from e
    return float((out - merged(made)).abs().max())


def merged(made: Pass) -> torch.Tensor:
    """The whole tensor."""
    out = torch.empty(made.entries.shape, device=made.entries.device)
    made.flat(0, out.numel(), out.view(-1))
    return out


def prepared(method: Method, device: torch.device, shape: tuple[int, int] = SHAPE) -> Pass:
    """The method at its defaults (densities 0.5) on random parents."""
    low, high = method.arity
    n = max(low, min(PARENTS, high or PARENTS))
    base, *values = torch.randn((n + 1, *shape), generator=torch.Generator().manual_seed(3)).to(device)
    entries = replace(Entries.of(torch.stack(values), _keys(n)), ground=lambda start, stop: base.view(-1)[start:stop])
    knobs = {k.name: 0.5 if k.name == "density" else k.default for k in method.knobs if k.default is not None}
    settled = method.settle(entries, **knobs)
    return Pass(settled, Inputs([Stored(v, device, is_delta=True) for v in values], None, entries))


def _keys(n: int) -> tuple[int, ...]:
    return tuple(mask_key(7, str(k), "layer.weight") for k in range(n + 1))
