"""One blend per tensor, written with as few keys as say exactly that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evomerge.build import NAME, pick
from evomerge.models import layout
from evomerge.types import VECTORS, Blend

_LABELS = ("*", *layout.PARTS, VECTORS)


def keyed(blends: Mapping[str, Blend], labels: Mapping[str, set[str]], filters: Sequence[str]) -> dict[str, Blend]:
    """Key -> blend, so that build.pick gives every tensor its own.

    blends, labels: by tensor name. filters: the texts the YAML sorts tensors by. They become the keys if they can;
    where filters of several parameters cross, every tensor has a key.
    """
    narrow_first = sorted(filters, key=lambda text: sum(text in name for name in blends))
    for ordered in (filters, narrow_first):
        found = _by_filter(blends, ordered)
        if all(pick(found, name, labels[name]) == blend for name, blend in blends.items()):
            return found
    rests = {layout.place(name).rest: blend for name, blend in blends.items()}
    return {NAME + rest: rests[rest] for rest in sorted(rests, key=len, reverse=True)}  # no rest hides a longer one


def _by_filter(blends: Mapping[str, Blend], filters: Sequence[str]) -> dict[str, Blend]:
    left, found = dict(blends), {}
    for text in dict.fromkeys(filters):
        mine = [name for name in left if text in name]
        if mine:
            found[NAME + text if text in _LABELS else text] = left[mine[0]]
        for name in mine:
            del left[name]
    rest = list(left.values())[:1] or list(found.values())[-1:]
    while found and found[list(found)[-1]] == rest[0]:
        found.popitem()
    return {**found, "*": rest[0]}
