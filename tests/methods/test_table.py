"""The METHODS table: what a method declares is what its function takes and does."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest
import torch

from evomerge.errors import ConfigError
from evomerge.methods import METHODS, get
from evomerge.methods.entries import Entries

LEADING = {  # all others: weight
    "slerp": "t",
    "passthrough": "scale",
    "model_stock": "t_scale",
    "nearswap": "t_quantile",
    "sce": "select_topk",
    "ram": "epsilon",
    "ramplus_tl": "r",
    "arcee_fusion": "iqr_factor",
}
#: All of mergekit 0.1.5, which people know by these names.
KNOWN = {
    *("linear", "slerp", "nuslerp", "multislerp", "karcher", "model_stock", "task_arithmetic", "passthrough"),
    *("ties", "dare_linear", "dare_ties", "della", "della_linear", "breadcrumbs", "breadcrumbs_ties"),
    *("sce", "ram", "ramplus_tl", "nearswap", "arcee_fusion"),
}
each = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def entries_for(method, read=None, shape=(6, 5)) -> Entries:
    values = torch.randn(1 if method.arity[1] == 1 else 2, *shape, generator=torch.Generator().manual_seed(0))
    entries = Entries.of(values)
    ground = lambda start, stop: torch.zeros(stop - start)  # noqa: E731
    return replace(entries, ground=ground, **({"read": read} if read else {}))


def unread(start, stop, parents):
    raise AssertionError("a method that does not learn looked at the entries")


def test_every_method_of_mergekit_is_there():
    assert set(METHODS) >= KNOWN


def test_names_are_the_keys():
    assert {name: method.name for name, method in METHODS.items()} == {name: name for name in METHODS}


@each
def test_knobs_are_the_functions_keywords_with_the_same_defaults(method):
    keywords = [p for p in inspect.signature(method.settle).parameters.values() if p.kind == p.KEYWORD_ONLY]
    assert [(p.name, p.default) for p in keywords] == [(k.name, k.default) for k in method.knobs]


@each
def test_the_leading_knob_comes_first(method):
    assert method.knobs[0].name == LEADING.get(method.name, "weight")


@each
def test_defaults_lie_in_their_ranges(method):
    for knob in method.knobs:
        if knob.scale == "choice":
            assert knob.default in knob.values and not knob.per_parent
        else:
            assert knob.default is None or knob.low <= knob.default <= knob.high
            assert knob.low < knob.high and (knob.low > 0 or knob.scale == "linear")
        assert 0 < knob.step < 1


@each
def test_the_stand_in_is_linear_and_takes_the_same_values(method):
    if method.plain is None:
        return
    stand_in = METHODS[method.plain]
    assert stand_in.on == method.on and not stand_in.learns and stand_in.plain is None
    assert {k.name for k in stand_in.knobs} <= {k.name for k in method.knobs}


@each
def test_what_is_dropped_at_random_has_a_stand_in_for_vectors(method):
    """A norm of a few entries would suffer; magnitudes are cut alike in all tensors, as in mergekit."""
    assert (method.plain is not None) == method.name.startswith(("dare", "della"))


@each
def test_differences_may_be_chosen_where_it_says_so(method):
    chosen = method.knob("differences")
    assert (chosen is not None) == (method.on == "either")
    assert method.on_deltas({}) == (method.on == "deltas" or (chosen is not None and chosen.default is True))
    if chosen is not None:
        assert chosen.values and set(chosen.values) == {False, True}
        assert not method.on_deltas({"differences": False})


@each
def test_only_a_method_that_learns_looks_at_the_entries(method):
    if not method.learns:
        method.settle(entries_for(method, read=unread))


@each
def test_settled_numbers_are_rows_of_one_number_for_each_parent(method):
    entries = entries_for(method)
    settled = method.settle(entries)
    assert settled.numbers and all(len(row) == entries.parents for row in settled.numbers)
    assert all(isinstance(x, float) for row in settled.numbers for x in row)
    assert settled.gain >= 0 and hash(settled.kernel) == hash(method.settle(entries).kernel)


@each
def test_what_is_kept_beside_small_tables_is_declared(method):
    """Tensors with a number per entry, by their bytes."""
    entries = entries_for(method, shape=(512, 257))
    method.settle(entries, **{name: 0.5 for name in ("density", "select_topk") if method.knob(name)})
    found = [x for kept in (entries.joint, *entries.own) for x in tensors_in(kept) if x.numel() >= entries.n // 2]
    assert sum(x.numel() * x.element_size() for x in found) == method.keeps * entries.parents * entries.n


def tensors_in(kept) -> list[torch.Tensor]:
    if isinstance(kept, torch.Tensor):
        return [kept]
    parts = kept.values() if isinstance(kept, dict) else kept if isinstance(kept, tuple | list) else ()
    return [x for part in parts for x in tensors_in(part)]


@each
def test_the_source_names_where_the_method_is_from(method):
    assert any(word in method.source for word in ("arXiv:", "doi:", "mergekit", "goddard.blog"))


def test_get_suggests_the_nearest_name():
    assert get("ties") is METHODS["ties"]
    with pytest.raises(ConfigError, match=r"unknown method 'tie'\. Did you mean 'ties'\? Known: .*dare_linear, "):
        get("tie")
