"""The picture of a survey."""

from __future__ import annotations

import struct
import sys

import numpy as np
import pytest

from evomerge.errors import ConfigError
from evomerge.survey.plot import plot
from tests.survey.made import surveyed


@pytest.mark.parametrize("based", [True, False])
def test_it_is_a_png_of_the_promised_size_with_something_in_each_third(pico, tmp_path, based):
    from matplotlib import image  # the test environment has it: a missing plot is a failure

    path = tmp_path / "parents.png"
    plot(surveyed(pico["base"] if based else None, pico["a"], pico["b"]), path)
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (1800, 624)
    pixels = image.imread(path)[:, :, :3]
    thirds = np.split(pixels, 3, axis=1) if based else [pixels]
    assert all(len(np.unique(third @ [1, 1e3, 1e6])) > 20 for third in thirds)  # colours, not one blank field


def test_without_matplotlib_the_extra_is_named(pico, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(ConfigError, match=r"evomerge\[plots\]"):
        plot(surveyed(pico["base"], pico["a"]), tmp_path / "parents.png")


def test_a_folder_that_is_not_there_is_named(pico, tmp_path):
    with pytest.raises(ConfigError, match=r"none/parents\.png"):
        plot(surveyed(pico["base"], pico["a"]), tmp_path / "none" / "parents.png")
