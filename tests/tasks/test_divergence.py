"""Divergence: equal to the textbook's on the whole vocabulary, below it on a part, and 0 for a model and itself."""

from __future__ import annotations

import math
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.distributions import Categorical, kl_divergence

from evomerge.backends.hf import HFBackend
from evomerge.errors import ConfigError, MergeError, TaskError
from evomerge.tasks.distributions import coarsen, js, kl
from tests.tasks.measuring import everything, measure, prompt_file, prompt_of

VOCABULARY = 260  # of the tiny models
REFERENCES = ("base", "parent:a", "parent:b", "average")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return str(prompt_file(tmp_path_factory.mktemp("prompts")))


@pytest.fixture(scope="module")
def expert(make_backend, expert_folder):
    return make_backend(expert_folder)


def observed(file, references, **settings):
    found = measure(kind="divergence", file=file, **settings)
    for name, backend in references.items():
        found.observe(name, backend)
    return found


def logprobs(backend, prompt):
    """float64 (T, V), by transformers alone, one prompt at a time."""
    with torch.no_grad():
        ids = torch.tensor([backend.tokenizer(prompt)["input_ids"]])
        return backend.lm.model(ids).logits[0].double().log_softmax(-1)


# ---------------------------------------------------------------- maths

log_distributions = arrays(np.float64, (3, 7), elements=st.floats(-30, 5)).map(
    lambda logits: torch.tensor(logits).log_softmax(-1)
)


@given(log_distributions, log_distributions)
def test_kl_is_the_textbooks_and_zero_for_equals(p, q):
    theirs = kl_divergence(Categorical(logits=p), Categorical(logits=q))
    assert torch.allclose(kl(p, q), theirs, atol=1e-9)
    assert (kl(p, q) >= 0).all() and torch.equal(kl(p, p), torch.zeros(3, dtype=p.dtype))


@given(log_distributions, log_distributions)
def test_js_is_symmetric_and_lies_between_0_and_ln_2(p, q):
    assert torch.allclose(js(p, q), js(q, p), atol=1e-12)
    assert (js(p, q) >= 0).all() and (js(p, q) <= math.log(2) + 1e-12).all()


def test_js_of_distributions_without_a_common_token_is_ln_2():
    p, q = torch.tensor([[0.0, -math.inf]]), torch.tensor([[-math.inf, 0.0]])
    assert js(p, q).item() == pytest.approx(math.log(2))


@given(log_distributions, log_distributions, st.integers(1, 7))
def test_counting_tokens_as_one_lowers_a_divergence_and_keeps_the_mass(p, q, top):
    tokens = p.topk(top, dim=1).indices
    less_p, less_q = coarsen(p, tokens), coarsen(q, tokens)
    assert torch.allclose(less_p.exp().sum(1), torch.ones(3, dtype=p.dtype))
    assert (kl(less_p, less_q) <= kl(p, q) + 1e-9).all() and (js(less_p, less_q) <= js(p, q) + 1e-9).all()
    if top == 7:
        assert torch.allclose(kl(less_p, less_q), kl(p, q), atol=1e-9)


# ---------------------------------------------------------------- on models


@pytest.mark.parametrize("positions", ["last", "all"])
@pytest.mark.parametrize("name", ["kl", "js"])
def test_with_all_tokens_kept_it_is_the_divergence_of_the_models_own_distributions(
    file, backend, expert, positions, name
):
    found = observed(file, {"base": backend}, to="base", top=VOCABULARY, positions=positions, divergence=name)
    items = everything(found)
    assert len(items) == 24
    scores = found.score(expert, items)
    part = slice(-1, None) if positions == "last" else slice(None)
    for item, value in zip(items, scores.values, strict=True):
        p, q = (logprobs(b, prompt_of(found, item))[part] for b in (backend, expert))
        middle = ((p.exp() + q.exp()) / 2).log()
        theirs = {"kl": _kl(p, q), "js": (_kl(p, middle) + _kl(q, middle)) / 2}[name].mean()
        assert value == pytest.approx(theirs.item(), abs=2e-6)
    assert (scores.values > 1e-3).all() and found.report(scores) == pytest.approx(scores.values.mean())


def _kl(p, q):
    return kl_divergence(Categorical(logits=p), Categorical(logits=q))


@pytest.mark.parametrize("name", ["kl", "js"])
def test_a_model_does_not_diverge_from_itself(file, backend, name):
    found = observed(file, {"parent:a": backend}, divergence=name)
    assert found.score(backend, everything(found)).values.max() < 1e-6


