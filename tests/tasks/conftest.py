"""Tiny checkpoints, and task folders with local JSONL data."""

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.backends.hf import HFBackend
from tests.models_pico import make_pico

KINDS: dict[str, dict[str, Any]] = {
    "choice": {
        "output_type": "multiple_choice",
        "doc_to_target": "label",
        "doc_to_choice": "{{choices}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    },
    "margin": {  # multiple choice with a real-valued score
        "output_type": "multiple_choice",
        "doc_to_target": "label",
        "doc_to_choice": "{{choices}}",
        "process_results": "!function scoring.margin",
        "metric_list": [{"metric": "margin", "aggregation": "mean", "higher_is_better": True}],
    },
    "loglik": {
        "output_type": "loglikelihood",
        "doc_to_target": "answer",
        "metric_list": [
            {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
            {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        ],
    },
    "rolling": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{question}} {{answer}}",
        "metric_list": [
            {"metric": m, "aggregation": a, "higher_is_better": False}
            for m, a in [
                ("word_perplexity", "weighted_perplexity"),
                ("byte_perplexity", "weighted_perplexity"),
                ("bits_per_byte", "bits_per_byte"),
            ]
        ],
    },
    "generate": {
        "output_type": "generate_until",
        "doc_to_target": "answer",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8, "do_sample": False},
        "process_results": "!function scoring.spelling",
        "metric_list": [{"metric": "spelling", "aggregation": "mean", "higher_is_better": True}],
        "filter_list": [
            {
                "name": "half",
                "filter": [{"function": "regex", "regex_pattern": "(.{1,3})"}, {"function": "take_first"}],
            },
            {"name": "whole", "filter": [{"function": "take_first"}]},
        ],
    },
}
SCORING = """
def margin(doc, results):
    logliks = [loglik for loglik, _ in results]
    return {"margin": logliks[doc["label"]] - max(logliks)}

def spelling(doc, results):
    return {"spelling": float(sum(map(ord, results[0])))}
"""


def make_docs(n: int, start: int = 0) -> list[dict[str, Any]]:
    """Sums, each with a question of its own, some alike in length; `topic` groups them by fours."""
    docs = []
    for k in range(start, start + n):
        answer = 3 * k + 7
        choices = [str(answer), str(answer + 1), f"{answer}0"]
        random.Random(k).shuffle(choices)
        question = f"What is {k} and {2 * k + 7}{'?' * (k % 3 + 1)}"
        docs.append(
            {"question": question, "answer": f" {answer}", "choices": choices, "label": choices.index(str(answer))}
            | {"topic": f"topic {k // 4}"}
        )
    return docs


def write_docs(file: Path, docs: Sequence[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    return file


def write_task(folder: Path, name: str, kind: str, splits: dict[str, Sequence[dict[str, Any]]], **config: Any) -> Path:
    """Writes data and YAML of a task. `splits` gives the documents by split ("train", "validation", "test")."""
    folder.mkdir(exist_ok=True)
    (folder / "scoring.py").write_text(SCORING)
    files = {s: str(write_docs(folder / f"{name}_{s}.jsonl", docs)) for s, docs in splits.items()}
    keys = {"train": "training_split", "validation": "validation_split", "test": "test_split"}
    text = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        "doc_to_text": "{{question}}",
        **{keys[s]: s for s in splits},
        **KINDS[kind],
        "metadata": {"version": 1.0},
        **config,
    }
    tagged = re.sub(r"'!function ([\w.]+)'", r"!function \1", yaml.safe_dump(text))
    (folder / f"{name}.yaml").write_text(tagged)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pico(tmp_path_factory.mktemp("pico") / "base", seed=1)


@pytest.fixture(scope="session")
def expert_folder(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Path:
    return make_pico(tmp_path_factory.mktemp("pico") / "expert", seed=2, base=base_folder)


@pytest.fixture(scope="session")
def make_backend(base_folder: Path) -> Callable[..., HFBackend]:
    """A fresh live model of a folder."""

    def make(folder: Path = base_folder, batch_size: int = 4) -> HFBackend:
        model = AutoModelForCausalLM.from_pretrained(folder)
        return HFBackend(batch_size=batch_size, share_prefix=False).wrap(model, AutoTokenizer.from_pretrained(folder))

    return make


@pytest.fixture(scope="session")
def backend(make_backend: Callable[..., HFBackend]) -> HFBackend:
    return make_backend()
