"""Random numbers that belong to a place: a counter-based hash of (seed, parent, tensor, position in the tensor).

The same place has the same number on any device, in any slice and for every candidate, so masks drawn from it are
nested in density and two candidates differ by their knobs alone.

A position is a row and a column of the tensor laid out WIDTH entries wide. Rows have words of their own, hashed with
care and once; an entry's word takes in its column by rounds of lowbias32 (Wellons 2018, "Prospecting for hash
functions") in int32 arithmetic that wraps, which compiles to vector instructions. The first round is shared by all
parents, the second is each parent's own.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from functools import lru_cache

import torch

#: Entries of a row: the unit in which words are laid out, and of compiled loops.
WIDTH = 1024
WORD = 0xFFFFFFFF  # rows are hashed modulo 2**32 in int64
#: lowbias32's multipliers. The second is 0x846CA68B less 2**32: the same modulo 2**32, and it fits int32.
FACTORS = (0x7FEB352D, 0x846CA68B - 2**32)
#: 2**32 over the golden ratio, as int32: its multiples spread evenly over a circle of 2**32 (Knuth, TAOCP 3, 6.4).
GOLDEN = 0x9E3779B1 - 2**32
#: Words lie in [-END, END): 24 bits, so that float32 numbers say exactly which are below.
END = 2.0**23


@lru_cache(1 << 16)
def mask_key(seed: int, parent_digest: str, tensor_name: str) -> int:
    """64 bits that name a parent's tensor in a run: its random numbers depend on nothing else but the position."""
    text = json.dumps([seed, parent_digest, tensor_name])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def row_words(key: int, n: int, device: torch.device) -> torch.Tensor:
    """int32 (rows,) for a tensor of n entries. key: below 2**64."""
    words = _hash(torch.arange(-(-n // WIDTH), dtype=torch.int64, device=device), key)
    return torch.where(words > 0x7FFFFFFF, words - 2**32, words).to(torch.int32)


def columns(device: torch.device) -> torch.Tensor:
    """int32 (WIDTH,)"""
    return torch.arange(WIDTH, dtype=torch.int32, device=device)


# ---------------------------------------------------------------- in a kernel


def shared_word(column: torch.Tensor, row_word: torch.Tensor) -> torch.Tensor:
    """int32: the first round, of an entry's column and its row's shared word.

    Without lowbias32's first step, for the row's word is well mixed, and its last, which begins the next round.
    """
    word = (column ^ row_word) * FACTORS[0]
    return (word ^ ((word >> 15) & 0x1FFFF)) * FACTORS[1]


def entry_word(shared: torch.Tensor, row_word: torch.Tensor) -> torch.Tensor:
    """int32 in [-END, END), uniform: a parent's own word of an entry, from the row's word of that parent.

    lowbias32's last step would change low bits alone, which are not looked at: it is left out.
    """
    return _round(shared ^ row_word) >> 8


def entry_words(column: torch.Tensor | None, words: torch.Tensor | None, parents: int) -> list[torch.Tensor]:
    """Each parent's words of the entries, as a kernel that draws is given their columns and row words."""
    assert column is not None and words is not None
    shared = shared_word(column, words[0])
    return [entry_word(shared, words[k + 1]) for k in range(parents)]


def tie_word(column: torch.Tensor, row_word: torch.Tensor) -> torch.Tensor:
    """int32 in [-END, END): a cheaper word that decides between entries of equal magnitude, from the shared row word.

    It is one for all parents: those that are equal somewhere are trimmed alike there, and it is computed once.
    Multiplicative hashing spreads the columns of a row evenly, from where the row's word says.
    """
    return ((column ^ row_word) * GOLDEN) >> 8


def is_below(word: torch.Tensor, limit: torch.Tensor) -> torch.Tensor:
    """Whether words are below a whole number in float32. As integers: compiled loops turn words to floats slowly."""
    return word < limit.to(torch.int32)


def below(probability: float) -> float:
    """The word below which entries of this probability lie: -END for 0 or less, END for 1 or more."""
    return float(math.ceil((2 * min(max(probability, 0.0), 1.0) - 1) * END))


def _round(word: torch.Tensor) -> torch.Tensor:
    word = word ^ ((word >> 16) & 0xFFFF)  # & makes the shift of a signed word a logical one
    word = word * FACTORS[0]
    word = word ^ ((word >> 15) & 0x1FFFF)
    return word * FACTORS[1]


# ---------------------------------------------------------------- rows


def _hash(index: torch.Tensor, key: int) -> torch.Tensor:
    """Three rounds of lowbias32: int64 in [0, 2**32). sha256 spreads the keys, so any will do."""
    first, second = struct.unpack("<2I", hashlib.sha256(key.to_bytes(8, "little")).digest()[:8])
    word = _mix((index & WORD) ^ first)
    return _mix(_mix(word ^ (index >> 32) ^ second))


def _mix(word: torch.Tensor) -> torch.Tensor:
    word = word ^ (word >> 16)
    word = (word * FACTORS[0]) & WORD
    word = word ^ (word >> 15)
    word = (word * FACTORS[1]) & WORD
    return word ^ (word >> 16)
