"""The parents of a search, checked against each other, and their tensors kept close to the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from evomerge.errors import ParentError
from evomerge.models import layout
from evomerge.models.lora import Adapter, is_adapter, open_adapter
from evomerge.models.parent import Parent, locate, open_parent
from evomerge.models.reconcile import reconcile
from evomerge.models.residency import CPU, Placement, decide, resting
from evomerge.models.spelling import respelt
from evomerge.models.vocabulary import is_vocabulary_tensor, named_by_token
from evomerge.types import Pool


@dataclass
class Family:
    """Base and parents of one architecture, checkpoints or adapters.

    placement: where checkpoints' tensors lie between candidates; None: decided at the first one, by what is free then.
    """

    base: Parent | None
    parents: tuple[Parent | Adapter, ...]
    policy: str = "equal"  # how unequal vocabularies come together
    placement: Placement | None = None
    compiles: bool | None = None  # whether merging is compiled; None: where it pays
    learned: dict[Any, Any] = field(default_factory=dict, repr=False)  # what methods keep of tensors
    _kept: dict[tuple[str, str, torch.device], torch.Tensor] = field(default_factory=dict, repr=False)
    _factors: dict[tuple[str, str, str], tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        model = self.model
        self.parents = tuple(respelt(p, model) if isinstance(p, Parent) else p for p in self.parents)
        for parent in self.checkpoints:
            check_pair(self.model, parent)
        self._by_digest: dict[str, Parent | Adapter] = {p.digest: p for p in self.all}
        self.vocabulary = reconcile(self.policy, self.model, [p for p in self.checkpoints if p is not self.model])

    @property
    def all(self) -> list[Parent | Adapter]:
        return [*([self.base] if self.base else []), *self.parents]

    @property
    def checkpoints(self) -> list[Parent]:
        return [p for p in self.all if isinstance(p, Parent)]

    @property
    def model(self) -> Parent:
        """The checkpoint that lends its config and tokenizer: the base, or the first parent."""
        return self.checkpoints[0]

    @property
    def base_folder(self) -> Path:
        return self.model.folder

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Name -> shape of the merged model's tensors, at the base's depth."""
        if self.vocabulary is None:
            return self.model.shapes
        return {name: self.vocabulary.shape(self.model, name) for name in self.model.shapes}

    @cached_property
    def stacks(self) -> dict[str, int]:
        return layout.stacks(self.shapes)

    def pool(self) -> Pool:
        return Pool(
            names=tuple(short_name(p.name) or p.folder.name for p in self.parents),
            digests=tuple(p.digest for p in self.parents),
            base=self.base.digest if self.base else None,
            stacks=self.stacks,
            dtype=checkpoint_dtype(self.model),
            vocabulary=self.policy,
        )

    def find(self, digest: str) -> Parent | Adapter:
        if digest not in self._by_digest:
            known = ", ".join(f"{p.name} ({p.digest})" for p in self.all)
            raise ParentError(
                f"the recipe wants a parent with digest {digest}; given: {known}. Add it to parents.models."
            )
        return self._by_digest[digest]

    def is_adapter(self, digest: str) -> bool:
        return isinstance(self.find(digest), Adapter)

    def touches(self, digest: str, name: str) -> bool:
        """Whether the parent may differ from the base in this tensor: an adapter leaves most of them alone."""
        parent = self.find(digest)
        return parent.touches(name) if isinstance(parent, Adapter) else digest != self.model.digest

    def read(self, digest: str, name: str, device: torch.device) -> torch.Tensor:
        """A whole tensor on the device, in its checkpoint's dtype (float32 for an adapter); not to be written to.

        Where vocabularies differ, a tensor with a row per token comes with the merged model's rows.
        """
        return self.home(digest, name, device).to(device)

    def _gathered(self, name: str, digest: str, read: Callable[[str], torch.Tensor]) -> torch.Tensor:
        if self.vocabulary is None or not is_vocabulary_tensor(self.model, name):
            return read(digest)
        return self.vocabulary.gather(digest, read)

    def _adapted(self, adapter: Adapter, name: str, device: torch.device) -> torch.Tensor:
        """Base plus the adapter's change, in float32; an adapter has its base's tokens."""
        assert self.base is not None, "adapters are opened over a base"
        origin = self.base.digest
        if not adapter.touches(name):
            return self.read(origin, name, device).float()

        def read(digest: str) -> torch.Tensor:
            stored = self._stored(digest, name, device)
            return stored.float() + self._change(adapter, name, stored) if digest == origin else stored

        return self._gathered(name, origin, read)

    def home(self, digest: str, name: str, device: torch.device) -> torch.Tensor:
        """A tensor where it lies, on the device or on the host; for the rest as `read`."""
        parent = self.find(digest)
        if isinstance(parent, Adapter):
            return self._adapted(parent, name, device)
        if self.placement is None:
            self.placement = decide(sum(map(bytes_of, self.checkpoints)), device)
        key = (digest, name, device if self.placement == "device" else CPU)
        if key in self._kept:
            return self._kept[key]
        tensor = self._gathered(name, digest, lambda d: self._stored(d, name, key[2]))
        if self.placement != "disk":
            tensor = self._kept[key] = resting(tensor, device) if self.placement == "host" else tensor
        return tensor

    def factors(self, digest: str, name: str, device: torch.device) -> tuple[torch.Tensor, torch.Tensor] | None:
        """float32 B (m, r), A (r, n) of an adapter's difference from the base; None if it is stored whole, or nothing.

        Factors are small and stay on the device.
        """
        adapter = self.find(digest)
        assert isinstance(adapter, Adapter), "checkpoints have no factors"
        remade = self.vocabulary is not None and is_vocabulary_tensor(self.model, name)
        if remade or not adapter.low_rank(name):
            return None
        key = (digest, name, str(device))
        if key not in self._factors:
            self._factors[key] = adapter.factors(name, device)
        return self._factors[key]

    def delta(self, digest: str, name: str, device: torch.device) -> torch.Tensor:
        """float32 (*shape), parent minus base: an adapter's from its factors, never from a rounded sum."""
        if self.base is None:
            raise ParentError("differences need a base. Set parents.base.")
        parent = self.find(digest)
        base = self.read(self.base.digest, name, device)
        if isinstance(parent, Adapter) and (self.vocabulary is None or not is_vocabulary_tensor(self.model, name)):
            return self._change(parent, name, base)
        return self.read(digest, name, device).float() - base.float()

    def _change(self, adapter: Adapter, name: str, base: torch.Tensor) -> torch.Tensor:
        """What an adapter adds to the base's tensor, float32."""
        if not adapter.low_rank(name):
            return adapter.delta(name, base)
        key = (adapter.digest, name, str(base.device))
        if key not in self._factors:
            self._factors[key] = adapter.factors(name, base.device)
        left, right = self._factors[key]
        return left @ right

    def _stored(self, digest: str, name: str, device: torch.device) -> torch.Tensor:
        parent = self.find(digest)
        assert isinstance(parent, Parent), "adapters have no whole tensors"
        return parent.read(name).to(device)

    def __getstate__(self) -> dict[str, object]:
        # workers read their own copy; weights never travel
        return {**self.__dict__, "_kept": {}, "_factors": {}, "learned": {}}


