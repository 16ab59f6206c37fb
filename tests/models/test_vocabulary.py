"""Gathering rows: which tensors have one row per token, and what a parent's tensor looks like on the merged rows."""

from __future__ import annotations

import pickle

import pytest
import torch

from evomerge.errors import ParentError
from evomerge.models.reconcile import reconcile
from evomerge.models.vocabulary import Vocabulary, is_vocabulary_tensor, n_rows
from tests.models.speakers import EMBEDDING, HEAD, reader, speaker, special, words

#: a has tokens 0 1 2; b has them as 1 0 and lacks 2; both b and c have row 3, which a lacks.
ROWS = {"a": torch.tensor([0, 1, 2, -1]), "b": torch.tensor([1, 0, -1, 2]), "c": torch.tensor([0, 1, 2, 3])}
TENSORS = {
    "a": torch.tensor([1.0, 2.0, 3.0]),
    "b": torch.tensor([20.0, 10.0, 40.0]),
    "c": torch.tensor([100.0, 200.0, 300.0, 500.0]),
}
GATHERED = {"a": [1, 2, 3, 270], "b": [10, 20, 3, 40], "c": [100, 200, 300, 500]}


@pytest.mark.parametrize("digest", ROWS)
@pytest.mark.parametrize("trailing", [(), (2,), (2, 3)])
def test_rows_of_any_width_are_gathered(digest, trailing):
    found = Vocabulary("union", 4, "a", ROWS)

    def wide(values):
        return values.view(-1, *[1] * len(trailing)).expand(-1, *trailing)

    gathered = found.gather(digest, lambda d: wide(TENSORS[d]))
    assert torch.equal(gathered, wide(torch.tensor(GATHERED[digest], dtype=torch.float32)))


def test_the_dtype_is_the_parents_unless_means_were_taken():
    half = {d: t.bfloat16() for d, t in TENSORS.items()}
    assert Vocabulary("union", 4, "a", ROWS).gather("b", half.__getitem__).dtype == torch.float32
    rows = {d: r[:3] for d, r in ROWS.items()}
    assert Vocabulary("base", 3, "a", rows).gather("b", half.__getitem__).dtype == torch.bfloat16
    mixed = {**half, "b": TENSORS["b"].half()}
    assert Vocabulary("base", 3, "a", rows).gather("b", mixed.__getitem__).dtype == torch.float32


def test_a_mean_of_bfloat16_is_not_rounded_to_bfloat16():
    half = {**TENSORS, "b": torch.tensor([20, 10, 256]).bfloat16(), "c": torch.tensor([1, 2, 3, 258]).bfloat16()}
    assert Vocabulary("union", 4, "a", ROWS).gather("a", half.__getitem__)[3] == 257


def test_parents_tensors_stay_as_they_are():
    before = {d: t.clone() for d, t in TENSORS.items()}
    rows = {"a": torch.arange(3), "b": ROWS["b"][:3]}
    for found in (Vocabulary("union", 4, "a", ROWS), Vocabulary("base", 3, "a", rows)):
        for digest in found.rows:
            found.gather(digest, TENSORS.__getitem__).fill_(7)
    assert all(torch.equal(TENSORS[d], before[d]) for d in before)


def test_a_vocabulary_travels_to_workers(tmp_path):
    a = speaker(tmp_path / "a", words(["cat"]), 1)
    b = speaker(tmp_path / "b", words(["dog"], [special("<a>")]), 2)
    found = reconcile("union", a, [b])
    again = pickle.loads(pickle.dumps(found))
    assert again.tokens == found.tokens
    assert torch.equal(again.gather(b.digest, reader([a, b])), found.gather(b.digest, reader([a, b])))


def test_tensors_with_a_row_per_token_are_told_from_others(tmp_path):
    """All of them have as many rows as there are tokens."""
    tables = ("transformer.wte.weight", "lm_head.bias", "shared.weight", "gpt_neox.embed_in.weight", "embed_out.weight")
    others = (
        "transformer.wpe.weight",
        "model.decoder.embed_positions.weight",
        "embeddings.position_embeddings.weight",
        "embeddings.token_type_embeddings.weight",
        "word_embeddings_layernorm.weight",
        "model.layers.0.self_attn.relative_embedding.weight",
        "model.layers.0.mlp.up_proj.weight",
    )
    more = {name: torch.ones(3) if "bias" in name else torch.ones(3, 3) for name in (*tables, *others)}
    parent = speaker(tmp_path / "a", words(["cat", "dog"]), 1, more=more)
    found = {name for name in parent.shapes if is_vocabulary_tensor(parent, name)}
    assert found == {EMBEDDING, HEAD, *tables}


def test_positions_and_matrices_of_the_head_do_not_count_as_rows(tmp_path):
    more = {name: torch.ones(99, 3) for name in ("transformer.wpe.weight", "lm_head.dense.weight")}
    parent = speaker(tmp_path / "a", words(["cat"]), 1, rows=5, more=more)
    assert n_rows(parent) == 5


def test_a_checkpoint_without_an_embedding_is_refused(tmp_path):
    parent = speaker(tmp_path / "a", None, 1, rows=2)
    bare = type(parent)(**{**vars(parent), "shapes": {"model.norm.weight": (2,)}})
    with pytest.raises(ParentError, match="no embedding"):
        n_rows(bare)


def test_gathered_shapes_are_known_beforehand(tmp_path):
    a = speaker(tmp_path / "a", words(["cat"]), 1)
    b = speaker(tmp_path / "b", words(["cat", "dog"]), 2)
    found = reconcile("union", a, [b])
    assert {found.shape(p, name) for p in (a, b) for name in (EMBEDDING, HEAD)} == {(3, 3)}
    assert found.shape(a, "model.norm.weight") == (2,)
