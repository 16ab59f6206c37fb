"""File names find their live tensors or slices; what has no home, or leaves a gap, is refused; wrong numbers too."""

import pytest
import torch

from evomerge.errors import ParentError
from evomerge.models.names import Home, find, homes, once, verify, view

EXPERTS, ROWS, COLUMNS = 3, 4, 5


def tensor(*shape):
    return torch.arange(1.0, 1 + torch.Size(shape).numel()).view(shape)


def fused():
    """The live tensors of a block of experts, and an expert's file names."""
    live = {
        "m.experts.gate_up_proj": tensor(EXPERTS, 2 * ROWS, COLUMNS),
        "m.experts.down_proj": tensor(3, COLUMNS, ROWS),
    }
    return live, [f"m.experts.{e}.{w}_proj.weight" for e in range(EXPERTS) for w in ("gate", "up", "down")]


@pytest.mark.parametrize(
    ("name", "live", "prefix"),
    [
        ("x.weight", "x.weight", ""),
        ("x.weight", "model.x.weight", "model"),
        ("model.x.weight", "x.weight", "model"),
        ("embed_out.weight", "lm_head.weight", "gpt_neox"),
        ("l.0.block_sparse_moe.gate.weight", "l.0.mlp.gate.weight", "model"),
        ("l.0.block_sparse_moe.gate.weight", "l.0.mlp.router.weight", "model"),
        ("embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.weight", "bert"),
    ],
)
def test_a_renamed_tensor_is_found(name, live, prefix):
    assert find(name, {live: tensor(2)}, prefix) == Home(live)


def test_a_files_own_spelling_comes_first():
    live = {"lm_head.weight": tensor(2), "embed_out.weight": tensor(2)}
    assert find("embed_out.weight", live) == Home("embed_out.weight")


def test_the_experts_fill_the_fused_tensors_row_by_row():
    live, names = fused()
    wanted = {name: tensor.clone() for name, tensor in live.items()}
    places = {name: view(live[home.tensor], home) for name, home in once(homes(names, live), live).items()}
    gate_up, down = wanted.values()
    for e in range(EXPERTS):
        assert torch.equal(places[f"m.experts.{e}.gate_proj.weight"], gate_up[e, :ROWS])
        assert torch.equal(places[f"m.experts.{e}.up_proj.weight"], gate_up[e, ROWS:])
        assert torch.equal(places[f"m.experts.{e}.down_proj.weight"], down[e])
    for place in places.values():
        place.zero_()
    assert all(not tensor.any() for tensor in live.values())


@pytest.mark.parametrize("word", ["gate_proj", "down_proj"])
def test_a_partly_covered_fused_tensor_is_refused_with_the_counts(word):
    live, names = fused()
    kept = [name for name in names if name != f"m.experts.1.{word}.weight"]
    with pytest.raises(ParentError, match=r"has \d+ entries for the \d+ of 'm\.experts\..*_proj'"):
        once(homes(kept, live), live)


def test_an_expert_beyond_the_live_ones_has_no_home():
    live, names = fused()
    with pytest.raises(ParentError, match=r"keeps no tensor 'm\.experts\.3\.up_proj\.weight' .* \(1 in all\)"):
        homes([*names, "m.experts.3.up_proj.weight"], live)


def test_a_tensor_that_is_there_whole_and_in_slices_is_refused():
    live, names = fused()
    with pytest.raises(ParentError, match=r"has 120 entries for the 60 of 'm\.experts\.down_proj'"):
        once(homes([*names, "m.experts.down_proj"], live), live)


def test_a_live_tensor_without_a_name_is_refused():
    with pytest.raises(ParentError, match=r"the checkpoint lacks 'b' \(1 such\)"):
        once(homes(["a"], {"a": tensor(2), "b": tensor(2)}), {"a": tensor(2), "b": tensor(2)})


def test_a_tied_tensor_is_written_once_by_its_embeddings_name():
    shared = tensor(4, 2)
    live = dict.fromkeys(("lm_head.weight", "encoder.embed_tokens.weight", "shared.weight"), shared)
    assert list(once(homes(live, live), live)) == ["shared.weight"]
    assert list(homes(live, live)) == list(live)


def test_equal_tensors_that_are_not_tied_are_two():
    live = {"lm_head.weight": tensor(4, 2), "model.embed_tokens.weight": tensor(4, 2)}
    assert list(once(homes(live, live), live)) == list(live)


def test_meta_tensors_are_told_apart():
    live = {name: torch.empty(4, 2, device="meta") for name in ("a", "b")}
    with pytest.raises(ParentError, match="lacks 'b'"):
        once(homes(["a"], live), live)


def test_constants_and_whole_numbers_are_left_alone():
    live = {"a": tensor(2), "steps": torch.zeros(2, dtype=torch.int64)}
    names = ["a", "steps", "l.0.rotary_emb.inv_freq", "h.0.attn.masked_bias", "bert.embeddings.position_ids"]
    assert list(once(homes(names, live), live)) == ["a"]


def test_what_the_model_says_it_drops_is_left_alone_but_only_that():
    live = {"mtp.kept": tensor(2)}
    assert list(homes(["mtp.kept", "mtp.gone"], live, dropped=["^mtp"])) == ["mtp.kept"]
    with pytest.raises(ParentError, match=r"'h\.0\.attn\.c_attn\.bias'"):
        homes(["mtp.kept", "h.0.attn.c_attn.bias"], live, dropped=["^mtp"])


# ---------------------------------------------------------------- verify


def test_the_files_own_numbers_pass_in_the_live_dtype():
    own = {"a": tensor(3, 4) / 3, "b": torch.tensor([float("nan"), -0.0, float("inf")])}
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        verify({name: t.to(dtype) for name, t in own.items()}, own.__getitem__)


def test_each_tensor_is_read_once():
    own, read = {"a": tensor(2), "b": tensor(3)}, []
    verify(dict(own), lambda name: (read.append(name), own[name])[1])
    assert read == ["a", "b"]


@pytest.mark.parametrize(
    "live",
    [
        pytest.param(torch.tensor([[1.0, -0.0], [3.0, 4.0]]), id="sign of zero"),
        pytest.param(torch.tensor([[1.0, 0.0], [3.0, 4.000001]]), id="last bit"),
        pytest.param(torch.tensor([[1.0, 3.0], [0.0, 4.0]]), id="transposed"),
        pytest.param(torch.tensor([[3.0, 4.0], [1.0, 0.0]]), id="rows swapped"),
        pytest.param(torch.tensor([1.0, 0.0, 3.0, 4.0]), id="another shape"),
    ],
)
def test_other_numbers_are_refused_by_name(live):
    own = {"a": tensor(2), "b": torch.tensor([[1.0, 0.0], [3.0, 4.0]])}
    with pytest.raises(ParentError, match="does not load 'b' as it stands"):
        verify({"a": tensor(2), "b": live}, own.__getitem__)


def test_swapped_halves_of_a_fused_tensor_are_refused():
    live, names = fused()
    places = {name: view(live[home.tensor], home) for name, home in homes(names, live).items()}
    own = {name: place.clone() for name, place in places.items()}
    verify(places, own.__getitem__)
    other = {"gate": "up", "up": "gate", "down": "down"}
    swapped = {
        f"m.experts.{e}.{w}_proj.weight": own[f"m.experts.{e}.{other[w]}_proj.weight"] for e in range(3) for w in other
    }
    with pytest.raises(ParentError, match=r"'m\.experts\.0\.gate_proj\.weight'"):
        verify(places, swapped.__getitem__)
