from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from evomerge.models.family import open_family
from evomerge.survey import figures
from evomerge.survey.measure import survey
from tests.models_pico import make_pico
from tests.survey.made import CPU, adapter, moved, remade, surveyed


def test_norms_cosines_and_distances_are_those_that_were_planted(pico, tmp_path):
    a, b = moved(pico["base"], tmp_path / "a", u=5.0), moved(pico["base"], tmp_path / "b", u=3.0, v=4.0)
    c = moved(pico["base"], tmp_path / "c", u=-2.0)
    found = surveyed(pico["base"], a, b, c)
    length = torch.cat([t.flatten() for t in load_file(pico["base"] / "model.safetensors").values()]).double().norm()
    assert figures.norms(found.total) == pytest.approx([5, 5, 2], rel=1e-5)
    assert figures.relative_norms(found.total) == pytest.approx(np.array([5, 5, 2]) / float(length), rel=1e-5)
    cosines = [[1, 0.6, -1], [0.6, 1, -0.6], [-1, -0.6, 1]]
    assert figures.cosines(found.total) == pytest.approx(np.array(cosines), abs=1e-5)
    gaps = [[0, 20**0.5, 7], [20**0.5, 0, 41**0.5], [7, 41**0.5, 0]]
    assert figures.distances(found.total) == pytest.approx(np.array(gaps), abs=1e-4)


def test_cosines_of_the_weights_are_those_of_the_checkpoints(pico):
    flat = [
        torch.cat([t.flatten() for _, t in sorted(load_file(pico[k] / "model.safetensors").items())]).double()
        for k in ("base", "a", "b")
    ]
    wanted = torch.stack([f / f.norm() for f in flat])
    found = figures.weight_cosines(surveyed(pico["base"], pico["a"], pico["b"]).total)
    assert found == pytest.approx((wanted @ wanted.T).numpy(), abs=1e-6)
    alone = surveyed(None, pico["a"], pico["b"]).total
    assert figures.cosines(alone) == pytest.approx((wanted @ wanted.T).numpy()[1:, 1:], abs=1e-12)
    assert figures.distances(alone)[0, 1] == pytest.approx(float((flat[1] - flat[2]).norm()), rel=1e-6)
    assert figures.norms(alone) == pytest.approx([float(f.norm()) for f in flat[1:]])


def test_sign_conflict_is_counted_where_two_parents_changed_and_weighed_by_their_changes(pico, tmp_path):
    name = "model.layers.1.mlp.up_proj.weight"
    plans = {"a": [1, 1, 1, -1, 0, 0], "b": [1, -3, 0, -1, 2, 0], "c": [0, 0, -1, -1, 0, 0]}

    def planted(signs):
        def change(weights):
            weights[name].view(-1)[: len(signs)] += torch.tensor(signs) * 0.125
            return weights

        return change

    parents = [remade(pico["base"], tmp_path / k, planted(signs)) for k, signs in plans.items()]
    found = surveyed(pico["base"], *parents)
    tally = found.tallies[name]
    assert (tally.shared, tally.clashing) == (4, 2)  # columns 0 to 3; of these 1 and 2
    assert tally.shared_mass == pytest.approx(0.125 * (2 + 4 + 2 + 3), rel=1e-5)
    assert tally.clashing_mass == pytest.approx(0.125 * (4 + 2), rel=1e-5)
    assert figures.conflict(found.by_block_and_part[("model.layers", 1), "mlp"]) == 0.5
    assert np.isnan(figures.conflict(found.by_block["model.layers", 0]))


def test_entries_equal_to_the_base_are_counted(pico, tmp_path):
    def change(weights):
        weights["model.norm.weight"][:5] += 1
        return weights

    found = surveyed(pico["base"], remade(pico["base"], tmp_path / "a", change), pico["b"])
    assert found.total.entries - found.total.equal[0] == 5
    assert list(found.tallies["model.norm.weight"].equal) == [32 - 5, 0]
    assert figures.equal_shares(found.total)[0] == 1 - 5 / found.total.entries


