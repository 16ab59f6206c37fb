"""A real search on real (tiny) models, killed twenty times with SIGKILL and resumed: the journal is always the same."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evomerge import config, launch, preparation
from evomerge.journal import rows, unwatched

pytestmark = pytest.mark.slow

KINDS = ("asked", "write", "written", "synced", "evaluated", "committed", "told")


def run(command: list[str], folder: Path, evaluations: int = 24, watch: Callable[..., None] = unwatched) -> None:
    settings = [*command[1:], "space.method=dare_ties", f"budget.evaluations={evaluations}"]
    prepared = preparation.prepare(config.settings(settings), folder)
    launch.run(prepared, folder, {"overrides": settings, "config_dirs": [], "cwd": "."}, watch)


def run_killed(
    command: list[str], folder: Path, watch: Callable[..., None] = unwatched, after: float | None = None
) -> None:
    """Run in a forked child that `watch` kills, or that is killed after so many seconds."""
    child = os.fork()
    if child == 0:
        try:
            run(command, folder, watch=watch)
        finally:
            os._exit(0)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def die_at(kind: str, nth: int) -> Callable[..., None]:
    seen = iter(range(nth))

    def watch(step: str, /, **facts: object) -> None:
        if step == kind and next(seen, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    return watch


def canonical(folder: Path) -> list[str]:
    return sorted(map(repr, rows(folder)))


@pytest.fixture(scope="module")
def undisturbed(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills") / "whole"
    began = time.monotonic()
    run(command, folder)
    return folder, time.monotonic() - began


@pytest.mark.parametrize("nth", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_a_step_it_resumes_to_the_same_journal(command, undisturbed, tmp_path, kind, nth):
    run_killed(command, tmp_path, die_at(kind, nth))
    assert canonical(tmp_path) != canonical(undisturbed[0])
    run(command, tmp_path)
    assert canonical(tmp_path) == canonical(undisturbed[0])


@pytest.mark.parametrize("seed", range(6))
def test_killed_at_a_random_moment_it_resumes_to_the_same_journal(command, undisturbed, tmp_path, seed):
    run_killed(command, tmp_path, after=random.Random(seed).uniform(0.1, 0.9) * undisturbed[1])
    run(command, tmp_path)
    assert canonical(tmp_path) == canonical(undisturbed[0])


def test_twenty_four_extended_to_forty_has_the_search_rows_of_forty(command, undisturbed, tmp_path):
    def searched(folder: Path) -> list[str]:
        return sorted(repr(r) for r in rows(folder) if r.get("phase") == "search" and r["row"] != "stop")

    run(command, tmp_path / "forty", evaluations=40)
    run(command, undisturbed[0], evaluations=40)
    assert searched(undisturbed[0]) == searched(tmp_path / "forty")
    assert sum("'row': 'evaluation'" in row for row in searched(undisturbed[0])) == 40
