import pytest

from evomerge.models.layout import at_block, place, stacks


@pytest.mark.parametrize(
    ("name", "stack", "block", "part"),
    [
        ("model.layers.3.self_attn.q_proj.weight", "model.layers", 3, "self_attn"),
        ("model.layers.11.mlp.down_proj.weight", "model.layers", 11, "mlp"),
        ("model.layers.0.input_layernorm.weight", "model.layers", 0, "norms"),
        ("model.layers.0.self_attn.q_norm.weight", "model.layers", 0, "norms"),
        ("transformer.h.5.attn.c_attn.weight", "transformer.h", 5, "self_attn"),
        ("transformer.h.5.ln_1.bias", "transformer.h", 5, "norms"),
        ("gpt_neox.layers.2.attention.dense.weight", "gpt_neox.layers", 2, "self_attn"),
        ("model.embed_tokens.weight", None, None, "embeddings"),
        ("transformer.wte.weight", None, None, "embeddings"),
        ("model.norm.weight", None, None, "norms"),
        ("lm_head.weight", None, None, "head"),
    ],
)
def test_a_tensor_name_says_where_it_lives(name, stack, block, part):
    where = place(name)
    assert (where.stack, where.block, where.part) == (stack, block, part)


def test_the_same_tensor_in_another_block_has_that_blocks_name():
    assert at_block("model.layers.3.mlp.up_proj.weight", "model.layers", 7) == "model.layers.7.mlp.up_proj.weight"


def test_stacks_are_counted_by_their_highest_block():
    names = [f"model.layers.{b}.mlp.up_proj.weight" for b in range(12)] + ["lm_head.weight"]
    assert stacks(names) == {"model.layers": 12}
