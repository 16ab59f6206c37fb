"""Measures made as the settings make them, over files of a few prompts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evomerge.config import make
from evomerge.tasks.measures import targeted

PROMPTS = [f"{'Tell me about ' * (k % 4)}number {k}{'!' * (k % 3)}" for k in range(24)]


def measure(name: str = "it", **node: Any) -> Any:
    return make(f"measures.{name}", targeted(name, node), name=name, split={"seed": 0})


def prompt_file(folder: Path, prompts: Sequence[str] = PROMPTS) -> Path:
    file = folder / "prompts.txt"
    file.write_text("\n".join(prompts), encoding="utf-8")
    return file


def record_file(folder: Path, docs: Sequence[dict[str, Any]]) -> Path:
    file = folder / "records.jsonl"
    file.write_text("".join(json.dumps(doc, ensure_ascii=False) + "\n" for doc in docs), encoding="utf-8")
    return file


def everything(task: Any) -> list[str]:
    return [item for ids in task.items.values() for item in ids]


def prompt_of(task: Any, item: str) -> str:
    return task._corpus.docs[item]["prompt"]
