"""A folder of small lm-eval tasks with local data, for whole runs in tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

TASKS = ("sums", "letters")


def make_tasks(folder: Path, n: int = 20) -> Path:
    """`sums` (multiple choice) and `letters` (generation), with n validation and n test items each."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(
        folder,
        "sums",
        _sum,
        n,
        {"output_type": "multiple_choice", "doc_to_choice": "{{choices}}", "doc_to_target": "label"},
        "acc",
    )
    generation = {"until": ["\n"], "max_gen_toks": 3, "do_sample": False}
    settings = {"output_type": "generate_until", "doc_to_target": "answer", "generation_kwargs": generation}
    _write(folder, "letters", _letter, n, settings, "exact_match")
    return folder


def _sum(k: int) -> dict[str, Any]:
    return {"question": f"{k}+{k}=", "choices": [str(2 * k), str(2 * k + 1), str(k)], "label": 0}


def _letter(k: int) -> dict[str, Any]:
    return {"question": f"{k}: ", "answer": "abc"[k % 3]}


def _write(folder: Path, name: str, doc: Any, n: int, settings: dict[str, Any], metric: str) -> None:
    files = {}
    for split, start in (("validation", 0), ("test", n)):
        path = folder / f"{name}_{split}.jsonl"
        path.write_text("".join(json.dumps(doc(k)) + "\n" for k in range(start, start + n)))
        files[split] = str(path)
    config = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        "validation_split": "validation",
        "test_split": "test",
        "num_fewshot": 0,
        "doc_to_text": "{{question}}",
        "metric_list": [{"metric": metric, "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0},
        **settings,
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
