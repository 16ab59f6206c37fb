"""conf/: every file starts with the command that uses it, and every member can be made from its file."""

from __future__ import annotations

import inspect

import pytest

from evomerge import config
from evomerge.errors import ConfigError

FILES = sorted(p for p in config.CONF.rglob("*.yaml") if "hydra" not in p.relative_to(config.CONF).parts)
MEMBERS = [p for p in FILES if "_target_" in p.read_text()]


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_the_first_line_is_the_command_that_uses_it(path):
    first = next(line for line in path.read_text().splitlines() if not line.startswith("# @package"))
    assert first.startswith("# evomerge search")
    group, name = path.parent.name, path.stem
    if path.parent != config.CONF:
        config.settings([] if group == "parents" else [f"{group}={name}"])
        assert group in first


@pytest.mark.parametrize("path", MEMBERS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_member_file_names_every_setting_of_its_class_with_its_default(path):
    node = config.plain(config.settings([f"{path.parent.name}={path.stem}"])[path.parent.name])
    target = config._target(path.parent.name, node.pop("_target_"))
    parameters = inspect.signature(target).parameters
    node.pop("languages", None)  # of task=harness: a wrapper around the tasks it makes
    assert set(node) <= set(parameters)
    given = {"pool", "seed", "dtype", "problem", "split"}
    assert set(parameters) - given == set(node)
    if path.parent.name != "control":
        for name, value in node.items():
            default = parameters[name].default
            default = list(default) if isinstance(default, tuple) else default
            alike = default in (value, inspect.Parameter.empty) or (not value and not default)
            assert alike or name == "batch_size" or (name, value) == ("groups", None)  # null: filled in by the wiring


@pytest.mark.parametrize(
    ("value", "hint", "fit"),
    [
        (1, int, True),
        (True, int, False),
        (1, float, True),
        (1.5, int, False),
        ("x", str, True),
        (None, int | None, True),
        ([1, 2], list[int] | None, True),
        (["a"], "Sequence", True),
    ],
)
def test_types_are_checked_as_the_signature_says(value, hint, fit):
    assert config.fits(value, hint) == fit


def test_a_user_folder_adds_members(tmp_path):
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "wide.yaml").write_text(
        "_target_: evomerge.optimizers.cma_es.CmaEs\npopulation: 20\nsigma: 2.0\n"
    )
    assert config.settings(["optimizer=wide"], [str(tmp_path)]).optimizer.population == 20


def test_a_setting_the_class_does_not_have_is_refused():
    with pytest.raises(ConfigError, match=r"unknown setting 'estimator\.depth'"):
        config.make("estimator", {"_target_": "evomerge.estimators.mean.Mean", "depth": 3})
