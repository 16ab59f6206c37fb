"""Folders that others read for a while: what killed processes left is removed, what lives is not."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from evomerge.backends.scratch import HOUR, new_folder


@pytest.fixture
def left(tmp_path):
    """The folder of a process that was killed."""
    code = f"import os; from pathlib import Path; from evomerge.backends.scratch import new_folder\n\
print(new_folder(Path({str(tmp_path)!r})), flush=True); os.kill(os.getpid(), 9)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
    return tmp_path / os.path.basename(found)


def age(folder, seconds):
    then = time.time() - seconds
    os.utime(folder, (then, then))


def test_a_new_folder_is_its_owners_alone(tmp_path):
    one, other = new_folder(tmp_path), new_folder(tmp_path)
    assert one != other and one.is_dir() and one.stat().st_mode & 0o777 == 0o700


def test_what_a_killed_process_left_is_removed_after_an_hour(tmp_path, left):
    (left / "adapter").mkdir()
    new_folder(tmp_path)
    assert left.is_dir(), "it may live where we do not see it"
    age(left, 2 * HOUR)
    new_folder(tmp_path)
    assert not left.exists()


def test_the_folder_of_a_living_process_and_of_another_machine_are_left_alone(tmp_path):
    mine, foreign = new_folder(tmp_path), tmp_path / "evomerge-elsewhere-1-x"
    foreign.mkdir()
    for folder in (mine, foreign):
        age(folder, 2 * HOUR)
    new_folder(tmp_path)
    assert mine.is_dir() and foreign.is_dir()
