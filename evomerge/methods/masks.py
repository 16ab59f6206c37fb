"""Random numbers that belong to a place: a counter-based hash of (seed, parent, tensor, position in the tensor).

The same place has the same number on any device, in any slice and for every candidate, so masks drawn from it are
nested in density and two candidates differ by their knobs alone. The hash is three rounds of lowbias32 (Wellons 2018,
"Prospecting for hash functions"): two take in the words of the position, and the last is there because after one round
alone, chi-square still sees a single changed bit in a million numbers. Keys are spread by sha256, so any will do.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from dataclasses import dataclass

import torch

WORD = 0xFFFFFFFF  # arithmetic modulo 2**32 is done in int64
#: lowbias32's multipliers. The second is 0x846CA68B less 2**32: the same modulo 2**32, and no product leaves int64.
FACTORS = (0x7FEB352D, 0x846CA68B - 2**32)


def mask_key(seed: int, parent_digest: str, tensor_name: str) -> int:
    """64 bits that name a parent's tensor in a run: its random numbers depend on nothing else but the position."""
    text = json.dumps([seed, parent_digest, tensor_name])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def uniforms_at(index: torch.Tensor, key: int) -> torch.Tensor:
    """float32 in [0, 1), multiples of 2**-24, of the shape of `index`: int64 positions from 0. key: below 2**64."""
    uniforms = torch.empty(index.shape, dtype=torch.float32, device=index.device)
    chunk = 1 << 15 if index.device.type == "cpu" else 1 << 24  # fits the cache: many times as fast as in one piece
    for places, out in zip(index.flatten().split(chunk), uniforms.view(-1).split(chunk), strict=True):
        out.copy_(_hash(places, key) >> 8).mul_(2.0**-24)
    return uniforms


def _hash(index: torch.Tensor, key: int) -> torch.Tensor:
    first, second = struct.unpack("<2I", hashlib.sha256(key.to_bytes(8, "little")).digest()[:8])
    word = _mix((index & WORD).bitwise_xor_(first))
    word ^= (index >> 32).bitwise_xor_(second)
    return _mix(_mix(word))  # int64 in [0, 2**32)


def _mix(word: torch.Tensor) -> torch.Tensor:
    """lowbias32 in place: xor with itself shifted, multiply, twice, and a last xor; a bijection of 32-bit words."""
    word ^= word >> 16
    word *= FACTORS[0]
    word &= WORD
    word ^= word >> 15
    word *= FACTORS[1]
    word &= WORD
    word ^= word >> 16
    return word


def entire(whole: tuple[int, ...]) -> tuple[slice, ...]:
    """The box that is the whole tensor."""
    return tuple(slice(0, n) for n in whole)


@dataclass(frozen=True)
class Region:
    """A Window: the part `box` of a tensor of shape `whole`, with one mask key per parent.

    `box` has a slice for every dimension, with start and stop given and no step.
    """

    whole: tuple[int, ...]
    box: tuple[slice, ...]
    keys: tuple[int, ...] = ()
    device: str | torch.device = "cpu"

    def __post_init__(self) -> None:
        assert len(self.box) == len(self.whole), f"box {self.box} for a tensor of shape {self.whole}"
        for s, n in zip(self.box, self.whole, strict=True):
            assert 0 <= s.start <= s.stop <= n and s.step in (None, 1), f"box {self.box} leaves {self.whole}"

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(s.stop - s.start for s in self.box)

    def index(self) -> torch.Tensor:
        """int64 (*slice): row-major position of each element in the whole tensor."""
        index = torch.zeros((), dtype=torch.int64, device=self.device)
        for d, s in enumerate(self.box):
            along = torch.arange(s.start, s.stop, device=self.device) * math.prod(self.whole[d + 1 :])
            index = index.unsqueeze(-1) + along  # (..., length of this dimension)
        return index

    def uniforms(self) -> torch.Tensor:
        """float32 (P, *slice) in [0, 1): one per key and element."""
        index = self.index()
        return torch.stack([uniforms_at(index, key) for key in self.keys])
