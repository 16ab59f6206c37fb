"""Reading checkpoints: lazily, by content, and with a clear word about what is wrong."""

import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge.errors import ParentError
from evomerge.models import residency
from evomerge.models.family import Family, bytes_of, checkpoint_dtype, open_family
from evomerge.models.parent import open_parent


@pytest.fixture
def copy(pico, tmp_path):
    return shutil.copytree(pico["a"], tmp_path / "copy")


def rewrite(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_tensors_are_read_as_they_were_saved(pico):
    parent = open_parent(str(pico["a"]))
    saved = load_file(pico["a"] / "model.safetensors")
    assert set(parent.files) == set(saved)
    assert all(torch.equal(parent.read(name), saved[name]) for name in saved)


def test_the_digest_names_the_content_not_the_folder_or_the_shards(pico, copy):
    tensors = load_file(copy / "model.safetensors")
    names = sorted(tensors)
    (copy / "model.safetensors").unlink()
    for shard, part in (("model-1.safetensors", names[:5]), ("model-2.safetensors", names[5:])):
        save_file({n: tensors[n] for n in part}, copy / shard)
    assert open_parent(str(copy)).digest == open_parent(str(pico["a"])).digest


def test_one_changed_entry_changes_the_digest(pico, copy):
    rewrite(copy, lambda tensors: tensors["model.norm.weight"].view(-1)[0].add_(1e-6))
    assert open_parent(str(copy)).digest != open_parent(str(pico["a"])).digest


def test_nan_weights_are_refused_by_name(copy):
    rewrite(copy, lambda tensors: tensors["model.norm.weight"].view(-1)[0].fill_(torch.nan))
    with pytest.raises(ParentError, match=r"'model\.norm\.weight' .* NaN or infinite"):
        open_parent(str(copy))


def test_pickled_weights_are_refused_and_never_read(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ParentError, match="only pickled weights"):
        open_parent(str(copy))


def test_a_corrupt_file_is_told(copy):
    (copy / "model.safetensors").write_bytes(b"no tensors at all")
    with pytest.raises(ParentError, match="corrupt or incomplete"):
        open_parent(str(copy))


def test_a_truncated_file_is_told(copy):
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ParentError, match="corrupt or incomplete"):
        open_parent(str(copy))


def test_a_missing_shard_is_named(copy):
    index = {"weight_map": {"model.norm.weight": "model-2.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ParentError, match=r"lacks the shards model-2\.safetensors"):
        open_parent(str(copy))


@pytest.mark.parametrize("name", ["/no/such/folder", "./nowhere", "nowhere"])
def test_a_missing_folder_is_told(name):
    with pytest.raises(ParentError, match="no folder"):
        open_parent(name)


def test_a_hub_id_that_cannot_be_had_says_why():
    with pytest.raises(ParentError, match="the hub did not give it"):
        open_parent("nobody/nothing")


def test_no_config_is_told(copy):
    (copy / "config.json").unlink()
    with pytest.raises(ParentError, match=r"no config\.json"):
        open_parent(str(copy))


def test_a_config_that_is_not_json_is_told(copy):
    (copy / "config.json").write_text("{")
    with pytest.raises(ParentError, match="is not JSON"):
        open_parent(str(copy))


def test_parents_of_unequal_shapes_are_refused_with_both(pico, copy):
    rewrite(copy, lambda tensors: tensors.update({"model.norm.weight": torch.zeros(31)}))
    with pytest.raises(ParentError, match=r"differ at 'model\.norm\.weight': \(32,\) .* \(31,\)"):
        open_family([str(pico["b"]), str(copy)])


def test_parents_of_unequal_rows_are_refused_with_both_and_the_way_out(pico, copy):
    rewrite(copy, lambda tensors: tensors.update({"model.embed_tokens.weight": torch.zeros(300, 32)}))
    with pytest.raises(ParentError, match=r"rows 260 in .*, 300 in .*parents\.vocabulary=base"):
        open_family([str(copy)], str(pico["base"]))


def test_parents_with_other_tensors_are_refused(pico, copy):
    rewrite(copy, lambda tensors: tensors.update({"model.extra.weight": torch.zeros(2)}))
    with pytest.raises(ParentError, match=r"only .*copy has the tensor 'model\.extra\.weight'"):
        open_family([str(copy)], str(pico["base"]))


def test_parents_of_another_architecture_are_refused(pico, copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "architectures": ["GPT2LMHeadModel"]}))
    with pytest.raises(ParentError, match="GPT2LMHeadModel"):
        open_family([str(copy)], str(pico["base"]))


