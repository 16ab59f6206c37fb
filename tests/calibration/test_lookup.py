"""Earlier answers are found, equal in every bit to asking again; a file that is no good costs nothing but a note."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evomerge.calibration.key import file_name, settings_of
from evomerge.calibration.lookup import Cache, Calibration, digest, given
from evomerge.calibration.responses import load
from evomerge.calibration.run import bank_works, calibrate
from evomerge.errors import CalibrationError, ConfigError
from evomerge.executors.local import Local
from evomerge.rows import evaluation_row
from tests.calibration.made import (
    BANK,
    QUIZZES,
    RECIPES,
    SETTINGS,
    MadeEvaluator,
    evaluated,
    others,
    recipe,
    works,
)
from tests.executing import evaluations


def cache(folder: Path, told: list[str] | None = None, **options) -> Cache:
    return Cache(folder, SETTINGS, RECIPES, tell=(told if told is not None else []).append, **options)


def found(one: Cache, recipes=RECIPES) -> list[str]:
    return [str(work.id) for work in works(recipes) if one.find(work) is not None]


def test_real_answers_from_another_run_are_the_journal_rows_of_asking(evaluator, recipes, tmp_path):
    settings = settings_of(evaluator, {"batch_size": 4})
    asked = {str(e.id): e for e in evaluations(Local(), evaluator, bank_works(recipes, evaluator.tasks))}
    assert all(e.error_code is None for e in asked.values()) and len(asked) == 4
    Cache(tmp_path / "first", settings, recipes).keep(asked)
    second = Cache(tmp_path / "second", settings, recipes)
    again = {str(work.id): second.find(work) for work in bank_works(recipes, evaluator.tasks)}
    assert {n: evaluation_row(e) for n, e in again.items()} == {n: evaluation_row(e) for n, e in asked.items()}


def test_a_run_finds_its_own_answers_and_those_beside_it_and_no_others(tmp_path: Path):
    some = {name: e for name, e in evaluated().items() if name != "average"}
    cache(tmp_path / "runs" / "one").keep(some)
    for folder in ("runs/one", "runs/two"):
        assert found(cache(tmp_path / folder)) == ["base", "parent:a", "parent:b"]
    assert found(cache(tmp_path / "elsewhere" / "two")) == []
    assert found(Cache(tmp_path / "runs" / "two", SETTINGS + " ", RECIPES)) == []


def test_answers_of_several_runs_add_up(tmp_path: Path):
    everything = evaluated()
    for name in RECIPES:
        cache(tmp_path / name.replace(":", "-")).keep({name: everything[name]})
    assert found(cache(tmp_path / "new")) == list(RECIPES)


def test_keeping_adds_to_what_is_there_and_writes_only_what_is_new(tmp_path: Path):
    everything, path = evaluated(), tmp_path / file_name(SETTINGS)
    cache(tmp_path).keep({"base": everything["base"]})
    cache(tmp_path).keep({name: everything[name] for name in ("base", "average")})
    assert load(path).models == ("base", "average")
    before = path.stat().st_mtime_ns
    cache(tmp_path).keep({"base": everything["base"]})
    assert path.stat().st_mtime_ns == before


def test_a_run_that_is_told_not_to_neither_looks_nor_leaves(tmp_path: Path):
    cache(tmp_path / "one").keep(evaluated())
    off = cache(tmp_path / "two", on=False)
    off.keep(evaluated())
    assert found(off) == [] and not (tmp_path / "two").exists()


def test_a_folder_that_cannot_be_written_is_told_and_done_without(tmp_path: Path):
    (tmp_path / "file").write_text("")
    told = []
    cache(tmp_path / "file" / "run", told).keep(evaluated())
    assert len(told) == 1 and "not kept for other runs: cannot write" in told[0]


def test_a_damaged_file_beside_is_told_and_passed_over(tmp_path: Path):
    for name in ("a", "b"):
        cache(tmp_path / name).keep(evaluated())
    damaged = tmp_path / "a" / file_name(SETTINGS)
    damaged.write_bytes(damaged.read_bytes()[:99])
    told = []
    assert found(cache(tmp_path / "new", told)) == list(RECIPES)
    assert len(told) == 1 and str(damaged) in told[0]
    own = cache(tmp_path / "a", told)
    own.keep(evaluated())
    assert load(damaged).models == tuple(RECIPES)


def test_a_file_of_other_settings_under_this_name_answers_nothing(tmp_path: Path):
    cache(tmp_path / "a").keep(evaluated())
    calibrate(works(), MadeEvaluator(), Local(), tmp_path / "other.npz", "{}")
    (tmp_path / "other.npz").rename(tmp_path / "a" / file_name(SETTINGS))
    assert found(cache(tmp_path / "b")) == []


def test_a_given_file_answers_even_without_the_cache(tmp_path: Path):
    calibrate(works(), MadeEvaluator(), Local(), tmp_path / "a.npz", SETTINGS)
    answers = given([str(tmp_path / "a.npz")], QUIZZES).answers
    assert found(cache(tmp_path / "run", given=answers, on=False)) == list(RECIPES)
    assert found(Cache(tmp_path / "run", "{}", RECIPES, answers)) == []


def test_a_given_run_folder_lends_its_answers(tmp_path: Path):
    cache(tmp_path / "run").keep(evaluated())
    assert given([str(tmp_path / "run")], QUIZZES).answers[0].models == tuple(RECIPES)
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "journal.jsonl").write_text("")
    with pytest.raises(CalibrationError, match=r"bare is a run without calibration-\*\.npz.*evomerge calibrate"):
        given([str(tmp_path / "bare")], QUIZZES)


# ---------------------------------------------------------------- the leaderboard


def test_models_that_are_not_this_runs_own_are_the_leaderboard(tmp_path: Path):
    more = {**RECIPES, "design:0": recipe(0.25)}
    imported = others(np.array([[0.5] * 12, [np.nan] * 11 + [-3.0]]))
    calibrate(works(more), MadeEvaluator(), Local(), tmp_path / "a.npz", SETTINGS, imported=[imported])
    board = given([str(tmp_path / "a.npz")], QUIZZES).leaderboard(QUIZZES, RECIPES)
    assert board.shape == (3, len(BANK))
    by_value = {tuple(row[:4]): row for row in board}
    plain = by_value[0.5, 0.5, 0.5, 0.5]
    assert plain.tolist() == [0.5] * 4 + [-0.5] * 4 + [0.5] * 4  # lower is better in the second; pairs per unit
    assert -3.0 in board[np.isnan(board[:, 0]), 11]
    design = evaluated({"design:0": recipe(0.25)})["design:0"].scores
    assert by_value[tuple(design[0].values)][8:].tolist() == (design[2].values[:, 0] / design[2].values[:, 1]).tolist()
    assert given([str(tmp_path / "a.npz")], QUIZZES).leaderboard(QUIZZES, more).shape == (2, len(BANK))


def test_equal_rows_of_several_files_count_once(tmp_path: Path):
    header = "model," + ",".join("/".join(item) for item in BANK)
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(f"{header}\n{name}{',1' * 12}\n{name}2{',0.25' * 11},{ord(name)}\n")
    use = given([str(tmp_path / "a.csv"), str(tmp_path / "b.csv")], QUIZZES)
    assert use.leaderboard(QUIZZES, RECIPES).shape == (3, 12)


def test_without_other_models_there_is_no_leaderboard(tmp_path: Path):
    calibrate(works(), MadeEvaluator(), Local(), tmp_path / "a.npz", SETTINGS)
    assert given([], QUIZZES).leaderboard(QUIZZES, RECIPES) is None
    assert given([str(tmp_path / "a.npz")], QUIZZES).leaderboard(QUIZZES, RECIPES) is None


def test_the_digest_of_a_leaderboard_is_that_of_its_numbers():
    board = np.array([[0.5, np.nan], [1.0, 0.0]])
    other_nan = board.copy()
    other_nan.view(np.uint64)[0, 1] ^= 1 << 63
    assert np.isnan(other_nan[0, 1]) and digest(board) == digest(other_nan) and len(digest(board)) == 16
    assert len({digest(None), digest(board), digest(board.T), digest(board.reshape(1, 4)), digest(board + 1)}) == 5


def test_bad_settings_are_refused():
    assert Calibration() == replace(Calibration(use=(), designs=0, cache=True))
    for n in (-1, 10_001):
        with pytest.raises(ConfigError, match=rf"calibration\.designs is {n}; wanted a number from 0 to 10000"):
            Calibration(designs=n)
