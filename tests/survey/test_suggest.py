from __future__ import annotations

import shutil

import pytest
import torch

from evomerge import config
from evomerge.models.family import open_family
from evomerge.searcher import make_space
from evomerge.survey.suggest import suggestions
from tests.models_pico import make_pico
from tests.survey.made import adapter, moved, remade, surveyed


def overrides(survey):
    return [o for one in suggestions(survey) for o in one.overrides]


def test_every_suggestion_makes_a_space(pico, tmp_path):
    copy = shutil.copytree(pico["a"], tmp_path / "copy")
    aligned = [moved(pico["base"], tmp_path / k, u=1.5, **{k: 1.0}) for k in "ab"]
    cases = [
        (pico["base"], [pico["a"], copy]),
        (pico["base"], aligned),
        (pico["base"], [sparse(pico["base"], tmp_path / "s1", 1), sparse(pico["base"], tmp_path / "s2", 2)]),
        (pico["base"], [moved(pico["base"], tmp_path / k, **{k: 0.5}) for k in "cd"]),
        (None, [pico["a"], pico["b"]]),
        (None, [pico["a"], pico["b"], copy]),
    ]
    for base, parents in cases:
        given = overrides(surveyed(base, *parents))
        assert given, parents
        cfg = config.settings(given)
        family = open_family([str(p) for p in parents], str(base) if base else None)
        assert make_space(cfg, family.pool(), seed=1, dtype="float32").size >= 1


def sparse(base, folder, seed):
    """A parent that changed a third of every tensor."""
    generator = torch.Generator().manual_seed(seed)

    def change(weights):
        masks = {n: torch.rand(t.shape, generator=generator) < 1 / 3 for n, t in weights.items()}
        return {n: t + 0.02 * masks[n] * torch.randn(t.shape, generator=generator) for n, t in weights.items()}

    return remade(base, folder, change)


def test_short_orthogonal_task_vectors_get_a_wider_range_and_long_ones_the_default(pico, tmp_path):
    short = [moved(pico["base"], tmp_path / k, **{k: 0.5}) for k in "ab"]
    assert "space.ranges.weight=[-0.2,2.0]" in overrides(surveyed(pico["base"], *short))
    long = [moved(pico["base"], tmp_path / k, **{k: 10.0}) for k in "cd"]
    assert not [o for o in overrides(surveyed(pico["base"], *long)) if "weight" in o]


def test_overlapping_task_vectors_get_a_range_that_shrinks_with_their_sum(pico, tmp_path):
    two = [moved(pico["base"], tmp_path / k, u=1.0, **{k: 1.0}) for k in "ab"]  # cosine 1/2: the sum is 1.22 as long
    assert "space.ranges.weight=[-0.2,1.2]" in overrides(surveyed(pico["base"], *two))


def test_signs_that_disagree_more_than_chance_suggest_an_election(pico, tmp_path):
    against = [moved(pico["base"], tmp_path / k, u=s, **{k: 9.0}) for k, s in (("a", 5.0), ("b", -5.0))]
    assert "space.method=ties" in overrides(surveyed(pico["base"], *against))
    apart = [moved(pico["base"], tmp_path / f"{k}0", **{k: 9.0}) for k in "ab"]
    assert "space.method=ties" not in overrides(surveyed(pico["base"], *apart, pico["a"]))


def test_near_copies_share_their_weight(pico, tmp_path):
    two = [moved(pico["base"], tmp_path / k, u=5.0, **{k: 0.5}) for k in "ab"] + [pico["a"]]
    assert "space.fixed={normalize: true}" in overrides(surveyed(pico["base"], *two))


def test_densities_beyond_what_changed_are_not_searched(pico, tmp_path):
    parents = [sparse(pico["base"], tmp_path / str(seed), seed) for seed in (1, 2)]
    given = overrides(surveyed(pico["base"], *parents))
    assert "space.method=ties" in given
    high = float(next(o for o in given if "density" in o).rpartition(",")[2].rstrip("]"))
    assert high == pytest.approx(1 / 3, abs=0.02)


def test_tensors_that_an_adapter_leaves_alone_say_nothing_of_its_density(pico, tmp_path):
    loras = [adapter(pico["base"], tmp_path / name)[0] for name in ("one", "two")]
    assert not [o for o in overrides(surveyed(pico["base"], *loras)) if "density" in o]


def test_parents_that_work_in_other_depths_or_parts_get_groups_or_parts(tmp_path):
    base = deep(tmp_path / "base")

    def louder(words, seed):
        generator = torch.Generator().manual_seed(seed)

        def change(weights):
            noise = {n: torch.randn(t.shape, generator=generator) for n, t in sorted(weights.items())}
            return {n: t + (0.04 if any(w in n for w in words) else 0.01) * noise[n] for n, t in weights.items()}

        return change

    even = remade(base, tmp_path / "even", louder([], 1))
    late = remade(base, tmp_path / "late", louder(["layers.4", "layers.5"], 2))
    attention = remade(base, tmp_path / "attention", louder(["self_attn"], 3))
    settings = [o for o in overrides(surveyed(base, even, late)) if "weight" not in o]
    assert settings == ["space.groups=3"]
    settings = [o for o in overrides(surveyed(base, even, attention)) if "weight" not in o]
    assert settings == ["space.parts=[self_attn]"]
    assert not [
        o for o in overrides(surveyed(base, even, remade(base, tmp_path / "two", louder([], 4)))) if "weight" not in o
    ]


def deep(folder):
    """The pico model with six blocks."""
    import json

    two = make_pico(folder.parent / "two_blocks", seed=0)
    generator = torch.Generator().manual_seed(8)

    def change(weights):
        more = {
            n.replace("layers.0", f"layers.{b}"): t for n, t in weights.items() for b in range(6) if "layers.0" in n
        }
        return {n: t + 0.05 * torch.randn(t.shape, generator=generator) for n, t in sorted({**weights, **more}.items())}

    remade(two, folder, change)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_hidden_layers": 6}))
    return folder
