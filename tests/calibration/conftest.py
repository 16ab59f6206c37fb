"""A real evaluator: tiny models, a task of choices, one of rolling log-likelihoods and one of generation."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

from evomerge.backends.hf import HFBackend
from evomerge.evaluate import Evaluator
from evomerge.models.family import open_family
from evomerge.spaces.references import references
from evomerge.tasks.harness import load
from tests.tasks.conftest import make_docs, write_task

DOCS = make_docs(24)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(scope="session")
def quiz_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`choice`, `rolling` and `generate`, each with 14 validation and 10 test documents."""
    folder = tmp_path_factory.mktemp("quizzes")
    for kind in ("choice", "rolling", "generate"):
        write_task(folder, kind, kind, {"validation": DOCS[:14], "test": DOCS[14:]})
    return folder


@pytest.fixture
def evaluator(pico: dict[str, Path], quiz_folder: Path) -> Any:
    family = open_family([str(pico["a"]), str(pico["b"])], str(pico["base"]))
    tasks = load(["choice", "rolling", "generate"], quiz_folder)
    return Evaluator(family, tasks, HFBackend(batch_size=4), torch.device("cpu"), "float32", 1)


@pytest.fixture
def recipes(evaluator: Any) -> dict[str, Any]:
    return references(evaluator.family.pool(), seed=1, dtype="float32")
