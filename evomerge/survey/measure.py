"""One pass over the tensors of all parents: every sum that a survey needs, slice by slice, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from evomerge.models.family import Family, checkpoint_dtype
from evomerge.models.lora import Adapter
from evomerge.models.parent import Parent
from evomerge.survey.locks import locks
from evomerge.survey.nouns import Card, Survey, Tally, added

#: Entries of a slice: (1 + P) float64 copies of it are all that is held beside the tensors themselves.
SLICE = 1 << 17
EXPONENT = 0x7F800000  # the exponent's bits of a float32
Watch = Callable[[int, int], None]


@torch.no_grad()
def survey(
    family: Family,
    *,
    device: torch.device,
    names: Sequence[str] | None = None,
    slice_size: int = SLICE,
    watch: Watch | None = None,
) -> Survey:
    """Count what can be known of the parents; one tensor of all of them is in memory at a time.

    names: what to call the parents, each differently (default: the pool's). watch(done, total) is called after every
    tensor. The numbers depend on `slice_size` and device only in their last bits.
    """
    device = torch.device("cpu") if device.type == "mps" else device  # mps has no float64
    cards = tuple(_card(p, name) for p, name in zip(family.parents, names or family.pool().names, strict=True))
    tallies = {}
    for done, name in enumerate(sorted(family.shapes), start=1):
        tallies[name] = tally(family, name, device=device, slice_size=slice_size)
        if watch is not None:
            watch(done, len(family.shapes))
    base = family.base.name if family.base else None
    counted = Survey(base, cards, family.stacks, dict(family.shapes), tallies)
    return replace(counted, locks=locks(family, counted, device)) if family.base else counted


def _card(parent: Parent | Adapter, name: str) -> Card:
    if isinstance(parent, Adapter):
        ranks = [parent.config["r"], *(parent.config.get("rank_pattern") or {}).values()]
        return Card(name, parent.digest, "adapter", max(ranks))
    return Card(name, parent.digest, checkpoint_dtype(parent))


# ---------------------------------------------------------------- one tensor


def tally(family: Family, name: str, *, device: torch.device, slice_size: int = SLICE) -> Tally:
    """The sums over one tensor."""
    base = None if family.base is None else family.read(family.base.digest, name, device).reshape(-1)
    parents = [_flat(family, p.digest, name, device) for p in family.parents]
    spacings = [_spacing(p, name) for p in family.parents]
    pieces = [_sums(*piece, spacings) for piece in _pieces(base, parents, slice_size)]
    total = added(pieces)
    changed = total.equal < total.entries  # what is untouched was not rounded either
    return replace(total, ulps=np.where(changed, total.ulps, 0.0))


def _flat(family: Family, digest: str, name: str, device: torch.device) -> tuple[torch.Tensor | None, bool]:
    """A parent's flat tensor, and whether it is a difference already; None for a difference of zero."""
    if family.base is None:
        return family.read(digest, name, device).reshape(-1), False
    if not family.touches(digest, name):
        return None, True
    if family.is_adapter(digest):
        return family.delta(digest, name, device).reshape(-1), True
    return family.read(digest, name, device).reshape(-1), False  # subtracted slice by slice: no whole float32 copy


def _spacing(parent: Parent | Adapter, name: str) -> torch.dtype | None:
    return None if isinstance(parent, Adapter) else getattr(torch, parent.dtypes[name])


def _pieces(
    base: torch.Tensor | None, parents: list[tuple[torch.Tensor | None, bool]], size: int
) -> Iterator[tuple[torch.Tensor | None, torch.Tensor]]:
    """Slices as (base float32 (n,) or None, vectors float32 (P, n))."""
    total = next(t.numel() for t in (base, *(flat for flat, _ in parents)) if t is not None)
    for first in range(0, max(total, 1), size):
        at = slice(first, first + size)
        origin = None if base is None else base[at].float()
        yield origin, torch.stack([_vector(flat, at, origin, is_delta) for flat, is_delta in parents])


def _vector(flat: torch.Tensor | None, at: slice, origin: torch.Tensor | None, is_delta: bool) -> torch.Tensor:
    if flat is None:
        assert origin is not None
        return torch.zeros_like(origin)
    piece = flat[at].float()
    return piece if origin is None or is_delta else piece - origin


def _sums(base: torch.Tensor | None, vectors: torch.Tensor, spacings: Sequence[torch.dtype | None]) -> Tally:
    """The sums over one slice. vectors: float32 (P, n), task vectors, or the parents themselves without a base."""
    rows = vectors if base is None else torch.cat([base[None], vectors])  # (K, n)
    wide = rows.double()
    gram = (wide @ wide.T).cpu().numpy()
    n, n_parents = vectors.shape[1], len(vectors)
    if base is None:
        return Tally(n, gram, np.zeros(n_parents, np.int64), np.zeros(n_parents), 0, 0, 0.0, 0.0)
    shared = _twice(vectors != 0).double()
    clashing = ((vectors.amax(0) > 0) & (vectors.amin(0) < 0)).double()
    mass = vectors.abs().sum(0).double()
    return Tally(
        entries=n,
        gram=gram,
        equal=(n - vectors.count_nonzero(1)).cpu().numpy(),
        ulps=np.array(_ulps(base, spacings)),
        shared=int(shared.sum()),
        clashing=int(clashing.sum()),
        shared_mass=float(mass @ shared),
        clashing_mass=float(mass @ clashing),
    )


def _twice(changed: torch.Tensor) -> torch.Tensor:
    """bool (n,): where at least two of the rows (P, n) are true."""
    once, twice = torch.zeros_like(changed[0]), torch.zeros_like(changed[0])
    for row in changed:
        twice |= once & row
        once |= row
    return twice


def _ulps(base: torch.Tensor, spacings: Sequence[torch.dtype | None]) -> list[float]:
    """Sum of the squared spacing of each dtype at the base's entries, float32 (n,)."""
    powers = base.contiguous().view(torch.int32).bitwise_and(EXPONENT).view(torch.float32).double()
    found = {dtype: _squares(powers, torch.finfo(dtype)) for dtype in set(spacings) if dtype is not None}
    return [0.0 if dtype is None else found[dtype] for dtype in spacings]


def _squares(powers: torch.Tensor, dtype: torch.finfo) -> float:
    """powers: the greatest power of two in each entry, 0 in those that float32 cannot normalise."""
    return float((powers.clamp(min=dtype.smallest_normal) * dtype.eps).square().sum())
