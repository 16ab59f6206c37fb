"""The parents as another machine's files have them: found there, compared with the driver's by content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from evomerge.errors import ConfigError, ParentError
from evomerge.models import speech
from evomerge.models.family import Family, short_name
from evomerge.models.lora import Adapter, open_adapter
from evomerge.models.parent import Parent, open_parent


@dataclass(frozen=True)
class Luggage:
    """A family on its way to another machine. tokenizer: digest of all that turns messages into its tokens."""

    family: Family
    tokenizer: str


def packed(family: Family) -> Luggage:
    return Luggage(family, speech.digest(family))


def relocated(luggage: Luggage, parents_dir: str | None, node: str) -> Family:
    """The family read from this machine's files: in `parents_dir`, or where the driver has them.

    Everything is read once. Raises ConfigError naming node, parent and both values where anything differs: weights,
    config, tokenizer.
    """
    family = luggage.family
    found: dict[str, Parent | Adapter] = {}
    for parent in sorted(family.all, key=lambda p: isinstance(p, Adapter)):  # adapters stand on their base
        folder = folder_of(parent, family, parents_dir)
        there = _opened(parent, folder, _base(family, found), node, parents_dir)
        found[parent.digest] = _moved(parent, there, node)
    parents = tuple(found[p.digest] for p in family.parents)
    moved = Family(_base(family, found), parents, family.policy, family.placement, family.compiles)
    _compare("tokenizer", node, moved.base_folder, "digest", luggage.tokenizer, speech.digest(moved))
    return moved


def _base(family: Family, found: Mapping[str, Parent | Adapter]) -> Parent | None:
    base = found.get(family.base.digest) if family.base else None
    return base if isinstance(base, Parent) else None


def folder_of(parent: Parent | Adapter, family: Family, parents_dir: str | None) -> Path:
    """Where a parent is to be found. Raises ConfigError if two parents would be found in one folder."""
    if parents_dir is None:
        return parent.folder
    name = _copy_name(parent)
    if len(namesakes := sorted({p.name for p in family.all if _copy_name(p) == name})) > 1:
        raise ConfigError(
            f"executor.parents_dir cannot tell {' and '.join(namesakes)} apart: both are called {name}. Rename one."
        )
    return Path(parents_dir).expanduser() / name


def _copy_name(parent: Parent | Adapter) -> str:
    """A local folder's own name; of a hub id the model's, without owner and commit."""
    return short_name(parent.name) or parent.folder.name


def _opened(
    parent: Parent | Adapter, folder: Path, base: Parent | None, node: str, parents_dir: str | None
) -> Parent | Adapter:
    try:
        if isinstance(parent, Parent):
            return open_parent(str(folder))
        assert base is not None, "adapters are opened over a base"
        return open_adapter(str(folder), folder, base)
    except (ParentError, OSError) as e:
        where = f"executor.parents_dir={parents_dir}" if parents_dir else "the driver's own path"
        raise ConfigError(
            f"node {node} has no parent {parent.name} (digest {parent.digest}) at {where}: {e} Put the parents on a "
            "disk that all nodes share, or copy them to each node and name the folder in executor.parents_dir."
        ) from e


def _moved(parent: Parent | Adapter, there: Parent | Adapter, node: str) -> Parent | Adapter:
    """The driver's parent with the files of `there`, which may be cut into other shards."""
    _compare(parent.name, node, there.folder, "digest", parent.digest, there.digest)
    changed = sorted(k for k in {*parent.config, *there.config} if parent.config.get(k) != there.config.get(k))
    if changed:
        here, other = ({k: p.config.get(k) for k in changed} for p in (parent, there))
        _compare(parent.name, node, there.folder, "config", str(here), str(other))
    if isinstance(parent, Adapter):
        return replace(parent, folder=there.folder)
    assert isinstance(there, Parent)
    files: Mapping[str, Path] = {name: there.files[parent.stored.get(name, name)] for name in parent.files}
    return replace(parent, folder=there.folder, files=files)


def _compare(name: str, node: str, folder: Path, what: str, ours: str, theirs: str) -> None:
    if ours != theirs:
        raise ConfigError(
            f"node {node} sees another {name} at {folder}: its {what} is {theirs} there and {ours} at the driver. Copy "
            "the driver's files there again, or let all nodes share one disk."
        )
