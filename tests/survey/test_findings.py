from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file

from evomerge.config import ZOO
from evomerge.survey.findings import findings
from tests.models_pico import make_pico
from tests.survey.made import moved, remade, surveyed


def kinds(survey):
    return {(f.level, f.kind, f.parents) for f in findings(survey)}


def test_nothing_is_said_about_ordinary_fine_tunes(pico):
    zoo = ZOO / "pico"
    assert not findings(surveyed(zoo / "base", *(zoo / name for name in ("rev", "add", "nxt"))))
    assert not findings(surveyed(pico["base"], pico["a"], pico["b"]))


def test_a_parent_of_another_base_raises_the_alarm(pico, tmp_path):
    stranger = make_pico(tmp_path / "stranger", seed=77)
    assert kinds(surveyed(pico["base"], pico["a"], stranger, pico["b"])) == {("alarm", "wrong_base", ("B",))}


def test_a_wrong_base_raises_the_alarm_for_every_parent(pico, tmp_path):
    wrong = make_pico(tmp_path / "wrong", seed=77)
    found = kinds(surveyed(wrong, pico["a"], pico["b"]))
    assert {("alarm", "wrong_base", ("A",)), ("alarm", "wrong_base", ("B",))} <= found
    assert ("alarm", "other_ancestor", ("A", "B")) in found


@pytest.mark.parametrize("way, told", [(0.7, ("warning", "distant")), (2.0, ("alarm", "wrong_base")), (0.3, None)])
def test_a_parent_as_far_as_the_base_is_large_is_a_warning_and_farther_an_alarm(pico, tmp_path, way, told):
    weights = load_file(pico["base"] / "model.safetensors").values()
    length = float(sum(t.double().square().sum() for t in weights)) ** 0.5
    far = moved(pico["base"], tmp_path / "far", u=way * length)
    found = {
        (level, kind) for level, kind, parents in kinds(surveyed(pico["base"], pico["a"], far)) if parents == ("B",)
    }
    assert found == ({told} if told else set())


def test_parents_of_another_checkpoint_are_told_from_fine_tunes_of_the_base(pico, tmp_path):
    a = moved(pico["base"], tmp_path / "a", u=1.0, v=5.0)
    b = moved(pico["base"], tmp_path / "b", u=1.0, w=5.0)
    assert not findings(surveyed(pico["base"], a, b))
    a = moved(pico["base"], tmp_path / "c", u=8.0, v=2.0)
    b = moved(pico["base"], tmp_path / "d", u=8.0, w=2.0)
    assert kinds(surveyed(pico["base"], a, b)) == {("alarm", "other_ancestor", ("A", "B"))}


def test_one_parent_much_farther_than_the_others_is_named(pico, tmp_path):
    near = [moved(pico["base"], tmp_path / key, **{key: 0.5}) for key in "ab"]
    far = moved(pico["base"], tmp_path / "far", u=8.0)
    assert kinds(surveyed(pico["base"], *near, far)) == {("warning", "outlier", ("C",))}


def test_task_vectors_of_unequal_lengths_are_noted(pico, tmp_path):
    two = [moved(pico["base"], tmp_path / "a", u=1.0), moved(pico["base"], tmp_path / "b", v=4.0)]
    assert kinds(surveyed(pico["base"], *two)) == {("note", "unequal_norms", ("B", "A"))}


def test_copies_are_found_by_digest_and_by_direction(pico, tmp_path):
    copy = shutil.copytree(pico["a"], tmp_path / "copy")
    assert kinds(surveyed(pico["base"], pico["a"], pico["b"], copy)) == {("warning", "duplicate", ("A", "C"))}
    one = moved(pico["base"], tmp_path / "one", u=5.0)
    almost = moved(pico["base"], tmp_path / "almost", u=5.0, v=0.1)
    assert kinds(surveyed(pico["base"], one, almost)) == {("warning", "duplicate", ("A", "B"))}
    alike = moved(pico["base"], tmp_path / "alike", u=5.0, v=1.2)
    assert ("note", "near_duplicate", ("A", "B")) in kinds(surveyed(pico["base"], one, alike, pico["b"]))


def test_the_same_direction_at_another_length_is_no_copy(pico, tmp_path):
    one, half = moved(pico["base"], tmp_path / "1", u=5.0), moved(pico["base"], tmp_path / "2", u=2.5)
    assert "duplicate" not in {kind for _, kind, _ in kinds(surveyed(pico["base"], one, half, pico["b"]))}


def test_the_base_among_the_parents_is_named(pico):
    assert ("warning", "same_as_base", ("B",)) in kinds(surveyed(pico["base"], pico["a"], pico["base"]))


def test_without_a_base_fine_tunes_are_no_copies_but_copies_are(pico, tmp_path):
    note = ("note", "no_base", ())
    assert kinds(surveyed(None, pico["a"], pico["b"])) == {note}
    copy = shutil.copytree(pico["a"], tmp_path / "copy")
    assert kinds(surveyed(None, pico["a"], copy)) == {note, ("warning", "duplicate", ("A", "B"))}


@pytest.mark.parametrize("size, told", [(0.4, True), (6.0, False)])
def test_a_task_vector_below_the_step_of_bf16_is_told_to_be_rounding(tmp_path, size, told):
    base = make_pico(tmp_path / "base", seed=0, dtype="bfloat16")
    generator = torch.Generator().manual_seed(3)

    def change(weights):  # `size` steps of bf16, which has 8 bits, as training would leave them in float32
        found = {}
        for name, tensor in weights.items():
            step = torch.exp2(torch.frexp(tensor.float())[1] - 8.0)
            found[name] = (tensor.float() + size * step * torch.randn(tensor.shape, generator=generator)).bfloat16()
        return found

    survey = surveyed(base, remade(base, tmp_path / "a", change))
    assert (("warning", "rounding", ("A",)) in kinds(survey)) == told
