"""The commands as Python functions: they return nouns, print nothing unless asked, and raise EvomergeError.

Settings are "KEY=VALUE" strings as on the command line, or mappings: {"space.method": "ties", "seed": 2}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, chdir, contextmanager, nullcontext
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from evomerge import config, grading, ingredients, launch, preparation
from evomerge.errors import ConfigError
from evomerge.journal import Watch, newest_stop, rows, unwatched
from evomerge.overrides import Settings, assign, overrides
from evomerge.reports import read
from evomerge.reports.nouns import Front, Report
from evomerge.types import Recipe

if TYPE_CHECKING:
    import torch

    from evomerge.adapter import Summary
    from evomerge.models.family import Family

Folder: TypeAlias = str | PathLike[str]


@dataclass(frozen=True)
class Run:
    """A run folder, finished or not; every question is answered from its journal as it is now."""

    folder: Path

    @property
    def winner(self) -> str | None:
        """Id of the finalist that selection chose ("search:17", "average", ...); None before the first selection."""
        stop = newest_stop(rows(self.folder), "selection")
        return str(stop["winner"]) if stop else None

    @property
    def front(self) -> Front | None:
        """The front of a run of several goals, chosen by selection; None before that, and for a run of one goal."""
        return read.read(self.folder).front

    def recipe(self, pick: str = "winner") -> Recipe:
        """The recipe of "winner", "knee", "best:TASK", a finalist's id, or any candidate's ("search:17").

        Raises JournalError if there is none yet, or none of this id, and ConfigError for an unknown TASK.
        """
        from evomerge.picks import pick as picked

        return picked(self.folder, pick)[0]

    def report(self) -> Report:
        """What the run found: verdict, standings, paired differences, costs, warnings."""
        return read.read(self.folder)

    def export(self, to: Folder, *, pick: str = "winner", device: str | None = None, progress: bool = False) -> Path:
        """Write a model that transformers loads: `pick` as in `recipe`; `device` None: the kind it was searched on."""
        return _export(self.folder, Path(to), pick, device, progress)

    def export_adapter(
        self, to: Folder, *, pick: str = "winner", device: str | None = None, rank: int | None = None
    ) -> Summary:
        """Write a merge of adapters as an adapter: `pick` as in `recipe`; `rank` None: the parents' ranks added up."""
        from evomerge.adapter import export_adapter

        recipe, family, card = _picked(self.folder, pick)
        return export_adapter(recipe, family, Path(to), _device(self.folder, device), card, rank)


# ---------------------------------------------------------------- searching


def search(
    *settings: Settings,
    run: Folder | None = None,
    config_dirs: Sequence[Folder] = (),
    force: bool = False,
    progress: bool = False,
    watch: Watch | None = None,
) -> Run:
    """Search a merge; in a folder that holds this run it goes on, and a larger budget extends it.

    run: the folder (default: a new one below outputs/). force: start a new lineage in a folder of another run.
    progress: bars on stderr. watch(step, **facts): told every step. Ctrl-C leaves everything paid for on file.
    """
    words = [*_words(settings), *([assign("run", run)] if run is not None else [])]
    dirs = [str(d) for d in config_dirs]
    cfg = config.settings(words, dirs)
    folder = Path(str(cfg.run))
    with _checking(progress):
        prepared = preparation.prepare(cfg, folder, force=force)
        prepared = preparation.place_parents(prepared, cfg)
    with _shown(progress, watch) as told:
        command = {"overrides": words, "config_dirs": dirs, "cwd": str(Path.cwd())}
        launch.run(prepared, folder, command, watch=told)
    return Run(folder)


def resume(run: Folder, *settings: Settings, progress: bool = False, watch: Watch | None = None) -> Run:
    """The search that was started in this folder, again, with further settings after its own.

    Its relative paths count from where it was started: the working directory is changed meanwhile.
    """
    folder = Path(run).resolve()
    started, config_dirs, cwd = launch.command_of(folder)
    with chdir(cwd):
        return search(*started, *settings, run=folder, config_dirs=config_dirs, progress=progress, watch=watch)


def open_run(folder: Folder) -> Run:
    """A run on disk. Raises JournalError if the folder holds none."""
    rows(Path(folder))
    return Run(Path(folder))


