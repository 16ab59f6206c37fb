"""Answers of models to items, as a noun and as a file: arrays without pickled objects, every bit kept."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from evomerge.errors import CalibrationError

SCHEMA = 1
KINDS = ("base", "parent", "average", "design", "other")
_STRINGS = ("models", "kinds", "digests", "settings")
_MATRICES = ("values", "sizes", "margins")


@dataclass(frozen=True, eq=False)
class Responses:
    """Raw scores of M models on n items, NaN where a model was not asked.

    kinds: of KINDS. digests: of recipes (evomerge.calibration.key), "" for imported models. items: (task, item), all
    distinct. values: float64 (M, n), as the task gives them, not oriented; for metrics of kind "pairs" the
    log-likelihood, whose weight is in sizes: float64 (M, n), NaN where a value is per unit, None if there are no pairs.
    margins: float64 (M, n), NaN without choices, or None, see ItemScores. batch_sizes: what each model was asked with,
    0 if that is not known. settings: what else the answers depend on, "" for imported ones.
    """

    models: tuple[str, ...]
    kinds: tuple[str, ...]
    digests: tuple[str, ...]
    items: tuple[tuple[str, str], ...]
    values: np.ndarray
    sizes: np.ndarray | None = None
    margins: np.ndarray | None = None
    batch_sizes: tuple[int, ...] = ()
    settings: str = ""

    def __post_init__(self) -> None:
        if not self.batch_sizes:
            object.__setattr__(self, "batch_sizes", (0,) * len(self.models))

    @property
    def key(self) -> str:
        """16 hex digits over the settings: answers of equal keys, recipes and items are equal in every bit."""
        return hashlib.sha256(self.settings.encode()).hexdigest()[:16]

    @cached_property
    def place(self) -> Mapping[tuple[str, str], int]:
        """Column of each item."""
        return {item: i for i, item in enumerate(self.items)}

    def row(self, digest: str) -> int | None:
        """Where the model built from this recipe stands, if anywhere."""
        return self.digests.index(digest) if digest and digest in self.digests else None

    def rows(self, places: Sequence[int]) -> Responses:
        """Some of the models, in this order."""
        index = np.array(places, dtype=np.int64)
        return replace(
            self,
            models=tuple(self.models[i] for i in places),
            kinds=tuple(self.kinds[i] for i in places),
            digests=tuple(self.digests[i] for i in places),
            values=self.values[index],
            sizes=None if self.sizes is None else self.sizes[index],
            margins=None if self.margins is None else self.margins[index],
            batch_sizes=tuple(self.batch_sizes[i] for i in places),
        )

    def on(self, items: Sequence[tuple[str, str]]) -> Responses:
        """The same models on these items; one that is not here is NaN."""
        here = [k for k, item in enumerate(items) if item in self.place]
        there = [self.place[items[k]] for k in here]

        def moved(matrix: np.ndarray) -> np.ndarray:
            found = np.full((len(self.models), len(items)), np.nan)
            found[:, here] = matrix[:, there]
            return found

        return replace(
            self,
            items=tuple(items),
            values=moved(self.values),
            sizes=None if self.sizes is None else moved(self.sizes),
            margins=None if self.margins is None else moved(self.margins),
        )


def joined(one: Responses, other: Responses) -> Responses:
    """The models of both on the items of the first; `other` replaces models of equal recipe, or name if imported."""
    new = {*zip(other.models, other.digests, strict=True)}
    digests = {d for d in other.digests if d}
    kept = [
        i
        for i, (model, digest) in enumerate(zip(one.models, one.digests, strict=True))
        if (model, digest) not in new and digest not in digests
    ]
    first, second = one.rows(kept), other.on(one.items)
    return replace(
        first,
        models=(*first.models, *second.models),
        kinds=(*first.kinds, *second.kinds),
        digests=(*first.digests, *second.digests),
        values=np.concatenate([first.values, second.values]),
        sizes=_stacked((first.sizes, len(kept)), (second.sizes, len(second.models)), n=len(one.items)),
        margins=_stacked((first.margins, len(kept)), (second.margins, len(second.models)), n=len(one.items)),
        batch_sizes=(*first.batch_sizes, *second.batch_sizes),
    )


def _stacked(*parts: tuple[np.ndarray | None, int], n: int) -> np.ndarray | None:
    """Matrices and their numbers of rows, one upon another; None if there are none."""
    if all(matrix is None for matrix, _ in parts):
        return None
    return np.concatenate([np.full((m, n), np.nan) if matrix is None else matrix for matrix, m in parts])


# ---------------------------------------------------------------- files


def save(answers: Responses, path: Path) -> None:
    """Write the file at once: readers see the old answers or the new ones. Raises CalibrationError if it cannot be."""
    arrays: dict[str, Any] = {"schema": np.int64(SCHEMA)}
    arrays |= {name: np.array(getattr(answers, name), dtype=np.str_) for name in _STRINGS}
    arrays["items"] = np.array(answers.items, dtype=np.str_).reshape(-1, 2)
    arrays["batch_sizes"] = np.array(answers.batch_sizes, dtype=np.int64)
    arrays |= {name: m for name in _MATRICES if (m := getattr(answers, name)) is not None}
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as file:
            file.write(packed.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as e:
        _remove(beside)
        raise CalibrationError(f"cannot write {path}: {e.strerror}. Make room or choose a writable folder.") from e


def _remove(path: Path) -> None:
    with suppress(OSError):  # its folder may be no folder, or not ours
        path.unlink(missing_ok=True)


def load(path: Path) -> Responses:
    """Answers that `save` wrote. Raises CalibrationError for any other file, a damaged or a future one."""
    arrays = read_arrays(path)
    if "schema" not in arrays:
        raise CalibrationError(f"{path} was not written by `evomerge calibrate`: it has no schema. Import it instead.")
    if arrays["schema"].ravel().tolist() != [SCHEMA]:
        raise CalibrationError(
            f"{path} has schema {arrays['schema']}, this evomerge reads {SCHEMA}. Calibrate anew into another file."
        )
    try:
        found = Responses(
            models=tuple(arrays["models"].tolist()),
            kinds=tuple(arrays["kinds"].tolist()),
            digests=tuple(arrays["digests"].tolist()),
            items=tuple((task, item) for task, item in arrays["items"].tolist()),
            values=arrays["values"],
            sizes=arrays.get("sizes"),
            margins=arrays.get("margins"),
            batch_sizes=tuple(arrays["batch_sizes"].tolist()),
            settings=str(arrays["settings"]),
        )
    except (KeyError, TypeError, ValueError) as e:
        raise CalibrationError(f"{path} is damaged ({e!r}). Remove it and calibrate anew.") from e
    _check(found, path)
    return found


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file; pickled objects are refused, not run."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError as e:
        raise CalibrationError(f"{path} does not exist. Give an existing file, or calibrate first.") from e
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as e:
        raise CalibrationError(
            f"{path} cannot be read as .npz ({e}). Wanted arrays without pickled objects, as numpy.savez writes them."
        ) from e


def _check(found: Responses, path: Path) -> None:
    m, n = len(found.models), len(found.items)
    for name in ("kinds", "digests", "batch_sizes"):
        if len(getattr(found, name)) != m:
            raise CalibrationError(f"{path} is damaged: {m} models, {len(getattr(found, name))} {name}. Remove it.")
    for name in _MATRICES:
        matrix = getattr(found, name)
        if matrix is not None and (matrix.shape != (m, n) or matrix.dtype != np.float64):
            raise CalibrationError(
                f"{path} is damaged: {name} is {matrix.dtype} {matrix.shape}, wanted float64 {(m, n)}. Remove it."
            )
    if strange := sorted({*found.kinds} - {*KINDS}):
        raise CalibrationError(f"{path} is damaged: kind '{strange[0]}', wanted one of {', '.join(KINDS)}. Remove it.")
    if len({*found.items}) != n:
        raise CalibrationError(f"{path} is damaged: an item stands in it twice. Remove it.")
