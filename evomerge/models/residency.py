"""Where parents' tensors lie between candidates: on the device, in the host's memory, or in their files alone."""

from __future__ import annotations

import weakref
from typing import Literal

import psutil
import torch

from evomerge.errors import ParentError

#: "device": kept there. "host": kept in the host's memory, pinned for a CUDA device. "disk": mapped from the file again
#: for each use. From host and disk pieces are brought to the device while merging; on a CPU "host" is "device", and
#: tensors that are kept are mapped, so that all processes of a machine share them.
Placement = Literal["device", "host", "disk"]
CPU = torch.device("cpu")


def decide(size: int, device: torch.device) -> Placement:
    """Where `size` bytes of parents may lie if half of what is free now is theirs."""
    if size < free_bytes(device) // 2:
        return "device"
    return "host" if device.type == "cuda" and size < free_bytes(CPU) // 2 else "disk"


def free_bytes(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def resting(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor as it rests on the host for this device: for CUDA a pinned copy, else itself."""
    return pinned(tensor) if device.type == "cuda" else tensor


def pinned(tensor: torch.Tensor) -> torch.Tensor:
    """A copy whose pages the device reads by itself. Raises ParentError if the system refuses.

    `Tensor.pin_memory` would take up to twice the memory: its allocator rounds sizes up to powers of two.
    """
    copy = torch.empty_like(tensor, device=CPU, memory_format=torch.contiguous_format).copy_(tensor)
    if not copy.nbytes:
        return copy
    runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    error = runtime.cudaHostRegister(copy.data_ptr(), copy.nbytes, 1)  # 1: for all devices
    if int(error):
        raise ParentError(
            f"{copy.nbytes >> 20} MB of the host's memory could not be pinned (CUDA error {int(error)}). Set "
            "merge.residency=disk, or let the system lock more memory (ulimit -l)."
        )
    release = weakref.finalize(copy.untyped_storage(), runtime.cudaHostUnregister, copy.data_ptr())
    release.atexit = False  # the driver may be gone by then
    return copy
