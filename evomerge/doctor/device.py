"""What the doctor says of the device: its memory, its threads, and whether merging can be compiled for it."""

from __future__ import annotations

from typing import Any

import torch

from evomerge import ingredients
from evomerge.doctor.findings import Finding, Findings, note, ok
from evomerge.engine import loops
from evomerge.memory.jobs import machine_of
from evomerge.memory.words import gb
from evomerge.models.blank import pick_device

COMPILERS = {"cpu": "g++ or clang", "cuda": "triton"}


def check(cfg: Any, findings: Findings) -> None:
    with findings.of("device"):
        device = pick_device(cfg.device)
        findings.say(_memory(cfg, device))
        findings.say(_compiler(cfg, device))
        if device.type == "cpu" and torch.get_num_threads() > 1 and cfg.threads is None:
            findings.say(note("threads", "part of a run's identity: set threads=N to resume it on another machine"))


def _memory(cfg: Any, device: torch.device) -> Finding:
    free = machine_of(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    host = "" if free.unified else f", {gb(free.host)} on the host"
    return ok("device", f"{name}, {gb(free.device)} free{host}, {cfg.threads or torch.get_num_threads()} threads")


def _compiler(cfg: Any, device: torch.device) -> Finding:
    if ingredients.compile_of(cfg) is False:
        return ok("compiler", "merging goes without: merge.compile=false")
    if loops.possible(device.type):
        return ok("compiler", "found: merging large models is compiled")
    remedy = f": install {COMPILERS[device.type]}" if device.type in COMPILERS else ""
    return note("compiler", f"none for {device.type}, and merging large models is slower without{remedy}")
