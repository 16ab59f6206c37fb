"""SIGTERM, as Slurm sends it before it takes a job's machine away: the run is closed and asks to be requeued."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from evomerge.cli import main
from evomerge.journal import rows
from evomerge.reports.sweep import held


@pytest.fixture
def line(command, tmp_path):
    """The run of the fixture `finished`, in a folder of its own."""
    words = ["space.method=ties", "optimizer=cma_es", "budget.evaluations=9", f"run={tmp_path / 'run dir'}"]
    return [*command, *words]


def start(line):
    python = [sys.executable, "-m", "evomerge.cli", *line]
    return subprocess.Popen(python, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for_rows(path, n, seconds=300):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.is_file() and path.read_bytes().count(b"\n") >= n:
            return
        time.sleep(0.02)
    pytest.fail(f"{path} did not get {n} rows in {seconds} s")


def canonical(folder):
    return sorted(map(repr, rows(folder)))


def test_sigterm_closes_the_run_asks_to_be_requeued_and_the_same_command_ends_as_undisturbed(line, finished, tmp_path):
    folder = tmp_path / "run dir"
    child = start(line)
    wait_for_rows(folder / "journal.jsonl", 8)
    child.send_signal(signal.SIGTERM)
    child.send_signal(signal.SIGTERM)  # impatience does not disturb the closing
    _, err = child.communicate(timeout=300)
    assert child.returncode == os.EX_TEMPFAIL == 75
    assert f"Resume with: evomerge resume '{folder}'" in err and "Traceback" not in err
    assert (folder / "journal.jsonl").read_bytes().endswith(b"\n") and not held(folder)
    assert len(rows(folder)) < len(rows(finished))
    assert main(["resume", str(folder)]) == 0
    assert canonical(folder) == canonical(finished)


def test_a_command_that_is_terminated_before_there_is_a_run_asks_to_be_requeued_too(monkeypatch):
    from evomerge.commands import asking, search

    def terminated(args):
        asking.interrupt_on_term()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(search, "main", terminated)
    try:
        assert main(["search"]) == 75
    finally:
        signal.signal(signal.SIGTERM, before)
