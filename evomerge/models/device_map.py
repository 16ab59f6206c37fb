"""A live model over several devices: which module lies where, settled on an empty model before a weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch

from evomerge.errors import ConfigError, unknown
from evomerge.models import blank

#: Module -> device: the number of a CUDA device or a device's name; "" names the whole model.
DeviceMap: TypeAlias = Mapping[str, int | str]
#: Device -> bytes, or a size such as "20GiB"; "cpu" allows weights that wait there and are copied over when used.
Limits: TypeAlias = Mapping[int | str, int | str]

WORDS = ("auto", "balanced")
SHARE = 0.9  # of a device's free memory may hold weights; accelerate's own share
HALF = 0.5  # auto, without a memory plan: a model up to this share of one device stays there


def check_settings(device_map: str | DeviceMap | None, max_memory: Limits | None) -> None:
    """Raises ConfigError for settings that no model could be placed by."""
    if isinstance(device_map, str) and device_map not in WORDS:
        raise ConfigError(unknown("backend.device_map", device_map, WORDS))
    if max_memory is None:
        return
    if not isinstance(device_map, str):
        raise ConfigError(
            f"backend.max_memory is {dict(max_memory)} and backend.device_map is {device_map!r}; limits are for "
            "device_map=auto or balanced."
        )
    in_bytes(max_memory)


def in_bytes(limits: Limits) -> dict[int | str, int]:
    """The limits as numbers. Raises ConfigError for a size that cannot be read, and a device that there is not."""
    from accelerate.utils import convert_file_size_to_int

    odd = [device for device in limits if not (str(device).isdigit() or device == "cpu")]
    if odd:
        raise ConfigError(
            f"backend.max_memory names '{odd[0]}'; wanted the numbers of GPUs (0, 1, ...) and cpu: a candidate is "
            "written where its weights lie, which is not on a disk."
        )
    try:
        return {_key(device): int(convert_file_size_to_int(size)) for device, size in limits.items()}
    except ValueError as e:
        raise ConfigError(f"backend.max_memory: {e}. Wanted sizes such as 20GiB for devices 0, 1, ... and cpu.") from e


def _key(device: int | str) -> int | str:
    return int(device) if str(device).isdigit() else device  # YAML and the command line may give either


def check_here(folder: Path, setting: str | DeviceMap | None, max_memory: Limits | None) -> None:
    """Raises ConfigError for what is wrong whichever of its devices a worker of this machine is given."""
    if setting is None:
        return
    if not isinstance(setting, str):
        check(_empty(folder), setting)
    named = in_bytes(max_memory or {}) if isinstance(setting, str) else setting.values()
    gpus = [device for device in named if isinstance(device, int)]
    if gpus and not torch.cuda.is_available():
        group = "max_memory" if isinstance(setting, str) else "device_map"
        raise ConfigError(
            f"backend.{group} names cuda:{gpus[0]}, and there is no GPU here. Set backend.device_map=null."
        )


def settle(
    folder: Path,
    dtype: torch.dtype,
    setting: str | DeviceMap | None,
    max_memory: Limits | None = None,
    *,
    device: torch.device,
) -> dict[str, int | str] | None:
    """Where each module of the model in `folder` will lie; None for all of it on `device`, the search's own.

    Raises ConfigError, before a weight is read, if it does not fit or could not be written where it lies.
    """
    if setting is None:
        return None
    check_here(folder, setting, max_memory)
    model = _empty(folder)
    found = _spread(model, dtype, setting, max_memory, device) if isinstance(setting, str) else dict(setting)
    if found is None:
        return None
    check(model, found)
    for there in dict.fromkeys(found.values()):
        blank.pick_device(f"cuda:{there}" if isinstance(there, int) else there)
    return found


def _spread(
    model: Any, dtype: torch.dtype, word: str, max_memory: Limits | None, device: torch.device
) -> dict[str, int | str] | None:
    limits = in_bytes(max_memory) if max_memory is not None else free()
    if device.type != "cuda" and any(isinstance(there, int) for there in limits) and word == "balanced":
        raise ConfigError(
            f"backend.device_map=balanced spreads the live model over GPUs, and device={device}. Set device=cuda, "
            "or backend.device_map=null."
        )
    home = "cpu" if device.type != "cuda" else device.index or 0
    if home == "cpu" or len(limits) < 2 or (word == "auto" and size(model, dtype) <= HALF * limits.get(home, 0)):
        if max_memory is not None:
            _check_limit(size(model, dtype), home, limits)
        return None
    return split(model, limits, dtype)


def _check_limit(needed: int, home: int | str, limits: Mapping[int | str, int]) -> None:
    """Of a model that lies on one device as a whole."""
    if home not in limits:
        raise ConfigError(
            f"backend.max_memory limits {', '.join(map(str, limits)) or 'no device'} and the whole model would lie on "
            f"{home}. Give a limit for that, or for several GPUs."
        )
    if needed > limits[home]:
        raise ConfigError(
            f"the live model takes {needed / 1e9:.3g} GB and backend.max_memory allows {limits[home] / 1e9:.3g} GB on "
            f"{home}, the only device it names. Raise the limit, or give one for a further device or cpu."
        )


def _empty(folder: Path) -> Any:
    model = blank.empty_model(folder)
    model.tie_weights()
    return model


def free() -> dict[int | str, int]:
    """What may hold weights on each CUDA device that this process sees."""
    return {i: int(SHARE * torch.cuda.mem_get_info(i)[0]) for i in range(torch.cuda.device_count())}


def size(model: Any, dtype: torch.dtype) -> int:
    """Bytes of the model's weights, tied ones once."""
    return int(dtype.itemsize * sum(p.numel() for p in model.parameters()))


