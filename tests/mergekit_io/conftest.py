"""Tiny llamas as mergekit's YAMLs name them: llamas/base, llamas/math, ... from the folder the tests run in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mergekit_io.llamas import make_llamas


@pytest.fixture(scope="session")
def llamas(tmp_path_factory) -> Path:
    return make_llamas(tmp_path_factory.mktemp("mergekit") / "llamas")


@pytest.fixture
def here(llamas, monkeypatch) -> Path:
    """The folder that has `llamas`; the test runs in it."""
    monkeypatch.chdir(llamas.parent)
    return llamas.parent
