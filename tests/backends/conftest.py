"""Tiny checkpoints for the backends."""

from pathlib import Path

import pytest

from tests.models_pico import make_pico


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pico(tmp_path_factory.mktemp("pico") / "base", seed=1)


@pytest.fixture(scope="session")
def expert_folder(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Path:
    return make_pico(tmp_path_factory.mktemp("pico") / "expert", seed=2, base=base_folder)
