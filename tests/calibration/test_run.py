"""Calibrating: asked once, on file after each model, whatever is killed meanwhile."""

from pathlib import Path

import numpy as np
import pytest

from evomerge.calibration.responses import load
from evomerge.calibration.run import calibrate, designs
from evomerge.errors import CalibrationError
from evomerge.executors.local import Local
from tests.calibration.made import (
    BANK,
    RECIPES,
    SETTINGS,
    MadeEvaluator,
    calibrate_and_die,
    evaluated,
    others,
    recipe,
    works,
)


def run(path: Path, evaluator: MadeEvaluator, recipes=RECIPES, settings: str = SETTINGS, **options):
    return calibrate(works(recipes), evaluator, Local(), path, settings, **options)


@pytest.mark.parametrize("models", [1, 2, 3])
def test_what_a_kill_left_on_file_is_not_asked_again_and_the_file_ends_the_same(tmp_path: Path, models: int):
    run(tmp_path / "whole.npz", MadeEvaluator())
    calibrate_and_die(tmp_path / "killed.npz", models)
    assert load(tmp_path / "killed.npz").models == tuple(RECIPES)[:models]
    evaluator = MadeEvaluator()
    run(tmp_path / "killed.npz", evaluator)
    assert evaluator.asked == list(RECIPES)[models:]
    assert (tmp_path / "killed.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_more_designs_are_added_and_nothing_is_paid_twice(tmp_path: Path):
    run(tmp_path / "a.npz", MadeEvaluator())
    evaluator = MadeEvaluator()
    found = run(tmp_path / "a.npz", evaluator, {**RECIPES, "design:0": recipe(0.25)})
    assert evaluator.asked == ["design:0"] and [*found.seconds] == ["design:0"]
    assert found.answers.kinds == ("base", "parent", "parent", "average", "design") and found.answers.items == BANK


def test_a_design_that_fails_is_left_out_and_told(tmp_path: Path):
    broken = MadeEvaluator(lambda work: "merge" if work.id == "design:0" else None)
    found = run(tmp_path / "a.npz", broken, {**RECIPES, "design:0": recipe(0.25), "design:1": recipe(0.5)})
    assert found.failed == {"design:0": "merge"} and found.answers.models == (*RECIPES, "design:1")


def test_a_parent_that_fails_ends_it_with_its_traceback_and_keeps_the_others(tmp_path: Path):
    broken = MadeEvaluator(lambda work: "merge" if work.id == "parent:b" else None)
    with pytest.raises(CalibrationError, match=r"(?s)parent:b cannot be scored \(merge\).*kept.*Traceback of merge"):
        run(tmp_path / "a.npz", broken)
    assert load(tmp_path / "a.npz").models == ("base", "parent:a")


def test_a_file_of_other_settings_is_refused_naming_what_differs(tmp_path: Path):
    run(tmp_path / "a.npz", MadeEvaluator())
    evaluator = MadeEvaluator()
    with pytest.raises(CalibrationError, match=r"other settings: batch_size was 8, now 9\. Name a new file"):
        run(tmp_path / "a.npz", evaluator, settings=SETTINGS.replace('"batch_size": 8', '"batch_size": 9'))
    assert evaluator.asked == []


@pytest.mark.parametrize("place", ["file/a.npz", "file"])
def test_a_file_that_cannot_be_written_is_told_before_anything_is_paid(tmp_path: Path, place: str):
    (tmp_path / "file").write_text("my notes")
    evaluator = MadeEvaluator()
    with pytest.raises(CalibrationError, match=r"cannot (write|be read)"):
        run(tmp_path / place, evaluator)
    assert evaluator.asked == [] and (tmp_path / "file").read_text() == "my notes"


def test_imported_models_join_the_file_once(tmp_path: Path):
    for _ in range(2):
        found = run(tmp_path / "a.npz", MadeEvaluator(), imported=[others(np.eye(2, len(BANK)))])
    assert sorted(found.answers.models) == sorted([*RECIPES, "m0", "m1"])
    assert load(tmp_path / "a.npz").kinds.count("other") == 2


def test_the_watch_is_told_what_is_known_and_what_was_asked(tmp_path: Path):
    calibrate_and_die(tmp_path / "a.npz", 3)
    told = []
    run(tmp_path / "a.npz", MadeEvaluator(), watch=lambda step, **facts: told.append((step, facts)))
    assert told == [("asked", {"n": 4, "known": 3}), ("evaluated", {"id": "average", "error": None})]


def test_what_is_on_file_is_what_was_answered(tmp_path: Path):
    found = run(tmp_path / "a.npz", MadeEvaluator()).answers
    for m, e in enumerate(evaluated().values()):
        values = [v for s in e.scores for v in (s.values[:, 0] if s.values.ndim == 2 else s.values)]
        assert found.values[m].tolist() == values and found.batch_sizes[m] == 8


class Line:
    """A space of three genes that decodes to their sum."""

    size = 3

    def decode(self, genome):
        return recipe(float(genome.sum()))


def test_designs_depend_on_the_seed_and_their_number_alone():
    few, many = designs(Line(), 2, seed=1), designs(Line(), 5, seed=1)
    assert [*many] == [f"design:{k}" for k in range(5)] and {n: many[n] for n in few} == few
    assert len({r.digest for r in many.values()} | {r.digest for r in designs(Line(), 5, seed=2).values()}) == 10