def test_no_parents_is_told():
    with pytest.raises(ParentError, match="no parents given"):
        open_family([])


def test_the_pool_knows_blocks_and_dtype(pico):
    family = open_family([str(pico["a"]), str(pico["b"])], str(pico["base"]))
    pool = family.pool()
    assert (pool.names, dict(pool.stacks), pool.dtype) == (("a", "b"), {"model.layers": 2}, "float32")
    assert checkpoint_dtype(family.parents[0]) == "float32"


@pytest.mark.parametrize("placement", ["device", "host", "disk"])
def test_parents_read_the_same_wherever_they_lie_and_are_kept_unless_on_disk(pico, placement):
    parent, device = open_parent(str(pico["a"])), torch.device("cpu")
    family = Family(None, (parent,), placement=placement)
    homes = [family.home(parent.digest, "model.norm.weight", device) for _ in range(2)]
    assert all(torch.equal(t, parent.read("model.norm.weight")) for t in homes)
    assert torch.equal(family.read(parent.digest, "model.norm.weight", device), homes[0])
    assert (homes[0] is homes[1]) == (placement != "disk")


def test_where_nobody_says_parents_stay_if_they_take_less_than_half_of_what_is_free(pico, monkeypatch):
    parent, device = open_parent(str(pico["a"])), torch.device("cpu")
    for free, placement in ((2 * bytes_of(parent) + 2, "device"), (2 * bytes_of(parent), "disk")):
        monkeypatch.setattr(residency, "free_bytes", lambda device, free=free: free)
        family = Family(None, (parent,))
        family.home(parent.digest, "model.norm.weight", device)
        assert family.placement == placement


def test_workers_are_told_where_parents_lie_and_read_them_themselves(pico):
    parent = open_parent(str(pico["a"]))
    family = Family(None, (parent,), placement="host", compiles=False)
    family.home(parent.digest, "model.norm.weight", torch.device("cpu"))
    sent = pickle.loads(pickle.dumps(family))
    assert (sent.placement, sent.compiles, len(family._kept), len(sent._kept)) == ("host", False, 1, 0)


def test_a_second_copy_of_tied_embeddings_is_the_same_checkpoint(pico, copy):
    rewrite(copy, lambda tensors: tensors.update({"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}))
    assert open_parent(str(copy)).digest == open_parent(str(pico["a"])).digest
    open_family([str(copy)], str(pico["base"]))


def test_a_head_of_its_own_in_a_tied_family_is_told(pico, copy):
    rewrite(copy, lambda tensors: tensors.update({"lm_head.weight": -tensors["model.embed_tokens.weight"]}))
    with pytest.raises(ParentError, match=r"'lm_head\.weight'"):
        open_family([str(copy)], str(pico["base"]))


def test_constants_of_older_checkpoints_are_no_weights(pico, copy):
    constant = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    rewrite(copy, lambda tensors: tensors.update(constant))
    assert open_parent(str(copy)).digest == open_parent(str(pico["a"])).digest


def test_a_quantised_checkpoint_is_refused(copy):
    rewrite(copy, lambda tensors: tensors.update({"model.norm.weight": torch.ones(32, dtype=torch.int8)}))
    with pytest.raises(ParentError, match=r"torch\.int8: a quantised checkpoint"):
        open_parent(str(copy))


@pytest.mark.parametrize("name", ["org/model", "org/model@main", "org/model@v2"])
def test_a_hub_id_is_found_in_the_cache_and_named_with_its_commit(pico, tmp_path, monkeypatch, name):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--org--model"
    shutil.copytree(pico["a"], repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    for ref in ("main", "v2"):
        (repository / "refs" / ref).write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    parent = open_parent(name)
    assert parent.name == f"org/model@{commit}"
    assert parent.digest == open_parent(str(pico["a"])).digest
    assert open_family([name], str(pico["base"])).pool().names == ("model",)


def test_differences_are_parent_minus_base_in_float32(pico):
    family = open_family([str(pico["a"])], str(pico["base"]))
    for name in family.shapes:
        a, base = (p.read(name) for p in (family.parents[0], family.base))
        assert torch.equal(family.delta(family.parents[0].digest, name, torch.device("cpu")), a - base)
