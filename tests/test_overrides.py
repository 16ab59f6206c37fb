"""Settings as override text: Hydra reads back what was given; names of folders are legal, short and unambiguous."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge import config
from evomerge.errors import ConfigError
from evomerge.overrides import assign, name, overrides, value_of

AWKWARD = ["null", "true", "1", "1e3", "", "a,b", "it's", "\\", "a\\'b", "[a]", "{a:b}", "x y", "k=v", "ü", "~a", "\n"]
STRINGS = st.text(max_size=8) | st.sampled_from(AWKWARD) | st.text(alphabet="\\'\", =", max_size=6)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | STRINGS
KEYS = st.text(alphabet="abc_-", min_size=1, max_size=4).filter(lambda key: not key.startswith("-"))
DATA = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=5
)
WORDS = {  # override -> folder name
    "seed=1": "seed=1",
    "optimizer=cma_es": "optimizer=cma_es",
    "optimizer='cma_es'": "optimizer=cma_es",
    "x=True": "x=true",
    "x=null": "x=null",
    "x=0.50": "x=0.5",
    "++space.ranges.weight=1": "space.ranges.weight=1",
}
APART = [
    "p=1",
    "p='1'",
    "p=1.0",
    "p=true",
    "p='true'",
    "p=''",
    "p=a/b",
    "p=a-b",
    "p='a b'",
    "p=[a,b]",
    "p='[a,b]'",
    "p=[[a],b]",
    "p={a:b}",
    "p=../a/b",
    "p=" + 60 * "a",
    "p=" + 61 * "a",
]


@given(DATA)
def test_hydra_reads_back_what_was_given(value):
    found = value_of(assign("key", value))
    assert found == value and repr(found) == repr(value)


def test_strings_stay_and_mappings_become_strings_in_their_order():
    given_ = ("seed=1", {"space.method": "ties", "space.parts": ("a", "b")}, "x=2")
    assert overrides(given_) == ["seed=1", "space.method=ties", "space.parts=[a,b]", "x=2"]


@pytest.mark.parametrize("bad", [3, {"a": object()}, {"a": {"b c": 1}}, {"a": {1, 2}}, {"a": {"null": 1}}])
def test_what_hydra_could_not_read_is_refused(bad):
    with pytest.raises(ConfigError, match="wanted"):
        overrides([bad])


def test_a_path_may_hold_commas_quotes_and_spaces():
    path = Path("/tmp/it's, a [folder]=1")
    assert str(config.settings([assign("run", path)]).run) == str(path)


@pytest.mark.parametrize("word", WORDS)
def test_a_plain_value_stands_as_it_is(word):
    assert name([word]) == WORDS[word]


def test_the_order_of_keys_and_the_spacing_of_values_do_not_matter():
    assert name(["seed=1", "optimizer=uniform"]) == name(["optimizer=uniform", "seed=1"]) == "optimizer=uniform,seed=1"
    assert name(["parts=[a, 'b']"]) == name(["parts=[a,b]"])


def test_different_values_have_different_names():
    assert len({name([word]) for word in APART}) == len(APART)


@given(st.lists(DATA, min_size=1, max_size=12))
def test_names_are_short_and_free_of_what_file_systems_and_shells_mind(values):
    found = name(assign(f"group.key_{i}", value) for i, value in enumerate(values))
    assert re.fullmatch(r"[A-Za-z0-9_.+~=,-]+", found) and len(found) <= 255
