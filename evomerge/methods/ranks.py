"""Where each entry of a tensor stands in its row by magnitude: what DELLA's probabilities depend on."""

from __future__ import annotations

import torch

from evomerge.methods.entries import Entries

#: Odd, so that consecutive rows flip the bits of their columns in all ways.
FLIP = 0x9E3779B1
LOW, HIGH = 0, 1  # halves of an int64, as int32 on a little-endian machine


def ranks(entries: Entries) -> torch.Tensor:
    """float32 (n,): rank 0 to w - 1 of |value| of one parent, ascending in each row of w entries; a vector is one row.

    Equal magnitudes are ranked by column, the bits of the column being flipped in a way that each row has for itself:
    an order that no device or slice changes, no seed enters, and that does not prefer the columns on one side. mergekit
    leaves the order of equals to an unstable sort. Floats, for compiled loops turn integers to floats slowly.
    """
    width = entries.width
    found = torch.empty(entries.n, dtype=torch.float32, device=entries.device)
    ascending = torch.arange(width, dtype=torch.float32, device=entries.device)
    for start, (values,) in entries.blocks(width):
        order = ordered_columns(values.view(-1, width), start // width)
        part = found[start : start + len(values)].view(-1, width)
        part.scatter_(1, order, ascending.expand(len(part), -1))
    return found


def ordered_columns(values: torch.Tensor, first_row: int) -> torch.Tensor:
    """int64 (rows, w): the columns of float32 (rows, w) in ascending order of |value|."""
    rows, width = values.shape
    flips = torch.arange(first_row, first_row + rows, device=values.device)[:, None] * FLIP & 0x7FFFFFFF
    keys = torch.empty(rows, width, 2, dtype=torch.int32, device=values.device)
    keys[..., HIGH] = values.abs().view(torch.int32)  # magnitudes order as their bits
    keys[..., LOW] = torch.arange(width, dtype=torch.int32, device=values.device) ^ flips.to(torch.int32)
    return (_sorted(keys.view(torch.int64).squeeze(-1)) & 0x7FFFFFFF) ^ flips


def _sorted(keys: torch.Tensor) -> torch.Tensor:
    if keys.device.type == "cpu":
        keys.numpy().sort(axis=-1)  # in place, and ten times as fast as torch.sort
        return keys
    return keys.sort(dim=-1).values
