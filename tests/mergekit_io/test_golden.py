"""Our reading of a YAML, built, equals what mergekit 0.1.5 made of it (scripts/make_mergekit_golden.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from evomerge.mergekit_io import read
from evomerge.models.family import open_family
from evomerge.recipe_io import read_yaml, to_yaml
from tests.mergekit_io.llamas import weights
from tests.mergekit_io.merging import built, largest_difference

GOLDEN = Path(__file__).parents[1] / "golden" / "mergekit"
CONFIGS = sorted(GOLDEN.glob("*.yml"))
RANDOM, ROUNDED = {"dare_linear", "della", "della_linear"}, {"bfloat16", "mixed_dtypes"}
EXACT = [c for c in CONFIGS if c.stem not in RANDOM | ROUNDED]
#: Measured: 3.6e-7 at most (karcher); mergekit fuses multiplication and addition, and takes angles in float32.
FAR = 1e-6


def made_by_mergekit(config: Path) -> dict[str, torch.Tensor]:
    return load_file(config.with_suffix(".safetensors"))


def made_by_us(config: Path) -> dict[str, torch.Tensor]:
    return built(*read(config, open_family))


@pytest.mark.parametrize("config", EXACT, ids=lambda c: c.stem)
def test_every_tensor_equals_mergekits(here, config):
    assert largest_difference(made_by_us(config), made_by_mergekit(config)) <= FAR


@pytest.mark.parametrize("stem", sorted(ROUNDED))
def test_bfloat16_outputs_differ_by_one_step_of_bfloat16_in_few_entries(here, stem):
    ours, theirs = made_by_us(GOLDEN / f"{stem}.yml"), made_by_mergekit(GOLDEN / f"{stem}.yml")
    assert set(ours) == set(theirs)
    assert {t.dtype for t in ours.values()} == {torch.bfloat16}
    steps = [(ours[n].view(torch.int16).int() - theirs[n].view(torch.int16).int()).abs() for n in ours]
    assert max(int(s.max()) for s in steps) <= 1
    # all of them halfway between two numbers of bfloat16 (weights 0.3 and 0.3), where the last bit of float32 decides
    assert sum(int(s.sum()) for s in steps) < 0.02 * sum(s.numel() for s in steps)


@pytest.mark.parametrize("stem", ["dare_linear", "della_linear"])
def test_random_masks_keep_as_many_entries_and_restore_the_same_norm(here, stem):
    config, base, math = GOLDEN / f"{stem}.yml", weights(0), weights(1, drift_of=0)
    for made in (made_by_us(config), made_by_mergekit(config)):
        kept = [made[n] - base[n] != 0 for n in made]
        share = sum(int(k.sum()) for k in kept) / sum(k.numel() for k in kept)
        assert share == pytest.approx(0.5, abs=0.02)  # 11 200 entries: four standard deviations
        for name in made:
            before, after = ((t[name] - base[name]).abs().sum() for t in (math, made))
            assert after == pytest.approx(float(before), rel=1e-4)


def test_della_keeps_the_larger_half_of_each_row_more_often_by_the_same_share(here):
    config, base, math = GOLDEN / "della_linear.yml", weights(0), weights(1, drift_of=0)
    for made in (made_by_us(config), made_by_mergekit(config)):
        kept = []
        for name in (n for n in made if made[n].dim() == 2):
            size = (math[name] - base[name]).abs()
            larger = size > size.median(dim=1, keepdim=True).values  # the lower median: half of an even row
            kept.append((made[name] - base[name] != 0)[larger])
        share = float(torch.cat(kept).float().mean())
        assert share == pytest.approx(0.66, abs=0.025)  # density 0.5, epsilon 0.3; 5500 entries: four deviations


def test_where_no_entries_are_dropped_della_equals_mergekits(here):
    ours, theirs = made_by_us(GOLDEN / "della.yml"), made_by_mergekit(GOLDEN / "della.yml")
    whole = [name for name in theirs if "self_attn" not in name]
    assert largest_difference({n: ours[n] for n in whole}, {n: theirs[n] for n in whole}) <= FAR
    assert largest_difference(ours, theirs) > FAR  # the masks are others


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.stem)
def test_an_imported_recipe_survives_our_own_yaml(here, tmp_path, config):
    recipe, family = read(config, open_family)
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe, {p.digest: p.name for p in family.all}))
    assert read_yaml(tmp_path / "recipe.yaml")[0] == recipe


def test_the_goldens_say_where_they_come_from():
    provenance = json.loads((GOLDEN / "provenance.json").read_text())
    assert provenance["versions"]["mergekit"] == "0.1.5"
    assert len(CONFIGS) == len(list(GOLDEN.glob("*.safetensors"))) >= 12
