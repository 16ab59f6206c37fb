"""Settings: composed by Hydra from conf/, checked against the classes they name before anything is made."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from evomerge.errors import ConfigError, unknown

HERE = Path(__file__).resolve().parent
CONF = next(p for p in (HERE / "conf", HERE.parent / "conf") if p.is_dir())  # wheel, or checkout
ZOO = HERE / "zoo"

#: Settings that are mappings of the user's own keys: Hydra must be told that adding to them is meant.
OPEN = (
    "space.ranges",
    "space.scales",
    "space.fixed",
    "space.search",
    "task.metrics",
    "task.languages",
    "objective.sets",
    "measures",
    "constraints",
)

OmegaConf.register_new_resolver("zoo", lambda name: str(ZOO / name), replace=True)


def settings(overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> DictConfig:
    """The composed settings. Raises ConfigError naming the unknown key or choice and the nearest known one."""
    for d in config_dirs:
        if not Path(d).is_dir():
            raise ConfigError(f"--config-dir {d} is no folder. Give one with config groups in it, as conf/ has them.")
    dirs = ",".join(f"file://{Path(d).resolve()}" for d in config_dirs)
    try:
        return _composed([*map(_opened, overrides), *([f"hydra.searchpath=[{dirs}]"] if dirs else [])])
    except (HydraException, OmegaConfBaseException) as e:
        raise ConfigError(_explained(e, overrides)) from e


def _composed(overrides: Sequence[str]) -> DictConfig:
    GlobalHydra.instance().clear()  # composing is all we ask of Hydra here: no state stays behind
    with initialize_config_dir(str(CONF), version_base="1.3", job_name="evomerge"):
        return compose("search", list(overrides))


def _opened(override: str) -> str:
    """space.ranges.weight=[0,1] as Hydra wants it for a key that is not there yet."""
    return f"++{override}" if override.startswith(OPEN) else override


def _explained(error: Exception, overrides: Sequence[str]) -> str:
    """Hydra's reason, with the nearest known key or choice."""
    reason = str(error).strip().splitlines()[0]
    for override in overrides:
        key = override.lstrip("+~").split("=")[0]
        if key.startswith("hydra"):  # Hydra's own
            continue
        group = CONF / key
        if group.is_dir() and override.partition("=")[2] not in choices(key):
            return unknown(key, override.partition("=")[2], choices(key)) + " Your own: --config-dir DIR."
        if f"'{key}'" in reason or f"'{key.rpartition('.')[2]}'" in reason:
            known = known_keys()
            if key in known:
                return f"'{key}' is no setting of the {key.split('.')[0]} that was chosen here. Leave it out."
            return unknown("setting", key, known)
    return f"{reason} (settings are KEY=VALUE; see `evomerge search --help`)"


def choices(group: str) -> list[str]:
    """The members a config group offers."""
    return sorted(p.stem for p in (CONF / group).glob("*.yaml"))


def command_of(group: str, name: str) -> str:
    """The command that uses a member, as its file begins; a preset tells Hydra its package before that."""
    lines = (CONF / group / f"{name}.yaml").read_text().splitlines()
    return next(line for line in lines if not line.startswith("# @")).removeprefix("# ")


def known_keys() -> list[str]:
    default = OmegaConf.to_container(_composed([]), resolve=False)
    return sorted(k for k in _flat(default) if not k.endswith("_target_"))


def _flat(tree: Any, path: str = "") -> list[str]:
    if not isinstance(tree, Mapping) or not tree:
        return [path]
    return [leaf for key, value in tree.items() for leaf in _flat(value, f"{path}.{key}" if path else str(key))]


# ---------------------------------------------------------------- making what a node names


def plain(node: Any) -> Any:
    """A config node as plain data, interpolations resolved."""
    try:
        return OmegaConf.to_container(node, resolve=True, throw_on_missing=True) if OmegaConf.is_config(node) else node
    except OmegaConfBaseException as e:
        raise ConfigError(f"{str(e).strip().splitlines()[0]}. Set it on the command line.") from e


def make(group: str, node: Any, *args: Any, **given: Any) -> Any:
    """Call the node's `_target_` with its settings, types checked against the signature."""
    chosen = dict(plain(node))
    target = _target(group, chosen.pop("_target_", None))
    parameters = inspect.signature(target).parameters
    hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    for name, value in chosen.items():
        if name not in parameters:
            raise ConfigError(unknown("setting", f"{group}.{name}", [f"{group}.{p}" for p in parameters]))
        if name in hints and not fits(value, hints[name]):
            raise ConfigError(f"{group}.{name} is {value!r}; wanted {_readable(hints[name])}.")
    return target(*args, **chosen, **given)


def _target(group: str, address: str | None) -> Any:
    module, _, name = (address or "").rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as e:
        raise ConfigError(
            f"{group}._target_ is {address!r}, which cannot be imported ({e}). Wanted module.Class."
        ) from e


def fits(value: Any, hint: Any) -> bool:
    """Whether plain data can be what a type hint says; hints beyond plain data accept anything."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, h) for h in inner)
    if hint in (None, type(None)):
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint in (int, bool, str):
        return type(value) is hint
    if origin is not None and inspect.isclass(origin) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(fits(v, inner[1]) for v in value.values())
    if origin is not None and inspect.isclass(origin) and issubclass(origin, Sequence):
        return isinstance(value, list | tuple) and all(fits(v, inner[0]) for v in value)
    return hint is Any or not inspect.isclass(hint) or isinstance(value, hint)


def _readable(hint: Any) -> str:
    text = (
        str(hint)
        if typing.get_origin(hint) or isinstance(hint, types.UnionType)
        else getattr(hint, "__name__", str(hint))
    )
    return (
        text.replace("collections.abc.", "").replace("typing.", "").replace("NoneType", "null").replace("None", "null")
    )
