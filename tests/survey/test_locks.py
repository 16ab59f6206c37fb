from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from evomerge.survey.findings import findings
from evomerge.survey.locks import disguise, product_change
from evomerge.survey.suggest import suggestions
from tests.models_pico import make_pico
from tests.survey.made import moved, remade, surveyed

HEADS, GROUPS, WIDTH = 4, 2, 8  # of the pico model: query heads, key-value heads, entries of a head


def generator():
    return torch.Generator().manual_seed(11)


def permuted_mlp(weights):
    order = torch.randperm(48, generator=generator())
    for name in weights:
        if "gate_proj" in name or "up_proj" in name:
            weights[name] = weights[name][order]
        elif "down_proj" in name:
            weights[name] = weights[name][:, order]
    return weights


def rescaled_mlp(weights):
    scale = torch.exp(torch.randn(48, 1, generator=generator()).sign())
    for name in weights:
        if "up_proj" in name:
            weights[name] = weights[name] * scale
        elif "down_proj" in name:
            weights[name] = weights[name] / scale.T
    return weights


def rewritten_heads(weights):
    """An invertible matrix between value and output of every group of heads; rotary queries are left alone."""
    for block in range(2):
        mix = torch.randn(GROUPS, WIDTH, WIDTH, generator=generator()) + 2 * torch.eye(WIDTH)
        back = torch.linalg.inv(mix).repeat_interleave(HEADS // GROUPS, 0)
        value, out = (f"model.layers.{block}.self_attn.{p}_proj.weight" for p in "vo")
        weights[value] = (mix @ weights[value].view(GROUPS, WIDTH, -1)).flatten(0, 1)
        heads = weights[out].view(-1, HEADS, WIDTH).transpose(0, 1)  # (heads, hidden, d)
        weights[out] = (heads @ back).transpose(0, 1).flatten(1)
    return weights


def drifted(change):
    """The lock, put on a fine-tune rather than on the base."""

    def both(weights):
        return change({n: t + 0.005 * torch.randn(t.shape, generator=generator()) for n, t in weights.items()})

    return both


LOCKS = {"permuted": permuted_mlp, "rescaled": rescaled_mlp, "heads": rewritten_heads}


@pytest.mark.parametrize("kind", LOCKS)
def test_a_rewritten_parent_computes_what_the_base_does_and_is_suspected(pico, tmp_path, kind):
    locked = remade(pico["base"], tmp_path / "locked", LOCKS[kind])
    tokens = torch.arange(40)[None]
    logits = [AutoModelForCausalLM.from_pretrained(m)(tokens).logits for m in (pico["base"], locked)]
    assert torch.allclose(*logits, rtol=1e-3, atol=1e-3)
    survey = surveyed(pico["base"], pico["a"], locked)
    assert {(lock.parent, lock.kind) for lock in survey.locks} == {("B", kind)}
    assert [(f.level, f.kind, f.parents) for f in findings(survey)] == [("alarm", "lock", ("B",))]
    assert not any(s.overrides for s in suggestions(survey))


@pytest.mark.parametrize("kind", LOCKS)
def test_a_lock_on_a_fine_tune_is_suspected_too(pico, tmp_path, kind):
    locked = remade(pico["base"], tmp_path / "locked", drifted(LOCKS[kind]))
    assert {(lock.parent, lock.kind) for lock in surveyed(pico["base"], locked).locks} == {("A", kind)}


def test_strangers_and_hard_trained_parents_are_not_suspected(pico, tmp_path):
    stranger = make_pico(tmp_path / "stranger", seed=77)
    hard = moved(pico["base"], tmp_path / "hard", u=20.0, v=20.0, w=20.0, x=20.0)
    assert not surveyed(pico["base"], stranger, hard, pico["a"]).locks


@pytest.mark.parametrize("side", ["rows", "columns"])
def test_a_rotation_of_either_side_is_seen_and_noise_is_not(side):
    base = torch.randn(96, 80, generator=generator())
    turn = torch.linalg.qr(torch.randn(96, 96, generator=generator()))[0]
    rotated = turn @ base if side == "columns" else base @ torch.linalg.qr(turn[:80, :80])[0]
    assert disguise(base, rotated) == "rotated"
    assert disguise(base, torch.randn(96, 80, generator=torch.Generator().manual_seed(2))) is None
    for noise in (0.3, 0.6, 2.0):
        assert disguise(base, base + noise * torch.randn(96, 80, generator=torch.Generator().manual_seed(3))) is None


@pytest.mark.parametrize("share, kind", [(0.8, "permuted"), (0.2, None)])
def test_most_rows_must_have_moved(share, kind):
    base = torch.randn(100, 64, generator=generator())
    moved_rows = torch.arange(100)
    n = int(share * 100)
    moved_rows[:n] = moved_rows[:n].roll(1)
    assert disguise(base, base[moved_rows]) == kind


def test_the_change_of_products_is_that_of_the_products_themselves():
    q, k = torch.randn(12, 20, generator=generator()), torch.randn(6, 20, generator=generator())
    q2, k2 = q + 0.1 * torch.randn(12, 20, generator=generator()), k * 1.1

    def products(a, b):
        return torch.stack([a[3 * h : 3 * h + 3].T @ b[3 * (h // 2) : 3 * (h // 2) + 3] for h in range(4)])

    wanted = (products(q2, k2) - products(q, k)).norm() / products(q, k).norm()
    assert product_change((q, k), (q2, k2), heads=4) == pytest.approx(float(wanted), rel=1e-5)
