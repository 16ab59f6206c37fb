"""Other models' answers: matched by content, counted, and refused with a remedy where nothing matches."""

from pathlib import Path

import numpy as np
import pytest

from evomerge.calibration.imports import distinct, read
from evomerge.calibration.responses import save
from evomerge.calibration.run import calibrate
from evomerge.errors import CalibrationError
from evomerge.executors.local import Local
from tests.calibration.made import ACC, BANK, QUIZZES, RECIPES, SETTINGS, MadeEvaluator, Quiz, works

NAN = np.nan


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_columns_are_matched_by_name_whatever_their_order(tmp_path: Path):
    path = write(tmp_path / "a.csv", "model,two/search1,one/search3\nm,0.5,1\nn,,0\n")
    found = read(path, QUIZZES)
    assert found.responses.items == BANK and found.responses.kinds == ("other", "other")
    assert found.responses.models == ("m", "n") and found.responses.digests == ("", "")
    assert found.responses.values[:, [3, 5]].tolist()[0] == [1.0, 0.5]
    assert np.isfinite(found.responses.values).sum() == 3
    assert found.matched == {"one": 1, "two": 1, "three": 0}


def test_what_is_missing_or_strange_is_counted(tmp_path: Path):
    columns = ",".join([*(f"one/search{k}" for k in range(3)), "one/test0", "nine/x"])
    rows = ["m,1,0,1,1,1", "copy,1.0,0,1,0,0", "odd,1,inf,0,0,0", "empty,,nan,,1,1"]
    found = read(write(tmp_path / "a.csv", "\n".join([f"model,{columns}", *rows]) + "\n"), QUIZZES[:1])
    assert found.responses.models == ("m", "odd")
    assert np.array_equal(found.responses.values, [[1, 0, 1, NAN], [1, NAN, 0, NAN]], equal_nan=True)
    assert [note.removeprefix(f"{tmp_path / 'a.csv'}: ") for note in found.notes] == [
        "1 values are infinite: taken as not asked",
        "2 models repeat another's answers or have none: dropped",
        "2 of its items are no search items",
        "3 of 4 search items of one are in it; the others count as not asked",
    ]


def test_a_complete_matrix_needs_no_note(tmp_path: Path):
    header = "model," + ",".join("/".join(item) for item in BANK)
    found = read(write(tmp_path / "a.csv", f"{header}\nm{',0.5' * len(BANK)}\n"), QUIZZES)
    assert found.notes == () and found.matched == {"one": 4, "two": 4, "three": 4}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names an item 'no item at all'"),
        ("model\nm\n", "names an item 'no item at all'"),
        ("model,search0\nm,1\n", "names an item 'search0'; wanted TASK/ITEM"),
        ("model,one/\nm,1\n", "names an item 'one/'"),
        ("model,one/search0,one/search0\nm,1,1\n", "holds the item 'one/search0' twice"),
        ("model,one/search0\n", "holds no models"),
        ("model,one/search0\nm,1,2\n", "row 2: 3 cells, wanted 2"),
        ("model,one/search0\nm,1\nn,yes\n", "row 3: could not convert string to float: 'yes'"),
        ("model,one/search0\nm,\n", "no answer to any search item"),
        ("model,one/12,one/13\nm,1,0\n", "2 items, as 'one/12'; none is a search item of one.*item_id.*positions"),
        ("model,one/test0,one/x\nm,1,0\n", "1 of them are selection or test items.*test_split"),
    ],
)
def test_a_bad_csv_is_refused(tmp_path: Path, text: str, message: str):
    with pytest.raises(CalibrationError, match=message):
        read(write(tmp_path / "a.csv", text), QUIZZES[:1])


def test_bytes_that_are_no_text_are_refused(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes(b"model,one/search0\n\xff\xfe,1\n")
    with pytest.raises(CalibrationError, match="cannot be read as comma-separated text"):
        read(tmp_path / "a.csv", QUIZZES)
    with pytest.raises(CalibrationError, match="cannot be read as comma-separated text"):
        read(tmp_path / "none.csv", QUIZZES)


def matrix(path: Path, **changes) -> Path:
    arrays = {
        "responses": np.array([[1, 0, 1], [0, 1, 1]], np.int8),
        "models": np.array(["org/m", "n"]),
        "items": np.array(["one/search2", "two/search0", "arc/7"]),
        "full_score": np.zeros(2),
        **changes,
    }
    np.savez(path, **{name: a for name, a in arrays.items() if a is not None})
    return path


def test_a_public_matrix_is_imported(tmp_path: Path):
    found = read(matrix(tmp_path / "a.npz"), QUIZZES)
    assert found.responses.models == ("org/m", "n") and found.responses.values.dtype == np.float64
    assert found.responses.values[:, [2, 4]].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert np.isfinite(found.responses.values).sum() == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items": None}, "has no array 'items', but: responses, models, full_score"),
        ({"models": np.array(["m"])}, r"responses are int8 \(2, 3\); wanted numbers \(1, 3\)"),
        ({"responses": np.array([["a"] * 3] * 2)}, r"responses are <U1 \(2, 3\); wanted numbers"),
        ({"models": np.array(["m", None], dtype=object)}, "without pickled objects"),
        ({"items": np.array(["arc/1", "arc/2", "arc/3"])}, "3 items, as 'arc/1'; none is a search item"),
    ],
)
def test_a_bad_matrix_is_refused(tmp_path: Path, changes: dict, message: str):
    with pytest.raises(CalibrationError, match=message):
        read(matrix(tmp_path / "a.npz", **changes), QUIZZES)


def test_a_calibration_keeps_kinds_and_digests(tmp_path: Path):
    made = calibrate(works(), MadeEvaluator(), Local(), tmp_path / "a.npz", SETTINGS).answers
    found = read(tmp_path / "a.npz", QUIZZES).responses
    assert (found.models, found.kinds, found.digests) == (tuple(RECIPES), made.kinds, made.digests)
    assert np.array_equal(found.values, made.values) and found.settings == SETTINGS


def test_answers_by_another_metric_are_not_used(tmp_path: Path):
    calibrate(works(), MadeEvaluator(), Local(), tmp_path / "a.npz", SETTINGS)
    found = read(tmp_path / "a.npz", (QUIZZES[0], Quiz("two", ACC)))
    assert np.isnan(found.responses.values[:, 4:]).all() and np.isfinite(found.responses.values[:, :4]).all()
    assert any("answers to two are not used: they were scored by another metric" in note for note in found.notes)
    with pytest.raises(CalibrationError, match="none is a search item of two"):
        read(tmp_path / "a.npz", (Quiz("two", ACC),))


def test_a_calibration_of_other_items_is_refused(tmp_path: Path):
    other = calibrate(works(), MadeEvaluator(), Local(), tmp_path / "a.npz", SETTINGS).answers
    save(other.on([("one", "gone"), ("four", "search0")]), tmp_path / "a.npz")
    with pytest.raises(CalibrationError, match="holds 2 items, as 'one/gone'; none is a search item"):
        read(tmp_path / "a.npz", QUIZZES)


def test_another_kind_of_file_is_refused(tmp_path: Path):
    with pytest.raises(CalibrationError, match=r"a\.parquet is no file of answers\. Wanted FILE\.npz"):
        read(tmp_path / "a.parquet", QUIZZES)


def test_distinct_rows_are_the_first_of_equals():
    rows = np.array([[1, NAN], [NAN, NAN], [1, NAN], [-0.0, 1], [0.0, 1], [1, 1]])
    assert distinct(rows) == [0, 3, 5] and distinct(np.zeros((0, 3))) == []
