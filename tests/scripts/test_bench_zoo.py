"""scripts/bench_zoo.py on a few items of the embedded zoo."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from evomerge import api
from evomerge.journal import rows as journal_rows
from evomerge.optimizers.cma_es import CmaEs
from evomerge.problem import Problem
from evomerge.reports.nouns import Cost, Report, Standing, TaskFacts
from evomerge.spaces.mergekit import MergekitSpace
from evomerge.types import Estimate, Metric, Pool

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
KEYS = {
    *("search", "seeds", "evaluations", "items", "seconds", "test_mean"),
    *(f"{name}_{end}" for name in ("gap_closed", "kept") for end in ("median", "low", "high")),
}
EVALUATIONS = 14


@pytest.fixture(scope="module")
def script() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield import_module("bench_zoo")
    for name in [m for m in sys.modules if m == "bench_zoo" or m.split(".")[0] == "benchmarks"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def bench(script: ModuleType) -> Callable[..., int]:
    """bench(folder, *arguments): the quick benchmark with still fewer candidates."""

    def benched(folder: Path, *arguments: str, settings: tuple[str, ...] = ()) -> int:
        given = ["--run", str(folder), "--quick", "--evaluations", str(EVALUATIONS), *arguments]
        found: int = script.main([*given, "--", "threads=1", "device=cpu", *settings])
        return found

    return benched


@pytest.fixture(scope="module")
def done(bench: Callable[..., int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All searches with one seed; rows.json and gaps.png beside the runs."""
    folder = tmp_path_factory.mktemp("bench")
    written = ["--json", str(folder / "rows.json"), "--plot", str(folder / "gaps.png")]
    assert bench(folder, *written) == 0
    return folder


@pytest.fixture(scope="module")
def rows(done: Path) -> dict[str, dict[str, Any]]:
    return {row["search"]: row for row in json.loads((done / "rows.json").read_text())}


def run_of(folder: Path, search: str) -> Path:
    return next(path for path in folder.glob(f"{search}*") if (path / "journal.jsonl").is_file())


def test_every_search_has_a_row_with_all_its_figures(script: ModuleType, rows: dict[str, dict[str, Any]]):
    assert tuple(rows) == script.SEARCHES
    assert all(row.keys() == KEYS and row["seeds"] == [1] for row in rows.values())


def test_every_search_scores_as_many_candidates_its_control_included(rows: dict[str, dict[str, Any]]):
    assert {row["evaluations"] for row in rows.values()} == {EVALUATIONS}


def test_the_others_begin_with_their_own_start_and_search_their_own_genome(done: Path):
    first = {
        name: next(r["genome"] for r in journal_rows(run_of(done, name)) if r.get("phase") == "search")
        for name in ("mergekit_evolve", "mergenetic_ga")
    }
    assert len(first["mergekit_evolve"]) == 3
    assert np.allclose(11 * np.array(first["mergenetic_ga"]) % 1, 0.5)


def test_the_plot_is_a_picture(done: Path):
    assert (done / "gaps.png").read_bytes()[:4] == b"\x89PNG"


def test_run_again_and_summed_up_nothing_is_paid_and_the_rows_are_the_same(
    script: ModuleType, bench: Callable[..., int], done: Path, tmp_path: Path
):
    journals = {path: path.read_bytes() for path in done.glob("*/journal.jsonl")}
    again, summed = tmp_path / "again.json", tmp_path / "summed.json"
    assert bench(done, "--searches", "uniform", "--json", str(again)) == 0
    assert script.main(["--run", str(done), "--summary", "--json", str(summed)]) == 0
    assert {path: path.read_bytes() for path in done.glob("*/journal.jsonl")} == journals
    assert len(journals) == 5
    assert (
        json.loads(again.read_text()) == json.loads(summed.read_text()) == json.loads((done / "rows.json").read_text())
    )


