"""Models of random tensors, built of recipes whose parents are nothing but digests."""

from __future__ import annotations

import hashlib
from typing import ClassVar

import torch

from evomerge.build import layers, merge_tensor

NAMES = (
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.3.mlp.up_proj.weight",
    "model.layers.1.input_layernorm.weight",
    "model.embed_tokens.weight",
    "model.norm.weight",
    "lm_head.weight",
)


class MadeUp:
    """A family of random tensors, the same for the same parent and name."""

    shapes: ClassVar = {name: (6,) if "norm" in name else (4, 6) for name in NAMES}
    compiles, placement = False, None

    def __init__(self):
        self.learned = {}

    def is_adapter(self, digest):
        return False

    def touches(self, digest, name):
        return True

    def home(self, digest, name, device):
        return torch.randn(self.shapes[name], generator=torch.Generator().manual_seed(hash_of(digest + name)))


def hash_of(text):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def built(recipe):
    """The merged tensors, one for each name."""
    planned = layers(recipe)
    tensors = []
    for name in NAMES:
        boxes = merge_tensor(recipe, planned, MadeUp(), name, torch.device("cpu"))
        tensors.append(torch.cat([merged for _, merged in boxes]))
    return tensors
