"""A family of three tiny real parents."""

from __future__ import annotations

import pytest

from evomerge.models.family import open_family
from tests.models_pico import make_pico


@pytest.fixture(scope="session")
def trio(pico, tmp_path_factory):
    third = make_pico(tmp_path_factory.mktemp("third"), seed=3, base=pico["base"])
    return open_family([str(pico["a"]), str(pico["b"]), str(third)], str(pico["base"]))
