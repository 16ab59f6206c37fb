"""Kill workers and drivers of one search at random; in the end its journal must be that of an undisturbed one.

    python scripts/torture.py --workers 30 --drivers 10 --json counts.json

The embedded zoo is searched by two worker processes, each kill a SIGKILL shortly after an attempt was begun; then the
same search is made by one process that nobody touches, and the canonical rows are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from evomerge.journal import events, rows

SEARCH = ("optimizer=cma_es", "space.method=dare_ties", "subset=random", "subset.n=24", "control=none", "threads=1")
#: Strikes enough: three kills of ours over one candidate would otherwise end it as failed, as they should.
TWO = ("executor=processes", "executor.workers=2", "executor.strikes=100")


def drive(folder: Path, settings: list[str]) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", "evomerge.cli", "search", *settings, f"run={folder}", "device=cpu"]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def attempts(folder: Path) -> int:
    path = folder / "events.jsonl"
    return path.read_bytes().count(b'"event":"attempt"') if path.is_file() else 0


def wait_for_attempt(folder: Path, driver: subprocess.Popen[bytes]) -> bool:
    """Whether one was begun before the search ended."""
    before = attempts(folder)
    while driver.poll() is None:
        if attempts(folder) > before:
            return True
        time.sleep(0.005)
    return False


def workers_of(driver: int) -> list[psutil.Process]:
    return [p for p in psutil.Process(driver).children() if "evomerge.executors.worker" in p.cmdline()]


def torture(folder: Path, settings: list[str], workers: int, drivers: int, seed: int) -> dict[str, Any]:
    """Kill until all kills are spent or the search has ended, then let it end."""
    draw, done, orphans = random.Random(seed), Counter[str](), 0
    while done["drivers"] < drivers:
        driver = drive(folder, [*settings, *TWO])
        for left in reversed(range(1 + (workers - done["workers"]) // (drivers - done["drivers"]))):
            if not wait_for_attempt(folder, driver):
                return {**done, "orphans": orphans}
            time.sleep(draw.uniform(0, 0.2))
            found = workers_of(driver.pid)
            if left and found:
                draw.choice(found).kill()
                done["workers"] += 1
            elif not left:
                driver.kill()
                driver.wait()
                done["drivers"] += 1
                orphans += len(psutil.wait_procs(found, timeout=5)[1])
        print(f"killed {done['workers']} workers, {done['drivers']} drivers", file=sys.stderr, flush=True)
    assert drive(folder, [*settings, *TWO]).wait() == 0, "the search did not end"
    return {**done, "orphans": orphans}


def counts(folder: Path, undisturbed: Path) -> dict[str, Any]:
    found = events(folder)
    paid = Counter((e["phase"], e["id"], e["rung"]) for e in found if e["event"] == "done")
    return {
        "rows": len(rows(folder)),
        "equal": sorted(map(repr, rows(folder))) == sorted(map(repr, rows(undisturbed))),
        "attempts": attempts(folder),
        "deaths": sum(e["event"] == "died" for e in found),
        "most_strikes": max((e["strikes"] for e in found if e["event"] == "died"), default=0),
        "failed": sum(row.get("error") is not None for row in rows(folder)),
        "paid": len(paid),
        "paid_twice": sum(n - 1 for n in paid.values()),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=30, help="workers to kill")
    parser.add_argument("--drivers", type=int, default=10, help="drivers to kill")
    parser.add_argument("--evaluations", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the counts there")
    asked = parser.parse_args(arguments)
    settings = [*SEARCH, f"budget.evaluations={asked.evaluations}"]
    with tempfile.TemporaryDirectory() as root:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        killed = torture(Path(root, "killed"), settings, asked.workers, asked.drivers, asked.seed)
        assert drive(Path(root, "whole"), settings).wait() == 0
        found = {**killed, **counts(Path(root, "killed"), Path(root, "whole"))}
    for name, value in found.items():
        print(f"{name:12} {value}")
    if asked.json:
        asked.json.write_text(json.dumps([found], indent=1) + "\n")
    return 0 if found["equal"] and not found["orphans"] else 1


if __name__ == "__main__":
    sys.exit(main())
