"""The runs of a sweep as jobs of Hydra's launchers: in this process, in others, or on a cluster."""

from __future__ import annotations

import gc
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from evomerge import api, config
from evomerge.commands import asking
from evomerge.errors import ConfigError, EvomergeError
from evomerge.lines import write_whole
from evomerge.overrides import assign, key_of, name
from evomerge.reports import markdown
from evomerge.reports.sweep import FAILURE


@dataclass(frozen=True)
class Job:
    """What a launcher is given to call: one run. Plain data, so that it can be sent to another process.

    folder: of the sweep, absolute. swept: keys that name the run. cwd: where relative paths of the settings start.
    """

    folder: str
    swept: tuple[str, ...]
    config_dirs: tuple[str, ...]
    cwd: str
    total: int

    def __call__(self, cfg: Any) -> None:
        hydra = HydraConfig.get()
        words = [str(word) for word in hydra.overrides.task]
        folder = Path(self.folder, name(word for word in words if key_of(word) in self.swept))
        print(f"\n{hydra.job.num + 1} of {self.total}", file=sys.stderr, flush=True)
        with chdir(self.cwd):
            _attempt(words, folder, self.config_dirs)
        gc.collect()  # a live model may sit in a cycle, and the next run wants its memory


def _attempt(words: Sequence[str], folder: Path, config_dirs: Sequence[str]) -> None:
    """One run; whatever ends it is written down, so that the others go on."""
    asking.hush()
    (folder / FAILURE).unlink(missing_ok=True)
    try:
        report = api.search(*words, run=folder, config_dirs=config_dirs, progress=True).report()
        write_whole(folder / "report.md", markdown.markdown(report))
        print(report.verdict, file=sys.stderr, flush=True)
    except Exception as e:
        reason = str(e) if isinstance(e, EvomergeError) else f"{type(e).__name__}: {e}\n\n{traceback.format_exc()}"
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / FAILURE, reason + "\n")
        print(f"error: {reason}", file=sys.stderr, flush=True)


# ---------------------------------------------------------------- launching


@contextmanager
def hydra_session() -> Iterator[Any]:
    """Hydra on our conf/, without hydra.main: that reads sys.argv, prints errors itself and ends the process."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config.CONF), version_base="1.3", job_name="evomerge"):
        yield GlobalHydra.instance().hydra


def launch(hydra: Any, job: Job, words: Sequence[str]) -> None:
    """Start every run and wait for all, those of a broken launcher too; Ctrl-C ends those of this machine.

    words: the sweep's overrides. Raises ConfigError for settings of Hydra's own that it does not know.
    """
    before = set(psutil.Process().children())
    dirs = ",".join(f"file://{d}" for d in job.config_dirs)
    where = [assign("hydra.sweep.dir", job.folder), *([f"hydra.searchpath=[{dirs}]"] if dirs else [])]
    try:
        hydra.multirun("search", job, [*words, *where])
    except (HydraException, OmegaConfBaseException) as e:
        raise ConfigError(f"{str(e).splitlines()[0]} (in the sweep's own settings, hydra.*)") from e
    except KeyboardInterrupt:
        _stop(_children_since(before))
        raise
    except Exception as e:  # a job was killed: the launcher gives up, its other jobs go on
        print(f"error: the launcher failed ({e})", file=sys.stderr)
        psutil.wait_procs(_children_since(before))


def _children_since(before: set[Any]) -> list[Any]:
    return [child for child in psutil.Process().children() if child not in before]


def _stop(children: Sequence[Any]) -> None:
    """End the jobs that a launcher has started on this machine; Ctrl-C on a terminal has reached them by itself."""
    _, alive = psutil.wait_procs(children, timeout=3)
    for child in alive:
        child.send_signal(signal.SIGINT)
    psutil.wait_procs(alive, timeout=10)
