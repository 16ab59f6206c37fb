"""What building holds beside parents and live model: pieces at work, and what methods learn; bytes, plain arithmetic.

A tensor is merged in pieces: on a CPU small ones that stay in its caches, on a GPU large ones. A compiled loop holds
none of them, but whether there is a compiler only the run shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evomerge.engine.pieces import STREAMED
from evomerge.memory.passes import FLOAT32
from evomerge.methods.entries import BLOCK, LARGE_BLOCK
from evomerge.methods.magnitudes import LARGE_STRETCH, STRETCH
from evomerge.methods.masks import WIDTH

if TYPE_CHECKING:
    from evomerge.memory.plan import Shape

TABLE = 8 << 16  # bytes
SORTING = 10  # numbers of 4 bytes for an entry: half of that was measured on a CPU
COUNTING = 32 << 20


def merging(shape: Shape, n_parents: int, *, on_cpu: bool) -> int:
    """Peak of a tensor's pieces while they are merged. The factor is measured: the largest of all methods."""
    return (5 * n_parents + 5) * min(BLOCK["cpu"] if on_cpu else STREAMED, shape.largest) * FLOAT32


def learning(shape: Shape, n_parents: int, *, on_cpu: bool) -> int:
    """Peak of a tensor's blocks while a method looks at them: of all parents, of one of them, or while it is sorted."""
    block, stretch = (BLOCK["cpu"], STRETCH["cpu"]) if on_cpu else (LARGE_BLOCK, LARGE_STRETCH)
    looking = (6 * max(3, n_parents) + 5) * min(block, shape.largest)
    return max(looking, SORTING * min(stretch, shape.largest)) * FLOAT32


def buffers(shape: Shape, checkpoints: int, itemsize: int) -> int:
    """Two pieces of every checkpoint's tensor on the device, where tensors are brought from host or disk."""
    return 2 * checkpoints * min(STREAMED, shape.largest) * itemsize


def learned(shape: Shape, n_parents: int, keeps: int) -> int:
    """What stays on the device for the whole search. keeps: see `Method`; the rest are words of random masks."""
    words = (n_parents + 1) * FLOAT32 * shape.parameters // WIDTH
    return words + keeps * n_parents * shape.parameters


def tables(shape: Shape, n_parents: int, itemsize: int) -> int:
    """Tables of magnitudes, on the host for the whole search, and what they are made of on the way.

    Measured: differences of 16-bit tensors have up to 2**16 values however large the tensor, and in small ones one for
    ten to a hundred entries; of 32-bit tensors some ranges are kept. 8 bytes each, and twice that once masses are asked
    for, which the bound of small tensors holds, too.
    """
    by_entry = shape.parameters // 2
    each = min(by_entry, TABLE * shape.tensors) if itemsize == 2 else by_entry
    return n_parents * each + COUNTING
