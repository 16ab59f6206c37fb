"""scripts/bench_estimators.py on matrices made here."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
KEYS = {"data", "subset", "estimator", "items", "draws", "mae", "spearman", "regret"}
TASKS, N_EACH = ("a", "b", "c"), 60


@pytest.fixture(scope="module", autouse=True)
def scripts_path():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield
    for name in [m for m in sys.modules if m == "bench_estimators" or m.split(".")[0] == "benchmarks"]:
        del sys.modules[name]


def part(name: str) -> ModuleType:
    return import_module(f"benchmarks.{name}")


def write_leaderboard(path: Path) -> None:
    """A family of 60 models and 60 strangers on 100 items of two scenarios; one row is a copy."""
    rng = np.random.default_rng(0)
    easy = rng.normal(0.7, 1.2, 100)
    family = (rng.random(100) < expit(easy)) ^ (rng.random((60, 100)) < 0.08)
    others = rng.random((60, 100)) < expit(easy + rng.normal(0, 1.5, (60, 1)))
    rows = np.concatenate([family, others, others[:1]]).astype(np.int8)
    names = [f"m{i}" for i in range(len(rows))]
    scenario = np.repeat(["tinyone", "tinytwo"], 50)
    np.savez(
        path,
        responses=rows,
        models=names,
        items=[f"i{i}" for i in range(100)],
        scenario=scenario,
        full_score=np.stack([rows[:, :50].mean(1), rows[:, 50:].mean(1), np.zeros(len(rows))], axis=1),
        full_score_cols=["one", "two", "other"],
    )


def write_merges(path: Path) -> None:
    """40 merges of three experts, each of one task; answers follow from margins that are linear in the coefficients."""
    rng = np.random.default_rng(1)
    scales = np.repeat([[0.3], [0.6], [0.9]], 9, axis=1)
    coefficients = np.concatenate([np.zeros((1, 9)), np.tile(np.eye(3), 3), scales, rng.uniform(-0.2, 1.3, (40, 9))])
    task = np.repeat(np.arange(3), N_EACH)
    gains = rng.normal(5.0, 2.0, (9, 3 * N_EACH)) * (np.tile(np.eye(3), (3, 1))[:, task] - 0.2)
    margins = rng.normal(-1.0, 1.5, 3 * N_EACH) + coefficients @ gains / 3 + rng.normal(0, 0.3, (47, 3 * N_EACH))
    kind = [
        "base",
        *(f"parent:{t}" for t in TASKS),
        *(f"lambda:{s[0]}" for s in scales),
        *["depth"] * 36,
        *["wide"] * 4,
    ]
    np.savez(
        path,
        margins=margins,
        correct=margins > 0,
        coefficients=coefficients.reshape(-1, 3, 3),
        kind=kind,
        items=[f"{t}:test:{i}" for t in TASKS for i in range(N_EACH)],
        experts=TASKS,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("data")
    for room in ("irt", "zoo_merges"):
        (folder / room).mkdir()
    write_leaderboard(folder / "irt" / "board.npz")
    write_merges(folder / "zoo_merges" / "margins.npz")
    return folder


@pytest.fixture(scope="module")
def rows(data) -> list[dict[str, Any]]:
    file = data / "rows.json"
    import_module("bench_estimators").main(["--data", str(data), "--quick", "--draws", "1", "--json", str(file)])
    found: list[dict[str, Any]] = json.loads(file.read_text())
    return found


def test_every_row_has_the_keys_and_no_regret_is_negative(rows):
    assert all(row.keys() >= KEYS for row in rows)
    assert min(row["regret"] for row in rows) >= 0


def test_every_estimator_is_measured_on_every_matrix_and_every_subset_where_it_has_enough_models(rows):
    members = part("members")
    found = {(r["data"], r["subset"], r["estimator"]) for r in rows}
    plain = ("random", "stratified", "neyman")
    served = {"board/L=0": plain, "board/L=50": members.SUBSETS, "zoo_merges/all": plain, "zoo_merges/healthy": plain}
    assert found >= {(d, s, e) for d, subsets in served.items() for s in subsets for e in members.ESTIMATORS}
    assert ("zoo_merges/all", "neyman", "merit+margins") in found
    assert not {s for d, s, _ in found if d == "board/L=0"} - set(plain)


def test_the_mean_of_all_items_is_exact_and_its_best_the_best(data):
    board = part("matrices").read_leaderboard(data / "irt" / "board.npz")
    case = part("matrices").neighbourhood(board, np.random.default_rng(0), others=0)
    found = list(part("measure").trials(lambda _: case, 2, (case.bank.size,), ("mean",), set()))
    assert {(s, n) for s, n, *_ in found} >= {("random", 100), ("neyman", 100)}
    for *_, outcome in found:
        exact = {"mae": 0, "spearman": 1, "regret": 0, "bias": 0, "curse": 0, "coverage": 1, "task_coverage": 1}
        assert {k: outcome[k] for k in exact} == pytest.approx(exact, abs=1e-12)
        assert outcome["full_mae"] == pytest.approx(0, abs=1e-6)  # the made board's full scores are those of its items


def test_copies_count_once_and_a_family_is_near_its_centre_and_far_from_others(data):
    matrices = part("matrices")
    board = matrices.read_leaderboard(data / "irt" / "board.npz")
    assert len(board.rows) == 120
    for seed in range(5):
        case = matrices.neighbourhood(board, np.random.default_rng(seed), others=50)
        family = np.concatenate([case.bank.endpoints, case.answers])
        assert len(np.unique(family, axis=0)) == 43
        apart = np.abs(family[:, None] - case.bank.leaderboard).mean(2)
        within = np.abs(family[:, None] - family).mean(2)
        assert within.max() <= 2 * matrices.FAR
        assert within.mean() < apart.mean() - 0.1


def test_measures_of_known_estimates():
    measure = part("measure")
    truth = np.array([0.1, 0.5, 0.3])
    assert measure.regret(np.array([0.2, 0.9, 0.9]), truth) == pytest.approx(0.1)  # of two equals, their mean
    assert measure.spearman(np.array([1.0, 3.0, 2.0]), truth) == pytest.approx(1)
    assert measure.spearman(np.ones(3), truth) == 0
    assert measure.covered(np.array([0.2, 0.2]), np.array([0.1, 0.01]), np.array([0.3, 0.3])).tolist() == [True, False]
    low, high = measure.interval("x", np.array([0.0, 1.0] * 50)).values()
    assert 0.35 < low < 0.45 < 0.55 < high < 0.65


def walk_told(values: np.ndarray, points: np.ndarray) -> list[np.ndarray]:
    """The generations of a walk that is told these values; 16 of them leave 8 of 200 points."""
    walk, asked = part("replay").Walk(points, np.zeros(2), np.random.default_rng(1), step=0.2), []
    for _ in range(16):
        asked.append(batch := walk.ask())
        walk.tell(batch, values[batch])
    assert len(walk.ask()) == 0
    return asked


def test_a_walk_asks_no_point_twice_and_goes_where_it_is_told_to():
    points = np.random.default_rng(0).uniform(-1, 1, (200, 2))
    up, down = walk_told(points[:, 0], points), walk_told(-points[:, 0], points)
    assert len(set(np.concatenate(up))) == 192
    assert points[up[2], 0].mean() > 0.3
    assert points[down[2], 0].mean() < -0.3


def test_a_search_keeps_to_its_budget_and_a_race_asks_fewer_items(data):
    replay, members = part("replay"), part("members")
    world = replay.World.of(part("matrices").read_merges(data / "zoo_merges" / "margins.npz"), 0)
    assert not set(world.search) & set(world.fresh)
    fitted = members.fit("mean", world.bank)
    full, raced = (
        replay.run(world, replay.Setting("mean", "random", 60, False, race), fitted, 2160) for race in (False, True)
    )
    assert full.spent == [720] * 3
    assert raced.spent[0] == 720  # nobody was told before the first generation
    assert 360 < raced.spent[1] < 720
    assert [len(o.index) for o in raced.seen if o.id == raced.rows[int(np.argmax([e.value for e in raced.told]))]] == [
        60
    ]
    assert len(full.until(2159).rows) == 24


def test_a_search_with_exact_answers_finds_the_best_it_visited(data):
    replay, members = part("replay"), part("members")
    world = replay.World.of(part("matrices").read_merges(data / "zoo_merges" / "margins.npz"), 0)
    n = world.bank.size
    setting = replay.Setting("mean", "random", n, False, False)
    course = replay.run(world, setting, members.fit("mean", world.bank), 3 * 12 * n)
    found = part("verdicts").verdict(world, setting, course)
    assert found["candidates"] == 36
    assert [found[k] for k in ("mae", "curse", "coverage", "spearman")] == pytest.approx([0, 0, 1, 1])
    assert found["items_calibration"] == 0
    assert found["regret"] >= found["regret_visited"] >= 0


def test_no_data_is_an_error(tmp_path):
    with pytest.raises(SystemExit, match="nothing was measured"):
        import_module("bench_estimators").main(["--data", str(tmp_path), "--quick"])
