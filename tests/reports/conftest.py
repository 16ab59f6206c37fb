"""One finished run for all tests of reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sphere import run


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Path:
    """A finished run with a poor header."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return folder