def report(folder: Folder) -> Report:
    """What the run in this folder found."""
    return read.read(Path(folder))


def _checking(progress: bool) -> AbstractContextManager[Any]:
    if not progress:
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status("checking settings, parents and tasks")


def _display(progress: bool) -> AbstractContextManager[Watch]:
    if not progress:
        return nullcontext(unwatched)
    from rich.console import Console

    from evomerge.progress import Display

    return Display(Console(stderr=True))


@contextmanager
def _shown(progress: bool, watch: Watch | None) -> Iterator[Watch]:
    """What is told every step: the display and the caller's watch."""
    with _display(progress) as display:

        def told(step: str, /, **facts: Any) -> None:
            display(step, **facts)
            (watch or unwatched)(step, **facts)

        yield told


def _words(settings: Sequence[Settings]) -> list[str]:
    words = overrides(settings)
    for word in words:
        if "=" not in word:
            raise ConfigError(f"setting '{word}' has no value; wanted KEY=VALUE, as budget.evaluations=50.")
    return words


# ---------------------------------------------------------------- models


def merge(
    recipe: Folder | Recipe,
    to: Folder,
    *,
    family: Family | None = None,
    device: str = "auto",
    progress: bool = False,
) -> Path:
    """Build a recipe into a model folder, without a search, piece by piece: memory does not grow with the model.

    recipe: a file (its parents are found where it says), or a Recipe with the `family` of its parents. progress: a bar
    on stderr, if that is a terminal.
    """
    from evomerge import export as step
    from evomerge.models.blank import pick_device

    if isinstance(recipe, Recipe):
        if family is None:
            raise ConfigError("a Recipe names its parents by content; give the models too: merge(..., family=...).")
        title = f"recipe {recipe.digest}"
        step.check_parents(recipe, family)
    else:
        title = Path(recipe).stem
        recipe, family = step.read_recipe(Path(recipe))
    card = step.model_card(title, recipe, family, "", {})
    with _writing(progress, step.n_bytes(recipe, family)) as told:
        step.export(recipe, family, Path(to), pick_device(device), card, told)
    return Path(to)


@contextmanager
def _writing(progress: bool, n_bytes: int) -> Iterator[Callable[[int], None]]:
    """What is told how many bytes are written: a bar on a terminal."""
    if not progress:
        yield lambda written: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("writing"), BarColumn(), DownloadColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        bar = bars.add_task("writing", total=n_bytes)
        yield lambda written: bars.advance(bar, written)


def score(
    model: Folder, *settings: Settings, split: str = "test", config_dirs: Sequence[Folder] = ()
) -> dict[str, dict[str, Any]]:
    """Scores of a model folder, hub id or recipe file on all items of a split.

    Returns, by task: {"metric": name, "score": float, "stderr": float, "items": int}.
    """
    cfg = config.settings(_words(settings), [str(d) for d in config_dirs])
    return grading.score(cfg, str(model), split)


def _export(folder: Path, to: Path, pick: str, device: str | None, progress: bool) -> Path:
    from evomerge.export import export, n_bytes

    recipe, family, card = _picked(folder, pick)
    with _writing(progress, n_bytes(recipe, family)) as told:
        export(recipe, family, to, _device(folder, device), card, told)
    return to


def _picked(folder: Path, pick: str) -> tuple[Recipe, Family, str]:
    """A model of a run, its parents, and the model card that tells how it was found."""
    from evomerge import export as step
    from evomerge import picks
    from evomerge.reports import markdown
    from evomerge.reports.record import load

    picks.meant(load(folder), pick)  # a wrong name is told before parents are opened
    family = _family_of(folder)
    recipe, ident = picks.pick(folder, pick, family.pool())
    step.check_parents(recipe, family)
    text = markdown.markdown(read.read(folder))
    facts = {"run": folder.name, "candidate": ident}
    return recipe, family, step.model_card(f"{folder.name}: {ident}", recipe, family, text, facts)


def _device(folder: Path, name: str | None) -> torch.device:
    from evomerge.export import device_of
    from evomerge.models.blank import pick_device

    return pick_device(name or device_of(folder))


def _family_of(folder: Path) -> Family:
    words, config_dirs, cwd = launch.command_of(folder)
    with chdir(cwd):
        family: Family = ingredients.open_parents(config.settings(words, config_dirs))
        return family