def open_family(models: Sequence[str], base: str | None = None, vocabulary: str = "equal") -> Family:
    """Open base and parents. Raises ParentError at the first that is unreadable or does not fit the others."""
    if not models:
        raise ParentError("no parents given. Set 'parents.models=[A,B]' (folders or hub ids), or use parents=pico.")
    opened = _checkpoint(base) if base else None
    return Family(opened, tuple(open_member(m, opened) for m in models), vocabulary)


def _checkpoint(name: str) -> Parent:
    folder, _ = locate(name)
    if is_adapter(folder):
        raise ParentError(
            f"{name} is an adapter and cannot be the base. Set parents.base to the model it was trained on."
        )
    return open_parent(name)


def open_member(name: str, base: Parent | None) -> Parent | Adapter:
    """A parent: a checkpoint, or an adapter over the base."""
    folder, full_name = locate(name)
    if not is_adapter(folder):
        return open_parent(name)
    if base is None:
        raise ParentError(f"{name} is an adapter. Set parents.base to the model it was trained on.")
    return open_adapter(full_name, folder, base)


def short_name(name: str) -> str:
    """What a person calls a parent: the last part of its path or hub id, without the revision."""
    last = Path(name).name
    return last if Path(name).is_dir() else last.partition("@")[0]


def check_pair(one: Parent, other: Parent) -> None:
    """Same architecture, tensor names and shapes; each mismatch is named with both values."""
    a, b = (p.config.get("architectures") or [p.config.get("model_type")] for p in (one, other))
    if a != b:
        raise ParentError(f"{one.name} is a {a} and {other.name} a {b}. Merge checkpoints of one architecture.")
    odd = sorted(set(one.shapes) ^ set(other.shapes))
    if odd:
        owner = one if odd[0] in one.shapes else other
        raise ParentError(
            f"only {owner.name} has the tensor '{odd[0]}' ({len(odd)} differ). Merge fine-tunes of one base."
        )
    for name, shape in one.shapes.items():
        unequal = shape != other.shapes[name]
        if unequal and (shape[1:] != other.shapes[name][1:] or not named_by_token(name)):
            raise ParentError(
                f"parents differ at '{name}': {shape} in {one.name}, {other.shapes[name]} in {other.name}. Unequal "
                "widths cannot be merged; drop one of them."
            )


def checkpoint_dtype(parent: Parent) -> str:
    """The dtype that most entries of a checkpoint have."""
    sizes: dict[str, int] = {}
    for name, dtype in parent.dtypes.items():
        sizes[dtype] = sizes.get(dtype, 0) + torch.Size(parent.shapes[name]).numel()
    return max(sizes, key=lambda dtype: sizes[dtype])


def bytes_of(parent: Parent) -> int:
    return sum(p.stat().st_size for p in set(parent.files.values()))