def test_fewer_kept_tokens_never_make_it_larger(file, backend, expert):
    values = [
        found.score(expert, everything(found)).values
        for top in (1, 8, 64, VOCABULARY)
        for found in [observed(file, {"base": backend}, to="base", top=top)]
    ]
    for fewer, more in pairwise(values):
        assert (fewer <= more + 1e-6).all()
    assert (values[0] < values[-1]).any()


def test_mean_and_nearest_are_over_the_parents_on_each_prompt(file, backend, expert, make_backend, expert_folder):
    third = make_backend(expert_folder)
    with torch.no_grad():
        third.lm.model.lm_head.weight.mul_(1.3)
    alone = [observed(file, {name: b}).score(third, _all(file)).values for name, b in _two(backend, expert)]
    together = {to: observed(file, dict(_two(backend, expert)), to=to) for to in ("mean", "nearest")}
    values = {to: found.score(third, _all(file)).values for to, found in together.items()}
    np.testing.assert_allclose(values["mean"], np.mean(alone, axis=0), rtol=1e-6)
    np.testing.assert_allclose(values["nearest"], np.min(alone, axis=0), rtol=1e-6)
    assert (values["nearest"] < values["mean"]).any()


def _two(backend, expert):
    return (("parent:a", backend), ("parent:b", expert))


def _all(file):
    return everything(measure(kind="divergence", file=file))


def test_the_batch_a_prompt_is_in_does_not_matter(file, backend, make_backend, expert_folder):
    found = observed(file, {"base": backend}, to="base", positions="all")
    items = everything(found)
    at = [found.score(make_backend(expert_folder, batch_size=size), items).values for size in (1, 7)]
    np.testing.assert_allclose(at[0], at[1], atol=1e-5)


def test_prompts_are_cut_on_the_left_to_the_models_length(tmp_path, backend, expert):
    long = [f"{k:02d} and a tail of its own {k}" for k in range(12)]
    short = [p[-6:] for p in long]
    values = []
    for prompts in (long, short):
        file = str(prompt_file(tmp_path, prompts))
        narrow = HFBackend(batch_size=4, max_length=6).wrap(backend.lm.model, backend.tokenizer)
        found = observed(file, {"base": narrow}, to="base")
        narrow = HFBackend(batch_size=4, max_length=6).wrap(expert.lm.model, expert.tokenizer)
        values.append(sorted(found.score(narrow, everything(found)).values))
    np.testing.assert_allclose(*values, atol=1e-6)


def test_a_model_that_answers_nan_is_a_failed_merge(file, make_backend):
    broken = make_backend()
    found = observed(file, {"base": broken}, to="base")
    with torch.no_grad():
        broken.lm.model.model.norm.weight.fill_(math.nan)
    with pytest.raises(MergeError, match="NaN"):
        found.score(broken, everything(found))


# ---------------------------------------------------------------- references and workers


@pytest.mark.parametrize(
    ("to", "wanted"),
    [
        ("mean", ("parent:a", "parent:b")),
        ("nearest", ("parent:a", "parent:b")),
        ("base", ("base",)),
        ("b", ("parent:b",)),
    ],
)
def test_only_the_references_it_compares_with_are_wanted(file, to, wanted):
    assert measure(kind="divergence", file=file, to=to).wanted(REFERENCES) == wanted


def test_a_parent_that_is_not_there_is_told_before_any_model_is_opened(file):
    with pytest.raises(TaskError, match=r"unknown measures\.it\.to 'c'.*Known: a, b, base, mean, nearest"):
        measure(kind="divergence", file=file, to="c").wanted(REFERENCES)
    with pytest.raises(TaskError, match=r"unknown measures\.it\.to 'base'"):
        measure(kind="divergence", file=file, to="base").wanted(REFERENCES[1:])


def test_a_worker_observes_for_itself(file, backend, expert):
    found = observed(file, {"parent:a": backend})
    there = pickle.loads(pickle.dumps(found))  # our own bytes
    items = everything(found)
    with pytest.raises(TaskError, match="none has been observed"):
        there.score(expert, items)
    there.observe("parent:a", backend)
    assert np.array_equal(there.score(expert, items).values, found.score(expert, items).values)
    assert there.identity() == found.identity()


def test_settings_that_make_no_sense_are_refused(file):
    for node, told in (
        ({"divergence": "jsd"}, r"measures\.it\.divergence 'jsd'\. Did you mean 'js'"),
        ({"positions": "first"}, r"measures\.it\.positions 'first'"),
        ({"top": 0}, r"measures\.it\.top is 0"),
    ):
        with pytest.raises(ConfigError, match=told):
            measure(kind="divergence", file=file, **node)