def test_a_search_that_fails_is_told_and_the_others_go_on(
    bench: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    only_cma = ("optimizer.sigma=0.5",)
    assert bench(tmp_path, "--searches", "uniform", "mergekit_evolve", settings=only_cma) == 1
    told = capsys.readouterr()
    assert "uniform, seed 1 failed" in told.err
    assert "mergekit_evolve" in told.out


def test_a_folder_without_runs_is_an_error(script: ModuleType, tmp_path: Path):
    with pytest.raises(SystemExit, match="no finished run"):
        script.main(["--run", str(tmp_path), "--summary"])


# ---------------------------------------------------------------- figures


def standing(ident: str, *scores: float) -> Standing:
    test = {name: Estimate(score, 0.0, 10) for name, score in zip("abm", scores, strict=False)}
    return Standing(ident, ident, ident, None, {"test": test})


def report(*standings: Standing) -> Report:
    metric = Metric("acc", higher_is_better=True)
    tasks = tuple(TaskFacts(name, metric, {}, goal=name != "m") for name in "abm")
    costs = tuple(Cost(phase, 10, 100, 1.5) for phase in ("references", "search", "control", "test"))
    absent = dict.fromkeys(("base", "optimism", "stop_reason", "cut"))
    empty = dict.fromkeys(("follow_on", "settings", "parents", "differences", "failures", "notes"), ())
    facts: dict[str, Any] = {**absent, **empty, "aliases": 0, "retries": 0, "deaths": 0, "opened": 0}
    return Report(
        folder="", state="", finished=True, tasks=tasks, standings=standings, winner="search:3", costs=costs, **facts
    )


WINNER = standing("search:3", 0.5, 0.45, 9.0)
PARENTS = standing("parent:x", 0.7, 0.3, 9.0), standing("parent:y", 0.2, 0.35, 9.0)


def test_the_gap_counts_from_the_base_to_each_tasks_best_parent_and_a_tenth_at_least(script: ModuleType):
    found = import_module("benchmarks.outcomes").outcome(
        "default", 1, report(standing("base", 0.2, 0.3, 0.0), *PARENTS, WINNER)
    )
    assert found.gap_closed == pytest.approx(((0.5 - 0.2) / 0.5 + (0.45 - 0.3) / 0.1) / 2)
    assert found.kept == pytest.approx((0.5 / 0.7 + 0.45 / 0.35) / 2)
    assert (found.test_mean, found.evaluations, found.items, found.seconds) == (pytest.approx(0.475), 20, 200, 3.0)


def test_without_a_base_the_gap_counts_from_the_average(script: ModuleType):
    found = import_module("benchmarks.outcomes").outcome(
        "default", 1, report(standing("average", 0.5, 0.25), *PARENTS, WINNER)
    )
    assert found.gap_closed == pytest.approx((0.0 + 0.2 / 0.1) / 2)


@pytest.mark.parametrize(
    ("values", "low", "middle", "high"), [([3.0, 1.0, 9.0], 1.0, 3.0, 9.0), (range(7), 1.0, 3.0, 5.0)]
)
def test_the_interval_of_the_median_is_that_of_its_bootstrap(script: ModuleType, values, low, middle, high):
    found = import_module("benchmarks.outcomes").median("x", np.array(values))
    assert found == {"x_median": middle, "x_low": low, "x_high": high}


def test_mergekits_search_begins_at_equal_weights_whatever_starts_are_known(script: ModuleType):
    pool = Pool(("a", "b"), ("1", "2"), "0", {"layers": 2})
    variables = MergekitSpace(pool, merge_method="ties").variables
    known = Problem(variables, starts=(np.full(len(variables), 0.9),))
    made = import_module("benchmarks.starts").cma_es(known, 1)
    plain = CmaEs(Problem(variables), 1)
    assert [c.genome.tolist() for c in made.ask(9)] == [c.genome.tolist() for c in plain.ask(9)]
    assert Problem(variables).start.tolist() == [0.5, 1.0] * 2


def test_scores_are_those_that_the_runs_own_report_has(done: Path, rows: dict[str, dict[str, Any]]):
    found = api.report(run_of(done, "uniform"))
    winner = found.standing(found.winner)
    assert winner is not None
    mean = winner.mean("test")
    assert mean is not None and rows["uniform"]["test_mean"] == pytest.approx(mean.value)
