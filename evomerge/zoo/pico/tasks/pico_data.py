"""Datasets of the pico tasks, read from the JSONL files beside this file, so the folder can be moved."""

import json
from pathlib import Path

from datasets import Dataset

DATA = Path(__file__).resolve().parent / "data"
SPLITS = ("validation", "test")


def load(task: str) -> dict[str, Dataset]:
    """Read both splits of one task."""
    return {split: read(DATA / f"{task}_{split}.jsonl") for split in SPLITS}


def read(path: Path) -> Dataset:
    with path.open(encoding="utf-8") as file:
        return Dataset.from_list([json.loads(line) for line in file])


def load_rev(**_: object) -> dict[str, Dataset]:
    return load("pico_rev")


def load_add(**_: object) -> dict[str, Dataset]:
    return load("pico_add")


def load_nxt(**_: object) -> dict[str, Dataset]:
    return load("pico_nxt")


def load_both(**_: object) -> dict[str, Dataset]:
    return load("pico_both")
