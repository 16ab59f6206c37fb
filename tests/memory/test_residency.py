"""The settings merge.residency and merge.compile: what they reach, and what they are part of."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from evomerge import config, preparation
from evomerge.errors import ConfigError
from evomerge.identity import identity_of


def prepared(command, tmp_path, *more):
    cfg = config.settings([*command[1:], f"run={tmp_path / 'run'}", *more])
    return cfg, preparation.prepare(cfg, tmp_path / "run")


def identity(cfg, made, device):
    evaluator = replace(made.plan.evaluator, device=torch.device(device))
    plan = replace(made.plan, evaluator=evaluator)
    return identity_of(cfg, evaluator.family, evaluator.tasks, plan, evaluator.dtype)


@pytest.mark.parametrize("asked, placement", [("auto", "device"), ("device", "device"), ("disk", "disk")])
def test_parents_lie_where_the_settings_say(command, tmp_path, asked, placement):
    cfg, made = prepared(command, tmp_path, f"merge.residency={asked}")
    placed = preparation.place_parents(made, cfg)
    assert made.plan.evaluator.family.placement == placement
    assert "parents" in placed.advice[-1], "it is printed before the search"


@pytest.mark.parametrize("asked, compiles", [("auto", None), ("true", True), ("false", False)])
def test_merging_is_compiled_as_the_settings_say(command, tmp_path, asked, compiles):
    assert prepared(command, tmp_path, f"merge.compile={asked}")[1].plan.evaluator.family.compiles is compiles


@pytest.mark.parametrize(
    "wrong, told",
    [
        ("merge.residency=dsk", "unknown merge.residency 'dsk'. Did you mean 'disk'?"),
        ("merge.residency=true", "unknown merge.residency 'True'"),
        ("merge.compile=1", "merge.compile is 1; wanted auto, true or false."),
        ("merge.compile=fast", "merge.compile is 'fast'"),
    ],
)
def test_other_values_are_refused_before_a_checkpoint_is_opened(command, tmp_path, wrong, told):
    with pytest.raises(ConfigError) as refused:
        prepared(command, tmp_path, wrong, "parents.base=/no/such/folder")
    assert told in str(refused.value)


def test_compiling_is_part_of_a_run_on_cuda_alone_and_residency_never(command, tmp_path):
    one = prepared(command, tmp_path)
    two = prepared(command, tmp_path, "merge.compile=false", "merge.residency=disk")
    assert identity(*one, "cpu") == identity(*two, "cpu")
    here, there = identity(*one, "cuda"), identity(*two, "cuda")
    assert {key for key in here if here[key] != there[key]} == {"compile"}