def test_slices_give_the_sums_of_whole_tensors(pico):
    whole, sliced = (surveyed(pico["base"], pico["a"], pico["b"], slice_size=size) for size in (1 << 30, 37))
    for name, tally in whole.tallies.items():
        for f in fields(tally):
            assert getattr(sliced.tallies[name], f.name) == pytest.approx(getattr(tally, f.name), rel=1e-11), f.name
        assert sliced.tallies[name].shared == tally.shared and (sliced.tallies[name].equal == tally.equal).all()


def test_the_same_survey_has_the_same_bits(pico):
    one, two = (surveyed(pico["base"], pico["a"], pico["b"]).total for _ in range(2))
    assert one.gram.tobytes() == two.gram.tobytes() and one.shared_mass == two.shared_mass


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("steps", [1, 4])
def test_a_change_by_whole_steps_of_the_dtype_is_that_many_ulps(tmp_path, dtype, steps):
    base = make_pico(tmp_path / "base", seed=0, dtype=dtype)
    bits = torch.int32 if dtype == "float32" else torch.int16

    def change(weights):  # down by some steps, but never into the next binade, where steps are smaller
        return {n: (t.view(bits) ^ steps).view(t.dtype) for n, t in weights.items()}

    found = surveyed(base, remade(base, tmp_path / "a", change))
    assert figures.ulps(found.total) == pytest.approx([steps], rel=1e-6)
    assert figures.rounding(found.total) == pytest.approx([1 / (12**0.5 * steps)], rel=1e-6)


def test_untouched_tensors_do_not_count_as_rounded(tmp_path):
    base = make_pico(tmp_path / "base", seed=0, dtype="bfloat16")

    def change(weights):
        name = "model.layers.0.mlp.up_proj.weight"
        return {**weights, name: (weights[name].view(torch.int16) ^ 1).view(torch.bfloat16)}

    assert figures.ulps(surveyed(base, remade(base, tmp_path / "a", change)).total) == pytest.approx([1])


def test_an_adapter_is_measured_from_its_factors(pico, tmp_path):
    folder, deltas = adapter(pico["base"], tmp_path / "lora", rank=2)
    found = surveyed(pico["base"], folder, pico["b"])
    wanted = sum(float(d.double().square().sum()) for d in deltas.values()) ** 0.5
    assert figures.norms(found.total)[0] == pytest.approx(wanted, rel=1e-6)
    assert (found.parents[0].dtype, found.parents[0].rank) == ("adapter", 2)
    assert found.total.equal[0] == found.total.entries - sum(d.numel() for d in deltas.values())
    assert np.isnan(figures.ulps(found.total)[0]) and found.total.shared == sum(d.numel() for d in deltas.values())


def test_an_adapter_and_the_checkpoint_it_makes_are_one_task_vector(pico, tmp_path):
    folder, deltas = adapter(pico["base"], tmp_path / "lora")
    merged = remade(pico["base"], tmp_path / "whole", lambda w: {n: t + deltas.get(n, 0) for n, t in w.items()})
    found = surveyed(pico["base"], folder, merged)
    assert figures.cosines(found.total)[0, 1] == pytest.approx(1, abs=1e-6)


def test_every_tensor_is_reported_once(pico):
    steps = []
    family = open_family([str(pico["a"])], str(pico["base"]))
    survey(family, device=CPU, watch=lambda done, total: steps.append((done, total)))
    assert steps == [(i + 1, len(family.shapes)) for i in range(len(family.shapes))]


def test_sums_by_part_and_block_add_up_to_the_whole(pico):
    found = surveyed(pico["base"], pico["a"], pico["b"])
    assert sum(t.entries for t in found.by_part.values()) == found.total.entries
    places = found.by_block_and_part
    assert sum(t.entries for t in places.values()) == found.total.entries
    assert sum(t.gram[1, 1] for t in places.values()) == pytest.approx(found.total.gram[1, 1])
    assert found.matrices.entries == sum(np.prod(s) for s in found.shapes.values() if len(s) > 1)