def split(model: Any, limits: Mapping[int | str, int], dtype: torch.dtype) -> dict[str, int | str]:
    """An even split over the devices, blocks kept whole, as accelerate infers it. Raises ConfigError if too small."""
    from accelerate import infer_auto_device_map
    from accelerate.utils import compute_module_sizes, get_balanced_memory

    whole = list(model._no_split_modules or ())
    even = get_balanced_memory(model, max_memory=dict(limits), no_split_module_classes=whole, dtype=dtype)
    found = dict(infer_auto_device_map(model, max_memory=even, no_split_module_classes=whole, dtype=dtype))
    sizes = compute_module_sizes(model, dtype=dtype)
    missing = sum(sizes[name] for name, device in found.items() if device == "disk")
    if missing:
        raise ConfigError(
            f"the live model takes {size(model, dtype) / 1e9:.3g} GB, and devices {', '.join(map(str, limits))} have "
            f"room for {sum(limits.values()) / 1e9:.3g} GB of weights in whole blocks: {missing / 1e9:.3g} GB of them "
            "find none. Use more devices, dtype=bfloat16, or let some wait on the host: "
            "'backend.max_memory={0: 70GiB, cpu: 100GiB}'."
        )
    return found


def check(model: Any, found: DeviceMap) -> None:
    """Raises ConfigError for a map under which some tensor has no place, or none where it can be written."""
    known = dict(model.named_modules())
    for name, device in found.items():
        if name not in known:
            raise ConfigError(unknown("module of backend.device_map", name, [n for n in known if n]))
        if device in ("disk", "meta"):
            raise ConfigError(
                f"backend.device_map puts '{name}' on {device}, where a candidate cannot be written. Wanted a device, "
                "or cpu."
            )
    for name, _ in model.named_parameters():
        device_of(found, name)
    _check_embeddings(model, found)


def device_of(found: DeviceMap, name: str) -> int | str:
    """The device of a module or tensor: that of the innermost module which the map names."""
    at = name
    while at not in found:
        if not at:
            raise ConfigError(f"backend.device_map has no place for '{name}'. Name its module, or '' for all others.")
        at = at.rpartition(".")[0]
    return found[at]


def _check_embeddings(model: Any, found: DeviceMap) -> None:
    """Prompts are put where the embeddings lie; a head that is tied to them is the same tensor."""
    names = {id(module): name for name, module in model.named_modules()}
    first, last = model.get_input_embeddings(), model.get_output_embeddings()
    home = device_of(found, names[id(first)])
    if home == "cpu" and set(found.values()) != {"cpu"}:
        raise ConfigError(f"backend.device_map leaves '{names[id(first)]}' on the cpu. Put it on a device.")
    if last is not None and last.weight is first.weight and (there := device_of(found, names[id(last)])) != home:
        raise ConfigError(
            f"backend.device_map puts '{names[id(first)]}' on {home} and '{names[id(last)]}', which is tied to it, on "
            f"{there}. Wanted one device for both."
        )
