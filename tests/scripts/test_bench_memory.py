"""scripts/bench_memory.py: its arithmetic, done another way; what it measures is not asked here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch

from evomerge.doctor.profiles import typical
from evomerge.memory.plan import Machine, plan
from evomerge.models.family import Family, open_family
from tests.models_pico import make_pico

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module", autouse=True)
def scripts_path() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield
    for name in [m for m in sys.modules if m == "bench_memory" or m.split(".")[0] == "benchmarks"]:
        del sys.modules[name]


def part(name: str) -> ModuleType:
    return import_module(f"benchmarks.memory_{name}")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("traffic")
    base = make_pico(root / "base", seed=0)
    return [base, *(make_pico(root / name, seed=k, base=base) for k, name in enumerate("ab", 1))]


def opened(folders: list[Path]) -> Family:
    return open_family([str(p) for p in folders[1:]], str(folders[0]))


def test_an_operation_moves_what_it_reads_and_writes_and_a_view_nothing():
    a, b = torch.ones(10), torch.ones(10)
    with part("traffic").Traffic() as traffic:
        _ = a.view(2, 5)
        assert traffic.bytes == 0
        a.add(b)
        assert traffic.bytes == 3 * 40
        a.to(torch.bfloat16)
        assert traffic.bytes == 3 * 40 + 60


def test_reading_the_parents_is_not_counted_whoever_is_the_first(folders):
    count = part("traffic").per_entry
    family = opened(folders)
    first = count(family, "task_arithmetic", 2)
    assert first == count(family, "task_arithmetic", 2) == count(opened(folders), "task_arithmetic", 2) > 0
    assert count(family, "task_arithmetic", 4) > first


def test_a_compiled_loop_reads_base_and_parents_once_and_writes_once():
    moved = part("traffic").fused_per_entry
    assert moved("ties", 3, base=True) == 2 * (3 + 1 + 1) and moved("linear", 3, base=False) == 2 * (3 + 1)
    assert moved("della", 3, base=True) == 2 * (3 + 1 + 1) + 4 * 3, "ranks are read, too"


def test_parents_in_files_that_the_host_can_hold_come_as_fast_as_from_the_host():
    tables = part("tables")
    there = Placed(plan(typical("7B"), Machine(10**11, 10**13)), 4, "disk")
    there.at_hand = True
    assert tables.cost(there, tables.RATES["8x80gb"], 10.0).bringing == pytest.approx(there.parents / 20e9)


@pytest.mark.parametrize("workers, host, disk", [(1, 20.0, 3.0), (4, 20.0, 0.75), (8, 12.5, 0.375)])
def test_workers_share_what_host_and_disk_bring(workers, host, disk):
    tables = part("tables")
    found = plan(typical("7B"), Machine(10**11, 10**13))
    for placement, rate in (("host", host), ("disk", disk), ("device", None)):
        there = Placed(found, workers, placement)
        cost = tables.cost(there, tables.RATES["8x80gb"], 120.0)
        assert cost.bringing == pytest.approx(found.parents / (rate * 1e9) if rate else 0.0)
        each = cost.building + cost.bringing + cost.scoring
        assert cost.a_minute == pytest.approx(60 / each * workers)
        assert cost.building == pytest.approx(120 * found.job.shape.parameters / 2.3e12)


class Placed:
    """A plan whose parents lie where they are said to."""

    def __init__(self, found, workers: int, placement: str) -> None:
        self.job, self.parents, self.placement = found.job, found.parents, placement
        self.machine, self.at_hand = replace(found.machine, workers=workers), False


@pytest.mark.parametrize("script", ["bench_memory", "bench_scale"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(script, tmp_path, monkeypatch, capsys):
    module = import_module(script)
    for path, told in ((tmp_path / "none" / "rows.json", "make it first"), (tmp_path, "wanted a file")):
        monkeypatch.setattr(sys, "argv", [script, "--quick", "--json", str(path)])
        with pytest.raises(SystemExit) as ended:
            module.main()
        assert ended.value.code == 2 and told in capsys.readouterr().err
