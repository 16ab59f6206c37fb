"""Safetensors files written by pieces are those that safetensors and transformers read."""

from __future__ import annotations

import json
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, load_file, safe_open

from evomerge.models.shards import Outline, write_shards

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def outlined(tensors: dict[str, torch.Tensor]) -> dict[str, Outline]:
    return {name: Outline(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


def cut(tensor: torch.Tensor, size: int) -> list[torch.Tensor]:
    return list(tensor.reshape(-1).split(size))


@settings(max_examples=30, deadline=None)
@given(
    shapes=st.lists(
        st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(1, 5), max_size=3)), min_size=1, max_size=6
    ),
    shard=st.integers(1, 400),
    piece=st.integers(1, 50),
)
def test_what_is_read_is_what_was_written_whatever_the_cuts(tmp_path_factory, shapes, shard, piece):
    folder = tmp_path_factory.mktemp("shards")
    made = {f"t{i}": torch.randn(shape).to(dtype) for i, (dtype, shape) in enumerate(shapes)}
    write_shards(folder, outlined(made), lambda name: cut(made[name], piece), shard_bytes=shard)
    files = sorted(folder.glob("*.safetensors"))
    read = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert set(read) == set(made) and all(torch.equal(read[name], made[name]) for name in made)
    assert all(read[name].dtype == made[name].dtype for name in made)
    assert len(list(folder.iterdir())) == len(files) + (len(files) > 1)
    assert all(len(load(file.read_bytes())) == 1 or file.stat().st_size < shard + 1000 for file in files)


def test_several_shards_have_the_names_and_the_index_that_transformers_reads(tmp_path):
    made = {name: torch.arange(4.0) for name in "abc"}
    write_shards(tmp_path, outlined(made), lambda name: [made[name]], shard_bytes=32)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    assert index == {"metadata": {"total_size": 48}, "weight_map": {"a": first, "b": first, "c": second}}
    with safe_open(tmp_path / first, framework="pt") as f:
        assert f.metadata() == {"format": "pt"}  # transformers refuses files without


def test_the_entries_begin_at_a_multiple_of_eight_and_every_byte_is_told(tmp_path):
    made, told = {"a": torch.ones(3), "longer name": torch.ones(2, 2)}, []
    write_shards(tmp_path, outlined(made), lambda name: cut(made[name], 2), told.append)
    whole = (tmp_path / "model.safetensors").read_bytes()
    assert int.from_bytes(whole[:8], "little") % 8 == 0
    assert told == [8, 4, 8, 8]


def test_of_an_interrupted_model_no_file_is_left(tmp_path):
    def pieces(name):
        yield torch.ones(4 if name == "a" else 2)
        if name == "b":
            raise KeyboardInterrupt

    outlines = dict.fromkeys("ab", Outline((4,), torch.float32))
    with pytest.raises(KeyboardInterrupt):
        write_shards(tmp_path, outlines, pieces, shard_bytes=16)
    assert not list(tmp_path.iterdir())


def test_one_piece_is_in_memory_at_a_time(tmp_path):
    alive: list[weakref.ref] = []

    def pieces(name):
        for _ in range(4):
            assert not any(piece() is not None for piece in alive[:-1])
            piece = torch.ones(8)
            alive.append(weakref.ref(piece))
            yield piece

    write_shards(tmp_path, {"a": Outline((32,), torch.float32), "b": Outline((32,), torch.float32)}, pieces)
    assert len(alive) == 8
