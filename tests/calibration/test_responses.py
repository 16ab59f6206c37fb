"""A file of answers: every bit comes back, nothing is run on reading, no reader sees half of it."""

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evomerge.calibration.responses import KINDS, Responses, joined, load, save
from evomerge.errors import CalibrationError

WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=6)


@st.composite
def responses(draw):
    m, n = draw(st.integers(0, 4)), draw(st.integers(0, 5))
    names = st.lists(WORDS, min_size=m, max_size=m).map(tuple)
    matrix = arrays(np.float64, (m, n))
    items = draw(st.lists(st.tuples(WORDS, WORDS), min_size=n, max_size=n, unique=True).map(tuple))
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=m, max_size=m).map(tuple))
    sizes = draw(st.lists(st.integers(0, 2**40), min_size=m, max_size=m).map(tuple))
    return Responses(
        draw(names), kinds, draw(names), items, draw(matrix), draw(st.none() | matrix), draw(st.none() | matrix), sizes,
        draw(WORDS),
    )  # fmt: skip


def bits(answers: Responses) -> list:
    matrices = [answers.values, answers.sizes, answers.margins]
    return [
        *(getattr(answers, name) for name in ("models", "kinds", "digests", "items", "batch_sizes", "settings")),
        *(None if m is None else (m.dtype, m.shape, m.tobytes()) for m in matrices),
    ]


def some(**changes) -> Responses:
    values = np.array([[0.1, np.nan], [1 / 3, -2.0]])
    made = Responses(("a", "b"), ("base", "other"), ("d", ""), (("t", "x"), ("t", "y")), values, settings="{}")
    return replace(made, **changes)


@given(responses())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_bit_and_name_comes_back(tmp_path: Path, answers: Responses):
    save(answers, tmp_path / "a.npz")
    assert bits(load(tmp_path / "a.npz")) == bits(answers)


def test_equal_settings_have_equal_keys():
    assert some().key == some(models=("c", "d")).key != some(settings="{1}").key


def test_items_are_found_by_name_and_strangers_are_not_asked():
    moved = some(sizes=np.ones((2, 2))).on((("t", "y"), ("u", "x"), ("t", "x")))
    assert np.array_equal(moved.values, [[np.nan, np.nan, 0.1], [-2.0, np.nan, 1 / 3]], equal_nan=True)
    assert np.array_equal(moved.sizes, [[1, np.nan, 1]] * 2, equal_nan=True)


def test_joining_replaces_equal_recipes_and_equal_imports_and_keeps_the_rest():
    new = Responses(
        ("renamed", "b", "c"), ("base", "other", "other"), ("d", "", ""), (("t", "y"), ("t", "x")),
        np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), margins=np.zeros((3, 2)),
    )  # fmt: skip
    both = joined(joined(some(), replace(some(), models=("z", "y"), digests=("e", ""))), new)
    assert both.models == ("z", "y", "renamed", "b", "c") and both.digests == ("e", "", "d", "", "")
    assert both.values[2:].tolist() == [[2.0, 1.0], [4.0, 3.0], [6.0, 5.0]] and both.settings == "{}"
    assert np.isnan(both.margins[:2]).all() and not both.margins[2:].any() and both.sizes is None


def test_a_file_is_replaced_at_once_and_nothing_is_left_beside_it(tmp_path: Path):
    path = tmp_path / "new" / "a.npz"
    save(some(), path)
    save(some(settings="{2}"), path)
    assert load(path).settings == "{2}" and os.listdir(path.parent) == ["a.npz"]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CalibrationError, match=r"cannot write .*file/a\.npz: (Not a directory|File exists).*writable"):
        save(some(), tmp_path / "file" / "a.npz")
    (tmp_path / "a.npz").mkdir()
    with pytest.raises(CalibrationError, match=r"cannot write"):
        save(some(), tmp_path / "a.npz")
    assert sorted(os.listdir(tmp_path)) == ["a.npz", "file"]  # the temporary file is gone


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    save(some(), path)
    with np.load(path) as file:
        return dict(file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": np.int64(99)}, r"has schema 99, this evomerge reads 1"),
        ({"schema": None}, r"was not written by `evomerge calibrate`"),
        ({"values": np.zeros((3, 2))}, r"values is float64 \(3, 2\), wanted float64 \(2, 2\)"),
        ({"margins": np.zeros((2, 2), np.float32)}, r"margins is float32"),
        ({"kinds": np.array(["base", "queen"])}, r"kind 'queen', wanted one of base"),
        ({"digests": np.array(["d"])}, r"2 models, 1 digests"),
        ({"items": np.array([["t", "x"], ["t", "x"]])}, r"an item stands in it twice"),
        ({"items": np.array(["t", "x"])}, r"is damaged"),
        ({"models": None}, r"is damaged \(KeyError\('models'\)\)"),
    ],
)
def test_an_inconsistent_file_is_refused(tmp_path: Path, changes: dict, message: str):
    path = tmp_path / "a.npz"
    found = {**arrays_of(path), **changes}
    np.savez(path, **{name: array for name, array in found.items() if array is not None})
    with pytest.raises(CalibrationError, match=message):
        load(path)


def test_a_file_cut_short_is_refused(tmp_path: Path):
    path = tmp_path / "a.npz"
    save(some(), path)
    whole = path.read_bytes()
    for end in (0, 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(CalibrationError, match=r"cannot be read as \.npz"):
            load(path)


def test_what_is_no_npz_or_not_there_is_refused(tmp_path: Path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    (tmp_path / "text.npz").write_text("model,t/x\n")
    (tmp_path / "folder.npz").mkdir()
    for name, message in {**dict.fromkeys(("one", "text", "folder"), "cannot be read"), "no": "not exist"}.items():
        with pytest.raises(CalibrationError, match=message):
            load(tmp_path / f"{name}.npz")


class Trap:
    """Leaves a mark if it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_pickled_objects_are_refused_and_not_run(tmp_path: Path):
    path, mark = tmp_path / "a.npz", tmp_path / "mark"
    np.savez(path, **{**arrays_of(path), "models": np.array([Trap(mark), "b"], dtype=object)})
    with pytest.raises(CalibrationError, match=r"without pickled objects"):
        load(path)
    path.write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(CalibrationError, match=r"cannot be read"):
        load(path)
    assert not mark.exists()
