"""Where earlier answers are found: in files the user names, in the run's own folder, in the run folders beside it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evomerge.calibration import imports
from evomerge.calibration.bank import oriented
from evomerge.calibration.evaluations import answers_of, evaluation_of
from evomerge.calibration.key import digest_of, file_name
from evomerge.calibration.responses import Responses, joined, load, save
from evomerge.errors import CalibrationError, ConfigError
from evomerge.families import Task
from evomerge.types import Evaluation, Recipe, Work


@dataclass(frozen=True)
class Calibration:
    """What may be known before a search.

    use: files of answers, run folders, or imports (evomerge.calibration.imports). designs: merges drawn from the space
    and scored on the whole bank. cache: take the references' answers from runs beside this one, and leave them there.
    """

    use: Sequence[str] = ()
    designs: int = 0
    cache: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.designs <= 10_000:
            raise ConfigError(f"calibration.designs is {self.designs}; wanted a number from 0 to 10000.")


def tell(note: str) -> None:
    """Say it to whoever looks."""
    print(f"note: {note}", file=sys.stderr)


# ---------------------------------------------------------------- the references' answers


class Cache:
    """Finds evaluations of references that an equal search has paid for, and keeps those of this one.

    A file that cannot be read or written is told of and done without: it saves work, no result depends on it.
    recipes: references and designs by id. given: answers from files the user named.
    """

    def __init__(
        self,
        folder: Path,
        settings: str,
        recipes: Mapping[str, Recipe],
        given: Sequence[Responses] = (),
        *,
        on: bool = True,
        tell: Callable[[str], None] = tell,
    ):
        self._path = folder / file_name(settings)
        self._settings, self._recipes, self._tell, self._on = settings, recipes, tell, on
        self._read = [g for g in given if g.settings == settings]
        self._unread = self._beside() if on else iter(())

    def find(self, work: Work) -> Evaluation | None:
        """The evaluation of this work, equal in every bit to evaluating it; None if nobody has paid for it."""
        found = _first(work, self._read)
        while found is None and (answers := next(self._unread, None)) is not None:
            self._read.append(answers)
            found = evaluation_of(work, answers)
        return found

    def keep(self, found: Mapping[str, Evaluation]) -> None:
        """Leave these evaluations in the run's folder, beside those that are there."""
        if not self._on:
            return
        new = answers_of(self._recipes, found, self._settings)
        old = self._own()
        if old is not None and {*new.digests} <= {*old.digests}:
            return
        try:
            save(new if old is None or old.items != new.items else joined(old, new), self._path)
        except CalibrationError as e:
            self._tell(f"the references' answers are not kept for other runs: {e}")

    def _own(self) -> Responses | None:
        return next(self._loaded([self._path]), None)

    def _beside(self) -> Iterator[Responses]:
        """This run's own file first, then those of the runs in the same folder, by name."""
        yield from self._loaded([self._path])
        try:
            paths = sorted(self._path.parent.resolve().parent.glob(f"*/{self._path.name}"))
        except OSError:  # a folder that may not be listed has nothing for us
            return
        yield from self._loaded(path for path in paths if path.parent != self._path.parent.resolve())

    def _loaded(self, paths: Iterable[Path]) -> Iterator[Responses]:
        for path in paths:
            try:
                if path.is_file() and (found := load(path)).settings == self._settings:
                    yield found
            except (CalibrationError, OSError) as e:
                self._tell(f"answers of an earlier run are not used: {e}")


def _first(work: Work, answers: Iterable[Responses]) -> Evaluation | None:
    return next((e for one in answers if (e := evaluation_of(work, one)) is not None), None)


# ---------------------------------------------------------------- answers the user names


@dataclass(frozen=True, eq=False)
class Given:
    """What `calibration.use` holds, matched with the tasks' search items, and notes on what was left out."""

    answers: tuple[Responses, ...]
    notes: tuple[str, ...]

    def leaderboard(self, tasks: Sequence[Task], recipes: Mapping[str, Recipe]) -> np.ndarray | None:
        """float64 (L, N), oriented, in bank order: distinct answers of models other than these; None without any."""
        own = {digest_of(recipe) for recipe in recipes.values()}
        rows = [
            _oriented(one.rows([m for m, d in enumerate(one.digests) if d not in own]), tasks) for one in self.answers
        ]
        found = np.concatenate(rows) if rows else np.zeros((0, 0))
        found = found[imports.distinct(found)]
        return found if len(found) else None


def given(use: Sequence[str], tasks: Sequence[Task]) -> Given:
    """Read what the user names. Raises CalibrationError for what is missing, unreadable, or matches no search item."""
    read = [imports.read(path, tasks) for name in use for path in _paths(Path(name).expanduser())]
    return Given(tuple(one.responses for one in read), tuple(note for one in read for note in one.notes))


def digest(leaderboard: np.ndarray | None) -> str | None:
    """16 hex digits over a leaderboard: part of what makes two runs the same run."""
    if leaderboard is None:
        return None
    canonical = np.where(np.isnan(leaderboard), np.nan, leaderboard)  # NaN has many bit patterns
    return hashlib.sha256(repr(canonical.shape).encode() + canonical.tobytes()).hexdigest()[:16]


def _paths(path: Path) -> list[Path]:
    """The files of answers in a run folder, else the path itself."""
    if path.is_dir() and (found := sorted(path.glob("calibration-*.npz"))):
        return found
    if (path / "journal.jsonl").is_file():
        raise CalibrationError(
            f"{path} is a run without calibration-*.npz: it was made with calibration.cache=false, or its references "
            "were never scored. Run `evomerge calibrate --to FILE.npz` with its settings and use that file."
        )
    return [path]


def _oriented(answers: Responses, tasks: Sequence[Task]) -> np.ndarray:
    on = answers.on([(task.name, i) for task in tasks for i in task.items["search"]])
    parts, start = [], 0
    for task in tasks:
        end = start + len(task.items["search"])
        sizes = None if on.sizes is None else on.sizes[:, start:end]
        parts.append(oriented(on.values[:, start:end], sizes, task.metric))
        start = end
    return np.concatenate(parts, axis=1)
