"""scripts/bench_build.py on a generated family of a million parameters; how fast anything is, is not asked here."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evomerge import build
from evomerge.methods import METHODS
from evomerge.models.family import Family, open_family

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
RANK = 4


@pytest.fixture(scope="module", autouse=True)
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield import_module("bench_build")
    for name in [m for m in sys.modules if m == "bench_build" or m.split(".")[0] == "benchmarks"]:
        del sys.modules[name]


def part(name: str) -> ModuleType:
    return import_module(f"benchmarks.build_{name}")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    generated = part("family")
    return generated.make_family(tmp_path_factory.mktemp("family"), generated.SHAPES["1M"], 3, torch.bfloat16)


@pytest.fixture(scope="module")
def adapters(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [folders[0], *part("family").make_adapters(tmp_path_factory.mktemp("lora"), folders[0], 2, RANK)]


def opened(made: list[Path]) -> Family:
    return open_family([str(path) for path in made[1:]], str(made[0]))


def size_of(shapes: Any) -> int:
    return sum(math.prod(shape) for shape in shapes)


# ---------------------------------------------------------------- families


def test_a_family_is_the_same_each_time_and_its_experts_are_not(folders, tmp_path):
    generated = part("family")
    again = generated.make_family(tmp_path, generated.SHAPES["1M"], 1, torch.bfloat16)
    contents = [(path / "model.safetensors").read_bytes() for path in folders]
    assert [(path / "model.safetensors").read_bytes() for path in again] == contents[:2]
    assert len(set(contents)) == 4


def test_experts_are_as_far_from_their_base_as_is_said_and_every_other_one_has_heavy_tails(folders):
    base, *experts = (load_file(path / "model.safetensors") for path in folders)
    name = "model.embed_tokens.weight"
    normal, tailed = (expert[name].float() - base[name].float() for expert in experts[:2])
    drift = part("family").DRIFT
    assert float(normal.std()) == pytest.approx(drift, rel=0.05)
    assert float(tailed.median()) == pytest.approx(0, abs=drift / 50)
    assert float(normal.abs().max()) < 6 * drift < 15 * drift < float(tailed.abs().max())


def test_adapters_change_linear_layers_alone_as_much_as_experts_do(adapters):
    family = opened(adapters)
    digest = family.parents[0].digest
    touched = [name for name in family.shapes if family.touches(digest, name)]
    assert set(touched) == {n for n, shape in family.shapes.items() if len(shape) == 2 and "embed" not in n}
    delta = family.delta(digest, touched[0], torch.device("cpu"))
    assert float(delta.std()) == pytest.approx(part("family").DRIFT, rel=0.3)


# ---------------------------------------------------------------- cases


@pytest.mark.parametrize("method", METHODS)
def test_candidates_of_every_method_differ_and_stay_in_their_knobs_ranges(method, folders):
    pool, cases = opened(folders).pool(), part("cases")
    for case in cases.cases([method], [3], mergekit=True):
        found = [cases.candidate(pool, case, number).slots[0].blends["*"].knobs for number in range(30)]
        moved = [k for k in METHODS[method].knobs if k.scale != "choice" and k.name not in dict(case.held)]
        assert len({str(knobs) for knobs in found}) == (30 if moved else 1)
        for knob in moved:
            values = [v for knobs in found for v in _all(knobs[knob.name])]
            assert knob.low <= min(values) and max(values) <= knob.high


def _all(value: Any) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


def test_a_method_gets_as_many_parents_as_it_takes_and_no_case_comes_twice():
    found = list(part("cases").cases(list(METHODS), [2, 3, 4], mergekit=True))
    assert len(set(found)) == len(found)
    for name, method in METHODS.items():
        low, high = method.arity
        assert {c.parents for c in found if c.method == name} == {max(low, min(n, high or n)) for n in (2, 3, 4)}


def test_dare_is_also_rescaled_as_mergekit_does_it_and_only_that_is_compared(folders):
    cases = list(part("cases").cases(["task_arithmetic", "dare_ties"], [3]))
    assert [(c.method, c.settings) for c in cases] == [
        ("task_arithmetic", ""),
        ("dare_ties", "density=0.3, rescale=inv_p"),
        ("dare_ties", "density=0.3, rescale=l1"),
    ]
    said = part("mergekit").said(opened(folders), cases)
    assert list(said) == [cases[0], cases[2]]
    assert said[cases[2]]["merge_method"] == "dare_ties" and said[cases[2]]["dtype"] == "bfloat16"


# ---------------------------------------------------------------- floors and memory


def test_inputs_are_read_once_and_the_model_is_written_once(folders, adapters):
    moved, cases = part("floor").bytes_moved, part("cases")
    family = opened(folders)
    live = {name: torch.empty(shape, dtype=torch.bfloat16) for name, shape in family.shapes.items()}
    entries = size_of(family.shapes.values())

    def counted(of: Family, method: str, parents: int) -> int:
        return moved(cases.candidate(of.pool(), cases.Case(method, parents), 0), of, live)

    assert counted(family, "linear", 3) == 2 * entries * (3 + 1)
    assert counted(family, "task_arithmetic", 2) == 2 * entries * (2 + 2)
    factors = sum(RANK * sum(s) for n, s in family.shapes.items() if len(s) == 2 and "embed" not in n)
    assert counted(opened(adapters), "task_arithmetic", 2) == 2 * entries * 2 + 2 * 4 * factors


PEAKS = """
import torch
from benchmarks.build_measured import forget_peak, peak_bytes
forget_peak()
before = peak_bytes()
torch.ones(2**24)  # 64 MB, and gone
seen = peak_bytes()
forget_peak()
print(seen - before, peak_bytes() - before)
"""


def test_the_peak_of_memory_is_seen_and_forgotten():
    """In a process of its own, as cases are measured: in this one, garbage of other tests may go at any moment."""
    code = [sys.executable, "-c", PEAKS]
    seen, left = map(int, subprocess.run(code, cwd=SCRIPTS, capture_output=True, check=True).stdout.split())
    assert 2**26 < seen + 2**22 < 2**27
    assert left < 2**25


# ---------------------------------------------------------------- runs


def test_a_run_writes_rows_whose_figures_fit_together(script, tmp_path, capsys):
    file = tmp_path / "rows.json"
    script.main(["--parameters", "1M", "--methods", "task_arithmetic", "--parents", "2", "--json", str(file)])
    (row,) = json.loads(file.read_text())
    named = {"method": "task_arithmetic", "threads": 1, "parents": 2, "mergekit_seconds": None, "lora": False}
    assert row.items() >= named.items()
    assert row["parameters"] == size_of(part("family")._shapes(part("family").SHAPES["1M"]).values())
    assert row["bytes_moved"] == 8 * row["parameters"]
    assert row["bytes_moved"] < row["models_bytes"] < 1.01 * row["bytes_moved"]  # files have headers
    assert row["floor_seconds"] == pytest.approx(row["bytes_moved"] / row["bandwidth"])
    assert row["ratio"] == pytest.approx(row["seconds"] / row["floor_seconds"])
    assert 0 < row["seconds"] < row["compile_seconds"] and row["eager_seconds"] != row["seconds"]
    assert "task_arithmetic" in capsys.readouterr().out


def test_adapters_are_built_over_their_base_and_without_a_compiler(adapters, monkeypatch):
    measured, case = part("measured"), part("cases").Case("task_arithmetic", 2)
    monkeypatch.setattr(measured, "Streams", lambda: part("floor").Streams(2**16))
    threads = torch.get_num_threads()
    plan = measured.Plan([str(path) for path in adapters], [case], threads, 3, compiles=False, eager=())
    (row,) = measured.measure(plan)
    assert row.lora and row.compile_seconds is None and row.eager_seconds == row.seconds


def test_what_is_written_is_the_candidates_merge(folders, monkeypatch):
    measured, cases = part("measured"), part("cases")
    family, case = opened(folders), cases.Case("task_arithmetic", 3)
    plan = measured.Plan([str(path) for path in folders], [case], 1, 3, compiles=False, eager=())
    bench = measured.Bench(family, plan, part("floor").Streams(2**16), 0)
    bench.touch()
    wanted = {name: torch.empty_like(tensor) for name, tensor in bench.live.items()}
    build.write(cases.candidate(family.pool(), case, 0), opened(folders), wanted)
    assert all(torch.equal(bench.live[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(
    "given, told",
    [
        (["--parameters", "2M"], "there is no shape 2M"),
        (["--parents", "3,0"], "below 1"),
        (["--mergekit", sys.executable], "no Python with mergekit"),
        (["--json", "nowhere/rows.json"], "make it first"),
    ],
)
def test_what_cannot_be_served_is_refused_before_anything_is_measured(given, told, script, capsys):
    with pytest.raises(SystemExit) as ended:
        script.main(given)
    assert ended.value.code == 2 and told in capsys.readouterr().err


def test_tables_tell_every_row_and_what_threads_gain(script):
    measured, table = part("measured"), part("table")
    known = dict.fromkeys(measured.Row.__dataclass_fields__, 0)
    one = measured.Row(**{**known, "method": "ties", "settings": "", "threads": 1, "seconds": 3.0, "bandwidth": 10.0})
    two = measured.Row(**{**known, "method": "ties", "settings": "", "threads": 2, "seconds": 2.0, "bandwidth": 12.0})
    assert table.times([one, two]).row_count == 2
    gains = table.threads([one, two])
    cells = [list(column.cells) for column in gains.columns[-3:]]
    assert cells == [["1.5"], ["1.2"], ["1.25"]]
