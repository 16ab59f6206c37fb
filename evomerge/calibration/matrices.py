"""Response matrices of others, as tables of numbers: one row a model, one column an item named TASK/ITEM."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evomerge.calibration.responses import read_arrays
from evomerge.errors import CalibrationError


@dataclass(frozen=True, eq=False)
class Matrix:
    """values: float64 (M, n), raw scores, NaN where a model was not asked; of pairs the log-likelihood per unit."""

    models: tuple[str, ...]
    items: tuple[tuple[str, str], ...]
    values: np.ndarray
    notes: tuple[str, ...] = ()


def read_csv(path: Path) -> Matrix:
    """Header: any word, then TASK/ITEM for each column; rows: model, then a number or nothing for each item."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file)
            items = named(next(lines, [""])[1:], path)
            rows = [(line[0], _numbers(line, number, items, path)) for number, line in _filled(lines)]
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise CalibrationError(f"{path} cannot be read as comma-separated text ({e}).") from e
    if not rows:
        raise CalibrationError(f"{path} holds no models. Wanted a header with TASK/ITEM columns, then a row a model.")
    return Matrix(tuple(model for model, _ in rows), items, np.array([values for _, values in rows]))


def _filled(lines: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    return ((number, line) for number, line in enumerate(lines, 2) if line)


def _numbers(line: Sequence[str], number: int, items: Sequence[tuple[str, str]], path: Path) -> list[float]:
    if len(line) != len(items) + 1:
        raise CalibrationError(f"{path}, row {number}: {len(line)} cells, wanted {len(items) + 1} as in the header.")
    try:
        return [float(cell) if cell.strip() else np.nan for cell in line[1:]]
    except ValueError as e:
        raise CalibrationError(f"{path}, row {number}: {e}. Wanted numbers, and nothing where not asked.") from e


def named(columns: Sequence[str], path: Path) -> tuple[tuple[str, str], ...]:
    """TASK/ITEM -> (task, item); a task may have slashes in its name. Raises CalibrationError for other names."""
    pairs = tuple((task, item) for task, slash, item in (str(c).strip().rpartition("/") for c in columns))
    if not pairs or not all(task and item for task, item in pairs):
        odd = next((c for c, (task, item) in zip(columns, pairs, strict=True) if not (task and item)), "no item at all")
        raise CalibrationError(f"{path} names an item '{odd}'; wanted TASK/ITEM, ITEM being its content hash.")
    if len({*pairs}) < len(pairs):
        twice = next(p for i, p in enumerate(pairs) if p in pairs[:i])
        raise CalibrationError(f"{path} holds the item '{'/'.join(twice)}' twice. Keep one of them.")
    return pairs


def is_ours(path: Path) -> bool:
    """Whether `evomerge calibrate` or a run wrote the file."""
    return "schema" in read_arrays(path)


def read_npz(path: Path) -> Matrix:
    """Arrays `responses` (models, items) of numbers, `models` and `items` of strings, as public matrices are stored."""
    arrays = read_arrays(path)
    for name in ("responses", "models", "items"):
        if name not in arrays:
            raise CalibrationError(
                f"{path} has no array '{name}', but: {', '.join(arrays) or 'none'}. Wanted responses (models, items) "
                "of numbers, models and items of strings."
            )
    models, responses = arrays["models"].ravel().astype(str).tolist(), arrays["responses"]
    items = named(arrays["items"].ravel().astype(str).tolist(), path)
    if responses.dtype.kind not in "biuf" or responses.shape != (len(models), len(items)):
        raise CalibrationError(
            f"{path}: responses are {responses.dtype} {responses.shape}; wanted numbers {(len(models), len(items))}, "
            "as there are models and items."
        )
    return Matrix(tuple(models), items, responses.astype(np.float64))
