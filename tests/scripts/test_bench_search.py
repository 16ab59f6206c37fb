"""scripts/bench_search.py on made-up landscapes and on merges made here."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
KEYS = {
    "landscape",
    "searcher",
    "evaluations",
    "seeds",
    "regret_median",
    "regret_low",
    "regret_high",
    "gap_closed",
}
EXPERTS, N_EACH = ("a", "b", "c"), 60


@pytest.fixture(scope="module", autouse=True)
def scripts_path():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield
    for name in [m for m in sys.modules if m == "bench_search" or m.split(".")[0] == "benchmarks"]:
        del sys.modules[name]


def part(name: str) -> ModuleType:
    return import_module(f"benchmarks.{name}")


def margins_of(coefficients: np.ndarray, task: np.ndarray) -> np.ndarray:
    """(M, 9) -> (M, N): each expert helps its own task up to a scale of 0.8 and hurts the others, far out all fail."""
    means = coefficients.reshape(-1, 3, 3).mean(1)  # (M, expert)
    own = 4 * np.exp(-(((means - 0.8) / 0.5) ** 2)) - 1.5 * np.abs(means).sum(1, keepdims=True) / 3
    return own[:, task] + np.random.default_rng(0).normal(0, 1, len(task)) - 0.5


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """40 merges inside the searched box, 8 collapsed ones, scales, base and parents."""
    rng, folder = np.random.default_rng(1), tmp_path_factory.mktemp("data")
    task = np.repeat(np.arange(3), N_EACH)
    blocks = {
        "base": np.zeros((1, 9)),
        **{f"parent:{e}": np.tile(row, (1, 3)) for e, row in zip(EXPERTS, np.eye(3), strict=True)},
        "lambda": np.repeat([[0.3], [0.6], [0.9]], 9, axis=1),
        "depth": rng.uniform(-0.2, 1.5, (40, 9)),
        "collapsed": 2.5 * rng.choice([-1.0, 1.0], (8, 9)),
    }
    coefficients = np.concatenate(list(blocks.values()))
    margins = margins_of(coefficients, task)
    (folder / "zoo_merges").mkdir()
    np.savez(
        folder / "zoo_merges" / "margins.npz",
        margins=margins,
        correct=margins > 0,
        coefficients=coefficients.reshape(-1, 3, 3),
        kind=[kind for kind, rows in blocks.items() for _ in rows],
        items=[f"{EXPERTS[t]}:test:{i}" for i, t in enumerate(task)],
        experts=EXPERTS,
    )
    return folder


@pytest.fixture(scope="module")
def chosen(data) -> dict[str, Any]:
    return {landscape.name: landscape for landscape in part("landscapes").landscapes(data)}


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> list[dict[str, Any]]:
    return run(tmp_path_factory.mktemp("rows") / "rows.json")


def run(file: Path) -> list[dict[str, Any]]:
    asked = ["--landscapes", "checkpoints16", "--searchers", "cma_es", "uniform", "--budgets", "24", "48"]
    import_module("bench_search").main([*asked, "--seeds", "2", "--json", str(file)])
    found: list[dict[str, Any]] = json.loads(file.read_text())
    return found


# ---------------------------------------------------------------- landscapes


def test_every_landscape_is_the_same_each_time_it_is_made(chosen, data):
    again = {landscape.name: landscape for landscape in part("landscapes").landscapes(data)}
    assert list(again) == list(chosen) == list(part("landscapes").NAMES)
    for name, landscape in chosen.items():
        genomes = np.random.default_rng(2).random((5, landscape.problem.size))
        assert np.array_equal(landscape.answers(genomes), again[name].answers(genomes))
        assert np.array_equal(landscape.problem.start, again[name].problem.start)


def test_answers_are_bits_whose_mean_is_the_truth_up_to_the_noise_of_items(chosen):
    for landscape in chosen.values():
        genomes = np.random.default_rng(3).random((20, landscape.problem.size))
        answers = landscape.answers(genomes)
        assert set(np.unique(answers)) == {0.0, 1.0}
        error = answers.mean(1) - landscape.truth(genomes)
        assert 0 < np.abs(error).max() < 4 * 0.5 / np.sqrt(len(landscape.task))


def test_some_items_are_answered_alone_as_among_all(chosen):
    for landscape in chosen.values():
        genomes = np.random.default_rng(4).random((3, landscape.problem.size))
        some = np.random.default_rng(5).permutation(len(landscape.task))[:40]
        assert np.array_equal(landscape.answers(genomes, some), landscape.answers(genomes)[:, some])


@pytest.mark.parametrize("name", ["zoo1", "checkpoints16"])
def test_nothing_is_better_than_the_oracle(chosen, name):
    landscape = chosen[name]
    rng = np.random.default_rng(6)
    near = np.clip(landscape.peak + rng.normal(0, 0.05, (300, landscape.problem.size)), 0, 1)
    asked = [*rng.random((300, landscape.problem.size)), *near, *landscape.problem.starts]
    assert landscape.truth(asked).max() <= landscape.oracle() + 1e-4


def test_coarser_genomes_mean_the_same_in_finer_zoos(chosen):
    coarse = np.random.default_rng(7).random((4, 3))
    truths = [chosen[f"zoo{g}"].truth(np.tile(coarse, (1, g))) for g in (1, 3, 6)]
    assert np.allclose(truths[0], truths[1])
    assert np.allclose(truths[0], truths[2])


def test_unlike_halves_of_a_third_are_felt_by_tasks_in_the_finest_zoo(chosen):
    up, down = np.full((1, 18), 0.4), np.full((1, 18), 0.4)
    up[0, :3], down[0, 3:6] = 0.9, 0.9
    assert abs(chosen["zoo6"].truth(up) - chosen["zoo6"].truth(down))[0] > 1e-4


def test_the_surrogate_knows_the_merges_it_is_made_of_and_ranks_those_left_out(chosen, data):
    merges = part("matrices").read_merges(data / "zoo_merges" / "margins.npz")
    fitted = part("surrogate").fitted(merges)
    depth = merges.kind == "depth"
    known = fitted.chances(merges.coefficients[depth], slice(None)).mean(1)
    assert np.corrcoef(known, merges.answers[depth].mean(1))[0, 1] > 0.97
    assert fitted.quality.merges == 47
    assert fitted.quality.spearman > 0.6


def test_far_from_all_merges_the_surrogate_expects_what_collapsed_ones_answer(data):
    merges = part("matrices").read_merges(data / "zoo_merges" / "margins.npz")
    fitted = part("surrogate").fitted(merges)
    collapsed = merges.margins[merges.kind == "collapsed"].mean(0)
    far = fitted.chances(np.full((1, 9), 40.0), slice(None))[0]
    assert np.array_equal(far > 0.5, collapsed > 0)


def test_a_common_scale_of_all_checkpoints_changes_nothing(chosen):
    genome = np.random.default_rng(8).uniform(0.1, 0.5, 16)
    assert np.allclose(*chosen["checkpoints16"].truth([genome, 2 * genome]))


def test_knobs_of_another_method_mean_nothing_and_those_of_the_own_one_count(chosen):
    landscape = chosen["mixed63"]
    for level in range(4):
        genome = landscape.problem.default.copy()
        genome[0] = (level + 0.5) / 4
        active = landscape.problem.active(genome)
        for knob in range(4):
            other = genome.copy()
            other[4 + knob] = 0.05
            right = landscape.chances(np.array([genome, other]), landscape.items)
            assert (not np.array_equal(*right)) == active[4 + knob]


# ---------------------------------------------------------------- searches


def test_rows_are_complete_and_equal_for_equal_seeds(rows, tmp_path):
    assert all(row.keys() == KEYS for row in rows)
    cells = [(r["searcher"], r["evaluations"]) for r in rows]
    assert cells == [(s, b) for s in ("lambda_grid", "cma_es", "uniform") for b in (24, 48)]
    assert all(r["regret_low"] <= r["regret_median"] <= r["regret_high"] for r in rows)
    assert all(r["gap_closed"] == 0 for r in rows if r["searcher"] == "lambda_grid")
    assert run(tmp_path / "again.json") == rows


def test_a_search_spends_whole_batches_and_never_more_than_the_budget(chosen):
    regret = part("regret")
    found = regret.outcomes(chosen["checkpoints16"], "cma_es", 0, (11, 40, 60), "mean")
    assert [o.evaluations for o in found] == [0, 36, 60]
    start = chosen["checkpoints16"].problem.start
    assert found[0].truth == chosen["checkpoints16"].truth([start])[0]  # nothing was told: what the search began with


def test_the_grid_lays_out_as_many_points_as_it_is_given_up_to_forty(chosen):
    found = part("regret").outcomes(chosen["checkpoints16"], "lambda_grid", 0, (10, 40, 200), "mean")
    assert [o.evaluations for o in found] == [10, 40, 40]


def test_a_longer_search_is_the_shorter_one_continued(chosen):
    regret = part("regret")
    short, long = (regret.outcomes(chosen["zoo3"], "sobol", 1, budgets, "merit") for budgets in ((40,), (40, 80)))
    assert short == long[:1]


def test_an_elitist_keeps_its_draw_and_another_gets_a_new_one_for_each_batch(chosen):
    regret, searchers = part("regret"), part("searchers")
    world = regret.World.of(chosen["zoo3"], 0, "merit")
    draws = {}
    for name in ("cma_es", "ga"):
        optimizer = searchers.made(name, world.landscape.problem, 0, {})
        course = regret.run(world, optimizer, 3 * optimizer.lag)
        draws[name] = len({o.index.tobytes() for o in course.seen})
    assert draws == {"cma_es": 3, "ga": 1}


def test_the_finalist_that_answers_most_fresh_items_is_returned(chosen):
    regret, landscape = part("regret"), chosen["zoo3"]
    world = regret.World.of(landscape, 0, "mean")
    course = regret.run(world, part("searchers").made("uniform", landscape.problem, 0, {}), 40)
    told, genome = regret.returned(world, course, 40)
    best = np.argsort([-e.value for e in course.told], kind="stable")[:3]
    finalists = np.array(course.genomes)[best]
    assert told == 40
    assert np.array_equal(genome, finalists[np.argmax(landscape.answers(finalists, world.fresh).mean(1))])
    assert not set(world.search) & set(world.fresh)


def test_a_tied_searcher_asks_one_gene_for_the_whole_depth(chosen):
    optimizer = part("searchers").made("cma_es@1", chosen["zoo6"].problem, 0, {})
    for candidate in optimizer.ask(5):
        assert np.array_equal(candidate.genome, np.tile(candidate.genome[:3], 6))


def test_searchers_without_choices_are_named_and_left_out(chosen, capsys):
    reasons = {s: part("searchers").unfit(s, chosen["mixed63"].problem) for s in ("cma_es", "cma_es@1", "uniform")}
    assert reasons["uniform"] == ""
    assert all("choices" in reasons[s] for s in ("cma_es", "cma_es@1"))


# ---------------------------------------------------------------- standings


def standings_of(own: list[float], grid: list[float], oracle: float = 0.8) -> Any:
    outcome = part("regret").Outcome
    found = [
        outcome("land", s, i, 40, 40, t) for s, ts in (("lambda_grid", grid), ("mine", own)) for i, t in enumerate(ts)
    ]
    return part("standings").Standings(found, {"land": oracle}, {"land": "some variables"})


def test_the_gap_closed_is_the_share_of_what_lies_between_the_grid_and_the_oracle():
    mine = standings_of([0.75, 0.77, 0.76], [0.7, 0.7, 0.7]).rows()[1]
    assert mine["gap_closed"] == pytest.approx(0.6)
    assert mine["regret_median"] == pytest.approx(0.04)
    assert standings_of([0.8], [0.7985]).rows()[1]["gap_closed"] is None


def test_a_default_that_loses_to_the_grid_on_equal_seeds_is_told_of():
    duels = part("standings").duels
    noise = [0.0, 0.04, -0.03, 0.02, -0.01]
    worse, level = (
        standings_of([0.69 + n for n in noise], [0.7 + n for n in noise]),
        standings_of([0.7 - n for n in noise], [0.7 + n for n in noise]),
    )
    assert "LOSES" in duels(worse, "mine", [40])[0]
    assert "never loses" in duels(level, "mine", [40])[0]
    assert "under half" in duels(level, "mine", [40])[1]


def test_the_rule_names_the_searcher_of_least_regret():
    found = standings_of([0.75, 0.77, 0.76], [0.7, 0.7, 0.7])
    (line,) = part("standings").rule(found, found.rows())
    assert line == "some variables, 40 evaluations: mine (4.0 points of regret)"


def test_a_plot_has_a_panel_for_each_landscape(rows, tmp_path):
    part("standings").plot(rows, tmp_path / "regret.png")
    assert (tmp_path / "regret.png").read_bytes().startswith(b"\x89PNG")


def test_unknown_searchers_and_a_zoo_without_data_are_errors():
    main = import_module("bench_search").main
    with pytest.raises(SystemExit, match="no searcher simplex"):
        main(["--searchers", "simplex"])
    with pytest.raises(SystemExit, match="need --data"):
        main(["--landscapes", "zoo3"])
