"""The config follows the blocks: depth and per-block lists."""

import pytest
from transformers import Qwen3Config

from evomerge.errors import MergeError
from evomerge.models.depth import redrawn

STACK = "model.layers"
KINDS = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]
CONFIG = {"num_hidden_layers": 4, "layer_types": KINDS, "hidden_size": 4, "eos_token_id": [1, 2, 3, 4]}


def test_unchanged_blocks_leave_the_config_alone():
    assert redrawn(CONFIG, {STACK: 4}, {STACK: [0, 1, 2, 3]}) == CONFIG


@pytest.mark.parametrize("blocks", [[0, 3], [1, 0, 2, 3], [0, 1, 2, 1, 2, 3]])
def test_depth_and_lists_follow_the_blocks_and_nothing_else_does(blocks):
    found = redrawn(CONFIG, {STACK: 4}, {STACK: blocks})
    kinds = [KINDS[b] for b in blocks]
    assert found == {**CONFIG, "num_hidden_layers": len(blocks), "layer_types": kinds}


def test_a_nested_text_config_follows_too():
    found = redrawn({"text_config": CONFIG}, {STACK: 4}, {STACK: [0, 3]})
    assert found["text_config"]["num_hidden_layers"] == 2
    assert found["text_config"]["layer_types"] == [KINDS[0], KINDS[3]]


def test_transformers_accepts_the_new_config():
    config = Qwen3Config(num_hidden_layers=4, use_sliding_window=True, max_window_layers=2).to_dict()
    found = Qwen3Config(**redrawn(config, {STACK: 4}, {STACK: [0, 1, 1, 2, 3]}))
    assert len(found.layer_types) == found.num_hidden_layers == 5


def test_two_stacks_keep_their_depths():
    with pytest.raises(MergeError, match=r"encoder\.block, decoder\.block"):
        redrawn({"num_layers": 2}, {"encoder.block": 2, "decoder.block": 2}, {"encoder.block": [0, 0, 1]})
