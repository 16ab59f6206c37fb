"""How mergekit names a model: path, path@revision, base+lora, or a mapping of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.errors import MergeError, unknown


@dataclass(frozen=True)
class Reference:
    """A checkpoint, or a LoRA over one. As in mergekit, equal only if it is written alike."""

    path: str
    revision: str | None = None
    lora: Reference | None = None

    @property
    def name(self) -> str:
        """What evomerge opens: the adapter if there is one; a revision counts for hub ids alone."""
        if self.lora is not None:
            return self.lora.name
        local = Path(self.path).expanduser().exists()
        return self.path if local or self.revision is None else f"{self.path}@{self.revision}"

    def __str__(self) -> str:
        name = f"{self.path}@{self.revision}" if self.revision else self.path
        return f"{name}+{self.lora}" if self.lora else name


def parse_reference(raw: Any, where: str) -> Reference:
    """A model of the YAML. Raises MergeError for what mergekit would not understand, or what we do not have."""
    if isinstance(raw, str):
        if raw.count("+") > 1:
            raise MergeError(f"{where}: '{raw}' has more than one '+'. Wanted BASE or BASE+LORA.")
        model, _, adapter = raw.partition("+")
        return _with_lora(_path(model, where), _path(adapter, where) if adapter else None)
    if not isinstance(raw, Mapping):
        raise MergeError(f"{where} is {raw!r}; wanted a model: a folder, a hub id, or BASE+LORA.")
    _known(raw, ("model", "lora", "override_architecture"), where)
    if raw.get("override_architecture"):
        raise MergeError(f"{where}: override_architecture is not supported. Save the model under its own architecture.")
    if "model" not in raw:
        raise MergeError(f"{where} has no 'model'. Wanted {{model: PATH}}, perhaps with 'lora'.")
    lora = raw.get("lora")
    return _with_lora(_path(raw["model"], where), None if lora is None else _path(lora, where))


def _with_lora(model: Reference, lora: Reference | None) -> Reference:
    return Reference(model.path, model.revision, lora)


def _path(raw: Any, where: str) -> Reference:
    if isinstance(raw, str) and raw.count("@") < 2:
        path, _, revision = raw.partition("@")
        return Reference(path, revision or None)
    if not isinstance(raw, Mapping):
        raise MergeError(f"{where}: {raw!r} is no path. Wanted PATH or PATH@REVISION.")
    _known(raw, ("path", "revision"), where)
    if not isinstance(raw.get("path"), str) or not isinstance(raw.get("revision"), str | None):
        raise MergeError(f"{where}: {dict(raw)} is no path. Wanted {{path: TEXT, revision: TEXT}}.")
    return Reference(raw["path"], raw.get("revision"))


def _known(raw: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    for key in raw:
        if key not in keys:
            raise MergeError(f"{where}: " + unknown("key", str(key), keys))
