"""A tensor's name says its stack, block and part; the order of stacks is the order the model runs them."""

import pytest

from evomerge.models.layout import PARTS, at_block, place, stacks


@pytest.mark.parametrize(
    ("name", "stack", "block", "part"),
    [
        ("model.layers.3.self_attn.q_proj.weight", "model.layers", 3, "self_attn"),
        ("model.layers.3.self_attn.qkv_proj.weight", "model.layers", 3, "self_attn"),
        ("model.layers.11.mlp.down_proj.weight", "model.layers", 11, "mlp"),
        ("model.layers.11.mlp.gate_proj.weight", "model.layers", 11, "mlp"),
        ("model.layers.11.mlp.gate_up_proj.weight", "model.layers", 11, "mlp"),
        ("model.layers.0.input_layernorm.weight", "model.layers", 0, "norms"),
        ("model.layers.0.post_feedforward_layernorm.weight", "model.layers", 0, "norms"),
        ("model.layers.0.self_attn.q_norm.weight", "model.layers", 0, "norms"),
        ("transformer.h.5.attn.c_attn.weight", "transformer.h", 5, "self_attn"),
        ("h.5.ln_1.bias", "h", 5, "norms"),
        ("transformer.h.5.ln_mlp.weight", "transformer.h", 5, "norms"),
        ("transformer.blocks.5.norm_attn_norm.attn.Wqkv.weight", "transformer.blocks", 5, "self_attn"),
        ("transformer.blocks.5.norm_attn_norm.norm_1.weight", "transformer.blocks", 5, "norms"),
        ("gpt_neox.layers.2.attention.query_key_value.weight", "gpt_neox.layers", 2, "self_attn"),
        ("gpt_neox.layers.2.attention.dense.weight", "gpt_neox.layers", 2, "self_attn"),
        ("gpt_neox.layers.2.mlp.dense_h_to_4h.bias", "gpt_neox.layers", 2, "mlp"),
        ("model.decoder.layers.2.fc1.weight", "model.decoder.layers", 2, "mlp"),
        ("model.decoder.layers.2.encoder_attn.k_proj.weight", "model.decoder.layers", 2, "cross_attn"),
        ("model.decoder.layers.2.encoder_attn_layer_norm.weight", "model.decoder.layers", 2, "norms"),
        ("encoder.block.1.layer.0.SelfAttention.q.weight", "encoder.block", 1, "self_attn"),
        ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", "encoder.block", 0, "self_attn"),
        ("encoder.block.1.layer.1.DenseReluDense.wi.weight", "encoder.block", 1, "mlp"),
        ("encoder.block.1.layer.1.layer_norm.weight", "encoder.block", 1, "norms"),
        ("decoder.block.1.layer.1.EncDecAttention.o.weight", "decoder.block", 1, "cross_attn"),
        ("bert.encoder.layer.4.attention.self.query.weight", "bert.encoder.layer", 4, "self_attn"),
        ("bert.encoder.layer.4.attention.output.dense.weight", "bert.encoder.layer", 4, "self_attn"),
        ("bert.encoder.layer.4.attention.output.LayerNorm.weight", "bert.encoder.layer", 4, "norms"),
        ("bert.encoder.layer.4.crossattention.self.key.weight", "bert.encoder.layer", 4, "cross_attn"),
        ("bert.encoder.layer.4.intermediate.dense.weight", "bert.encoder.layer", 4, "mlp"),
        ("bert.encoder.layer.4.output.dense.weight", "bert.encoder.layer", 4, "mlp"),
        ("model.layers.3.block_sparse_moe.experts.5.w1.weight", "model.layers", 3, "mlp"),
        ("model.layers.3.block_sparse_moe.gate.weight", "model.layers", 3, "router"),
        ("model.layers.3.block_sparse_moe.router.layer.weight", "model.layers", 3, "router"),
        ("model.layers.3.mlp.experts.5.gate_proj.weight", "model.layers", 3, "mlp"),
        ("model.layers.3.mlp.experts.gate_up_proj", "model.layers", 3, "mlp"),
        ("model.layers.3.mlp.gate.weight", "model.layers", 3, "router"),
        ("model.layers.3.mlp.gate.e_score_correction_bias", "model.layers", 3, "router"),
        ("model.layers.3.mlp.moe_statics.e_score_correction_bias", "model.layers", 3, "router"),
        ("model.layers.3.mlp.router.bias", "model.layers", 3, "router"),
        ("model.layers.3.mlp.shared_expert.gate_proj.weight", "model.layers", 3, "mlp"),
        ("model.layers.3.mlp.shared_expert_gate.weight", "model.layers", 3, "router"),
        ("backbone.layers.3.mixer.in_proj.weight", "backbone.layers", 3, "other"),
        ("model.embed_tokens.weight", None, None, "embeddings"),
        ("transformer.wte.weight", None, None, "embeddings"),
        ("wpe.weight", None, None, "embeddings"),
        ("shared.weight", None, None, "embeddings"),
        ("bert.embeddings.token_type_embeddings.weight", None, None, "embeddings"),
        ("bert.embeddings.LayerNorm.weight", None, None, "norms"),
        ("bert.pooler.dense.weight", None, None, "head"),
        ("cls.predictions.transform.dense.weight", None, None, "head"),
        ("cls.predictions.transform.LayerNorm.weight", None, None, "norms"),
        ("cls.predictions.bias", None, None, "head"),
        ("embed_out.weight", None, None, "head"),
        ("lm_head.weight", None, None, "head"),
        ("final_logits_bias", None, None, "head"),
        ("model.norm.weight", None, None, "norms"),
        ("transformer.ln_f.weight", None, None, "norms"),
        ("gpt_neox.final_layer_norm.bias", None, None, "norms"),
    ],
)
def test_a_tensor_name_says_where_it_lives(name, stack, block, part):
    where = place(name)
    assert (where.stack, where.block, where.part) == (stack, block, part)
    assert part in PARTS


def test_the_same_tensor_in_another_block_has_that_blocks_name():
    assert at_block("model.layers.3.mlp.up_proj.weight", "model.layers", 7) == "model.layers.7.mlp.up_proj.weight"


def test_numbers_inside_a_block_stay_with_the_tensor():
    name = "encoder.block.0.layer.1.DenseReluDense.wi.weight"
    assert at_block(name, "encoder.block", 7) == "encoder.block.7.layer.1.DenseReluDense.wi.weight"
    name = "model.layers.3.mlp.experts.5.up_proj.weight"
    assert at_block(name, "model.layers", 0) == "model.layers.0.mlp.experts.5.up_proj.weight"


def test_stacks_are_counted_by_their_highest_block():
    names = [f"model.layers.{b}.mlp.up_proj.weight" for b in range(12)] + ["lm_head.weight"]
    assert stacks(names) == {"model.layers": 12}


@pytest.mark.parametrize("stem", ["{}.block.{}.layer.0.SelfAttention.q.weight", "model.{}.layers.{}.fc1.weight"])
def test_an_encoder_comes_before_the_decoder_it_feeds(stem):
    names = [stem.format(side, b) for side, depth in (("decoder", 3), ("encoder", 2)) for b in range(depth)]
    (first, second) = stacks(names).items()
    assert ("encoder" in first[0], first[1], second[1]) == (True, 2, 3)
