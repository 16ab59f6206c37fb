"""Tests of the vLLM backends run in the environment of scripts/setup_vllm.sh; elsewhere they are not collected."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

collect_ignore_glob: list[str] = []
if find_spec("vllm") is None:
    print("tests/vllm: not collected, vLLM is not installed here (bash scripts/test_vllm.sh runs them)")
    collect_ignore_glob += ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/vllm/" in item.path.as_posix():
            item.add_marker("vllm")
            item.add_marker(pytest.mark.filterwarnings("default"))  # vLLM's imports warn of torch's plans
