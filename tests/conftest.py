"""Tiny real models, made once per session."""

from __future__ import annotations

import os
import signal

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before any library that reads them is imported
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pathlib import Path

import pytest
import torch

from evomerge.cli import main
from tests.models_pico import make_pico
from tests.task_folder import TASKS, make_tasks

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as jobs in a shell's background inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests go first: a worker that came to one last would end minutes after the others."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def pico(tmp_path_factory) -> dict[str, Path]:
    """A random base and two experts near it, 2 blocks of llama, tied embeddings, float32."""
    root = tmp_path_factory.mktemp("pico")
    base = make_pico(root / "base", seed=0)
    return {"base": base, "a": make_pico(root / "a", seed=1, base=base), "b": make_pico(root / "b", seed=2, base=base)}


@pytest.fixture(scope="session")
def task_folder(tmp_path_factory) -> Path:
    return make_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="session")
def command(pico, task_folder) -> list[str]:
    """`evomerge search` on the tiny models and tasks; a run folder and a budget are to be added."""
    return [
        "search",
        f"parents.base={pico['base']}",
        f"parents.models=[{pico['a']},{pico['b']}]",
        f"task.names=[{','.join(TASKS)}]",
        f"task.include_path={task_folder}",
        "control.points=3",
        "finalists=2",
        "threads=1",
        "device=cpu",
    ]


@pytest.fixture(scope="session")
def finished(command, tmp_path_factory) -> Path:
    """A finished run of 9 evaluations over a TIES space."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert main([*command, "space.method=ties", "optimizer=cma_es", "budget.evaluations=9", f"run={folder}"]) == 0
    return folder
