"""The launcher of a sweep: chosen by hydra/launcher=NAME, composed, completed and checked before any run begins."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from evomerge.errors import ConfigError
from evomerge.overrides import assign, key_of, value_of
from evomerge.sweep.jobs import gpus_here

CHOICE = "hydra/launcher"
WEEK = 7 * 24 * 60  # minutes: submitit's own limit of one hour would end a search that is going well
HOUR = 60
#: Plugins by how the names of their launchers begin, and our extra that installs them.
_PLUGINS = {
    "submitit": ("hydra_plugins.hydra_submitit_launcher", "sweep"),
    "ray": ("hydra_plugins.hydra_ray_launcher", "ray"),
}
_KINDS = {"LocalLauncher": "submitit_local", "SlurmLauncher": "submitit_slurm", "RayLauncher": "ray"}
#: Mappings of the user's own keys: Hydra must be told that adding to them is meant.
OPEN = ("hydra.launcher.ray.init", "hydra.launcher.ray.remote", "hydra.launcher.additional_parameters")


def compose(hydra: Any, words: Sequence[str], folder: str, config_dirs: Sequence[str]) -> Any:
    """The settings of a sweep with Hydra's own among them. Raises ConfigError for what Hydra or this machine lacks.

    words: the sweep's overrides. folder: of the sweep, absolute.
    """
    _check_plugin(_chosen(words))
    dirs = ",".join(f"file://{d}" for d in config_dirs)
    where = [assign("hydra.sweep.dir", folder), *([f"hydra.searchpath=[{dirs}]"] if dirs else [])]
    try:
        cfg = hydra.compose_config("search", [*words, *where], RunMode.MULTIRUN, with_log_configuration=False)
        OmegaConf.resolve(cfg.hydra.launcher)
    except (HydraException, OmegaConfBaseException) as e:
        _check_plugin(str(e).partition("hydra/launcher/")[2])  # a file of ours or yours that stands on a plugin's
        raise ConfigError(f"{str(e).splitlines()[0]} (in the sweep's own settings, hydra.*)") from e
    given = {key_of(word) for word in words}
    with open_dict(cfg):
        _complete(cfg, given)
    return cfg


def kind(cfg: Any) -> str:
    """ "basic", "submitit_local", "submitit_slurm", "ray", or the class of another launcher."""
    name = str(cfg.hydra.launcher["_target_"]).rpartition(".")[2]
    return "basic" if name == "BasicLauncher" else _KINDS.get(name, name)


def notes(cfg: Any, runs: int) -> list[str]:
    """What the user may not expect of this launcher with so many runs."""
    launcher, which = cfg.hydra.launcher, kind(cfg)
    on_cpu = cfg.get("device") == "cpu"
    if which == "submitit_local":
        each = launcher.gpus_per_node or 0
        blind = not (each or on_cpu)
        at_once = max(1, len(gpus_here()) // each if each else os.cpu_count() or 1)
        return [
            *(["jobs see no GPU; deal them out with hydra.launcher.gpus_per_node=1"] if blind else []),
            *([f"all {runs} runs start at once; hydra/launcher=ray queues them"] if runs > at_once else []),
        ]
    if which == "ray" and not on_cpu and "num_gpus" not in launcher.ray.remote:
        return ["Ray gives jobs no GPU unasked; give each its own with hydra.launcher.ray.remote.num_gpus=1"]
    if which == "submitit_slurm" and not launcher.max_num_timeout:
        return [
            f"jobs are stopped after {launcher.timeout_min} minutes and not requeued; hydra.launcher.max_num_timeout=20"
        ]
    return []


def _chosen(words: Sequence[str]) -> str:
    return next((str(value_of(word)) for word in reversed(words) if key_of(word) == CHOICE), "basic")


def _check_plugin(launcher: str) -> None:
    for start, (plugin, extra) in _PLUGINS.items():
        if launcher.startswith(start) and find_spec(plugin) is None:
            name = launcher.partition("'")[0]
            raise ConfigError(f"launcher '{name}' is not installed. Get it with: pip install 'evomerge[{extra}]'.")


def _complete(cfg: Any, given: set[str]) -> None:
    """What a search needs that the launchers' defaults do not give."""
    launcher, which = cfg.hydra.launcher, kind(cfg)
    if which == "submitit_local" and "hydra.launcher.timeout_min" not in given and launcher.timeout_min == HOUR:
        launcher.timeout_min = WEEK
    if which.startswith("submitit") and (launcher.nodes, launcher.tasks_per_node) != (1, 1):
        raise ConfigError(
            f"a run is one task: hydra.launcher.nodes is {launcher.nodes} and tasks_per_node is "
            f"{launcher.tasks_per_node}, wanted 1 and 1. To spread one run over machines, give it an executor."
        )
    if which == "submitit_slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
        raise ConfigError(
            "no Slurm here: sbatch and srun are not found. Start the sweep on a login node, or as processes of this "
            "machine with hydra/launcher=submitit_local."
        )
    if which == "ray" and not launcher.ray.init.get("address"):
        _keep_ray_at_home(launcher.ray.init)
        _check_ray_has(launcher.ray)


def _keep_ray_at_home(init: Any) -> None:
    """A Ray of our own listens on loopback only, shows no dashboard, and reports to nobody."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray takes an address given as 127.0.0.1 for the machine's own; only this switch, read at its import, does not
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    init.setdefault("include_dashboard", False)


def _check_ray_has(ray: Any) -> None:
    """What no machine of Ray's has, Ray would wait for without end."""
    here = {"num_gpus": len(gpus_here()), "num_cpus": os.cpu_count() or 1}
    for what, known in here.items():
        wanted, present = ray.remote.get(what) or 0, ray.init.get(what) or known
        if wanted > present:
            raise ConfigError(
                f"hydra.launcher.ray.remote.{what} is {wanted}, and this machine has {present}. Ask less; if it has "
                f"more, say so with hydra.launcher.ray.init.{what}=N."
            )


def tell(cfg: Any, runs: int) -> None:
    """Print the notes."""
    for note in notes(cfg, runs):
        print(f"note: {note}", file=sys.stderr)
