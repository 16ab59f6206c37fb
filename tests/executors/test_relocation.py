"""Parents on another machine's disk: the same ones are taken wherever they lie, others are refused by their content."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge.errors import ConfigError
from evomerge.executors.relocation import folder_of, packed, relocated
from evomerge.models.family import open_family
from tests.models.test_lora import make_adapter

# PEFT warns of transformers' plans.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def family(pico, tmp_path_factory):
    """Two checkpoints and an adapter over a base."""
    folder = tmp_path_factory.mktemp("adapters") / "c"
    adapter = make_adapter(pico["base"], folder, r=2, target_modules=["q_proj"], save_embeddings=False)
    return open_family([str(pico["a"]), str(pico["b"]), str(adapter)], str(pico["base"]))


@pytest.fixture
def copies(family, tmp_path) -> Path:
    for parent in family.all:
        shutil.copytree(parent.folder, tmp_path / parent.folder.name)
    return tmp_path


def tensors(family):
    return {(p.digest, name): family.read(p.digest, name, CPU) for p in family.all for name in family.shapes}


def change(path: Path, name: str | None = None) -> None:
    """One entry of one tensor becomes another."""
    kept = load_file(path)
    kept[name or min(kept)].view(-1)[0] += 1
    save_file(kept, path, metadata={"format": "pt"})


def test_copies_elsewhere_are_read_there_and_are_the_same_parents(family, copies):
    there = relocated(packed(family), str(copies), "n1")
    assert [p.folder for p in there.all] == [copies / p.folder.name for p in family.all]
    assert {path.parent for p in there.checkpoints for path in p.files.values()} == {
        copies / p.folder.name for p in family.checkpoints
    }
    assert [(p.name, p.digest) for p in there.all] == [(p.name, p.digest) for p in family.all]
    ours, theirs = tensors(family), tensors(there)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_without_a_folder_the_drivers_own_paths_are_read(family):
    there = relocated(packed(family), None, "n1")
    assert [p.folder for p in there.all] == [p.folder for p in family.all]


def test_a_copy_cut_into_other_shards_is_the_same_parent(family, copies):
    whole = copies / "a" / "model.safetensors"
    kept = load_file(whole)
    whole.unlink()
    for i, name in enumerate(kept):
        save_file({name: kept[name]}, copies / "a" / f"part{i}.safetensors", metadata={"format": "pt"})
    ours, theirs = tensors(family), tensors(relocated(packed(family), str(copies), "n1"))
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize(
    ("name", "file"), [("base", "model.safetensors"), ("b", "model.safetensors"), ("c", "adapter_model.safetensors")]
)
def test_a_copy_with_one_other_entry_is_refused_with_node_parent_and_both_digests(family, copies, name, file):
    (ours,) = [p for p in family.all if p.folder.name == name]
    change(copies / name / file)
    with pytest.raises(ConfigError, match=rf"node n1 .* {ours.name} at {copies / name}: .*{ours.digest}") as caught:
        relocated(packed(family), str(copies), "n1")
    there = str(caught.value).partition("its digest is ")[2].split()[0]
    assert len(there) == 16 and there != ours.digest


def test_a_copy_with_another_config_is_refused_with_what_differs(family, copies):
    path = copies / "a" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rms_norm_eps": 0.5}))
    with pytest.raises(ConfigError, match=r"its config is {'rms_norm_eps': 0.5} there and {'rms_norm_eps': 1e-06}"):
        relocated(packed(family), str(copies), "n1")


def test_a_base_with_another_chat_template_is_refused(family, copies):
    (copies / "base" / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(ConfigError, match="node n1 sees another tokenizer"):
        relocated(packed(family), str(copies), "n1")


def test_a_missing_copy_is_refused_with_where_it_was_looked_for(family, copies):
    shutil.rmtree(copies / "b")
    with pytest.raises(ConfigError, match=rf"node n1 has no parent .*/b .*executor.parents_dir={copies}.*'{copies}/b'"):
        relocated(packed(family), str(copies), "n1")


def test_two_parents_of_one_name_cannot_be_told_apart(family):
    a, b, _ = family.parents
    namesake = replace(b, name="/elsewhere/a")
    family = open_family([str(a.folder), str(b.folder)], str(family.base_folder))
    family.parents = (a, namesake)
    with pytest.raises(ConfigError, match=rf"cannot tell /elsewhere/a and {a.name} apart: both are called a"):
        folder_of(a, family, "/disk")


def test_a_hub_parent_is_looked_for_under_the_models_name(family):
    hub = replace(family.parents[0], name="owner/model@0123abc")
    assert folder_of(hub, family, "/disk") == Path("/disk/model")
