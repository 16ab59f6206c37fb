"""What the settings name, made: parents, tasks, the evaluator. Each can be had without a search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

from omegaconf import DictConfig

from evomerge.config import ZOO, make, plain
from evomerge.errors import ConfigError, unknown
from evomerge.types import Recipe

if TYPE_CHECKING:
    from evomerge.models.residency import Placement


def open_parents(cfg: DictConfig) -> Any:
    from evomerge.models.family import open_family

    models, base = plain(cfg.parents.models), plain(cfg.parents.base)
    if models and is_pico(cfg) and not any(str(model).startswith(str(ZOO)) for model in models):
        raise ConfigError(
            "parents.models are your own, and parents.base is still the embedded zoo's. Set "
            "parents.base=PATH_OR_HUB_ID, or parents.base=null to merge without a base."
        )
    family = open_family(models, base, cfg.parents.get("vocabulary", "equal"))
    family.compiles = compile_of(cfg)
    return family


def residency_of(cfg: DictConfig) -> Placement | None:
    """Where the settings want the parents to lie; None: wherever they fit. Raises ConfigError."""
    from evomerge.models.residency import Placement

    wanted, known = cfg.merge.residency, ("auto", *get_args(Placement))
    if wanted not in known:
        raise ConfigError(unknown("merge.residency", str(wanted), known))
    return None if wanted == "auto" else wanted


def compile_of(cfg: DictConfig) -> bool | None:
    """Whether merging is compiled; None: where it pays. Raises ConfigError."""
    wanted = cfg.merge.compile
    if wanted != "auto" and not isinstance(wanted, bool):
        raise ConfigError(f"merge.compile is {wanted!r}; wanted auto, true or false.")
    return None if wanted == "auto" else bool(wanted)


def is_pico(cfg: DictConfig) -> bool:
    return str(plain(cfg.parents.base) or "").startswith(str(ZOO / "pico"))


def load_tasks(cfg: DictConfig) -> tuple[Any, ...]:
    """The tasks; the embedded zoo brings its own, other parents need theirs named."""
    node = dict(cfg.task)
    if node.get("names") is None and "names" in node:
        if not is_pico(cfg):
            raise ConfigError(
                "no tasks given for these parents. Set 'task.names=[...]' (and task.include_path=DIR for yours)."
            )
        tasks = ZOO / "pico" / "tasks"
        node.update(names=sorted(p.stem for p in tasks.glob("*.yaml")), include_path=str(tasks))
    languages = plain(node.pop("languages", {}))
    made = tuple(make("task", {k: plain(v) for k, v in node.items()}, split=plain(cfg.split)))
    return _in_languages(made, languages) if languages else made


def _in_languages(tasks: tuple[Any, ...], languages: Mapping[str, str]) -> tuple[Any, ...]:
    from evomerge.tasks.language import checked

    return tuple(checked(tasks, languages))


def load_measures(cfg: DictConfig) -> tuple[Any, ...]:
    """What is known of a merge beside its tasks, as tasks."""
    from evomerge.tasks.measures import targeted

    split = plain(cfg.split)
    nodes = {name: targeted(name, node) for name, node in plain(cfg.measures).items()}
    return tuple(make(f"measures.{name}", node, name=name, split=split) for name, node in nodes.items())


def make_evaluator(
    cfg: DictConfig, family: Any, tasks: tuple[Any, ...], dtype: str, references: Mapping[str, Recipe]
) -> Any:
    """What a worker needs to score a recipe; `references` for tasks that compare a candidate with them."""
    from evomerge.evaluate import Evaluator
    from evomerge.models.blank import check_names, pick_device, pick_dtype

    pick_dtype(dtype)
    check_names(family.base_folder, family.model.files)
    backend = make("backend", cfg.backend)
    return Evaluator(family, tasks, backend, pick_device(cfg.device), dtype, cfg.threads, references)
