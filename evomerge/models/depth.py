"""The config of a model whose blocks were left out, repeated or reordered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.errors import MergeError

#: What configs call the number of blocks.
DEPTHS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")


def redrawn(config: Mapping[str, Any], stacks: Mapping[str, int], drawn: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """The config for blocks drawn from these: its depth, and every list that has one entry per block.

    stacks: the blocks the config is for; drawn: stack -> the block each new block comes from. Raises MergeError for
    a change of depth in a model of several stacks, whose configs do not say which depth belongs to which.
    """
    if all(list(drawn.get(stack, ())) == list(range(depth)) for stack, depth in stacks.items()):
        return dict(config)
    if len(stacks) > 1:
        raise MergeError(f"the recipe changes the depth of a model with the stacks {', '.join(stacks)}; wanted one.")
    ((stack, depth),) = stacks.items()
    return {key: _redrawn(key, value, depth, drawn[stack]) for key, value in config.items()}


def _redrawn(key: str, value: Any, depth: int, blocks: Sequence[int]) -> Any:
    if key in DEPTHS and value == depth:
        return len(blocks)
    if isinstance(value, list) and len(value) == depth and "layer" in key:
        return [value[block] for block in blocks]  # layer_types, mlp_layer_types, ...
    if key == "text_config":
        return {k: _redrawn(k, v, depth, blocks) for k, v in value.items()}
    return value
