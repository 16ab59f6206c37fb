"""Unequal vocabularies: refused by name, or matched by token so that every row is the right one."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.errors import ConfigError, ParentError
from evomerge.models.reconcile import POLICIES, reconcile
from evomerge.models.tokenizer import extend
from tests.models.speakers import EMBEDDING, HEAD, PADDING, code, ids, pieces, reader, speaker, special, words

WORDS = ["cat", "dog", "eel", "fox", "gnu", "hen", "ibis"]
TAGS = ["<a>", "<b>", "<c>", "<d>"]


def expected(token, parent, base, everyone):
    """The rule in words: the parent's own row, else the base's, else the mean of those who have one."""
    for one in (parent, base):
        if token in ids(one):
            return one.read(EMBEDDING)[ids(one)[token]]
    return torch.stack([p.read(EMBEDDING)[ids(p)[token]] for p in everyone if token in ids(p)]).mean(0)


vocabularies = st.tuples(
    st.lists(st.sampled_from(WORDS), unique=True),
    st.lists(st.sampled_from(TAGS), unique=True),
    st.integers(0, 3),
)


@settings(max_examples=20, deadline=None)
@given(family=st.lists(vocabularies, min_size=2, max_size=4), policy=st.sampled_from(["base", "union"]))
def test_every_row_is_the_parents_own_or_the_bases_or_the_mean(family, policy):
    with tempfile.TemporaryDirectory() as root:
        parents = []
        for i, (names, tags, padding) in enumerate(family):
            tokenizer = words(names, [special(t) for t in tags])
            rows = len(tokenizer.get_vocab()) + padding
            parents.append(speaker(Path(root) / str(i), tokenizer, 10.0 * 2**i, rows=rows))
        base = parents[0]
        found = reconcile(policy, base, parents[1:])
        if found is None:
            assert all(ids(p) == ids(base) and p.shapes == base.shapes for p in parents)
            return
        merged = extend(base.folder, found.tokens).get_vocab()
        assert set(merged) == (set(ids(base)) if policy == "base" else {t for p in parents for t in ids(p)})
        assert {t: merged[t] for t in ids(base)} == ids(base)
        assert found.size == max(base.shapes[EMBEDDING][0], len(merged))
        for parent in parents:
            gathered = found.gather(parent.digest, reader(parents))
            assert gathered.shape == (found.size, 3)
            for token, row in merged.items():
                torch.testing.assert_close(gathered[row], expected(token, parent, base, parents), rtol=1e-6, atol=0)
            for row in set(range(found.size)) - set(merged.values()):
                assert torch.equal(gathered[row], base.read(EMBEDDING)[row])


@pytest.fixture
def folders(tmp_path):
    return (tmp_path / str(i) for i in range(9))


@pytest.mark.parametrize("policy", POLICIES)
def test_equal_vocabularies_need_nothing(policy, folders):
    a, b = (speaker(next(folders), words(WORDS, [special("<a>")]), mark, rows=12) for mark in (1, 2))
    assert reconcile(policy, a, [b]) is None


def test_equal_refuses_a_missing_token_and_names_it_with_both_values_and_the_ways_out(folders):
    a = speaker(next(folders), words(WORDS), 1, rows=12)
    b = speaker(next(folders), words(WORDS, [special("<a>"), special("<b>")]), 2, rows=12)
    with pytest.raises(ParentError) as error:
        reconcile("equal", a, [b])
    assert f"token '<a>' is missing in {a.name} and 8 in {b.name} (2 tokens differ)" in str(error.value)
    assert all(way in str(error.value) for way in ("parents.vocabulary=base", "parents.vocabulary=union", "drop"))
    assert "rows" not in str(error.value)


def test_equal_refuses_unequal_rows_of_equal_tokens(folders):
    a, b = (speaker(next(folders), words(WORDS), 1, rows=rows) for rows in (8, 12))
    with pytest.raises(ParentError, match=rf"rows 8 in {a.name}, 12 in {b.name}\. Set") as error:
        reconcile("equal", a, [b])
    assert "token '" not in str(error.value)


def test_equal_refuses_added_tokens_in_another_order(folders):
    a = speaker(next(folders), words(["cat"], [special("<a>"), special("<b>")]), 1)
    b = speaker(next(folders), words(["cat"], [special("<b>"), special("<a>")]), 2)
    with pytest.raises(ParentError, match=rf"token '<a>' is 2 in {a.name} and 3 in {b.name} \(2 tokens differ\)"):
        reconcile("equal", a, [b])
    found = reconcile("base", a, [b])
    assert found.rows[b.digest].tolist() == [0, 1, 3, 2]


def test_equal_finds_the_clash_between_a_parent_and_another(folders):
    base, a, b = (speaker(next(folders), words(names), i, rows=9) for i, names in enumerate((["cat"],) * 2 + (WORDS,)))
    with pytest.raises(ParentError, match=b.name):
        reconcile("equal", base, [a, b])


def test_padding_alone_leaves_the_bases_rows(folders):
    a, b = (speaker(next(folders), words(WORDS), mark, rows=rows) for mark, rows in ((1, 12), (2, 10)))
    for policy in ("base", "union"):
        found = reconcile(policy, a, [b])
        assert found.size == 12 and found.tokens == () and found.notes == ()
        gathered = found.gather(b.digest, reader([a, b]))
        assert gathered[:, 0].tolist() == [2.0] * 8 + [1.0] * 4
        assert reconcile(policy, b, [a]).size == 10


def test_new_tokens_take_the_bases_padding_rows_first(folders):
    a = speaker(next(folders), words(["cat"]), 1, rows=5)
    b = speaker(next(folders), words(["cat", "dog", "eel"]), 2)
    found = reconcile("union", a, [b])
    assert found.size == 5
    assert found.gather(a.digest, reader([a, b]))[2:, 1].tolist() == [code("dog"), code("eel"), PADDING]


def test_new_tokens_come_in_the_order_of_parents_and_ids(folders):
    base = speaker(next(folders), words(["cat"]), 1)
    a = speaker(next(folders), words(["cat", "hen"], [special("<z>")]), 2)
    b = speaker(next(folders), words(["ant", "hen", "bee"]), 3)
    found = reconcile("union", base, [a, b])
    assert [t.content for t in found.tokens] == ["hen", "<z>", "ant", "bee"]
    assert [t.special for t in found.tokens] == [False, True, False, False]


def test_the_base_may_be_a_parent_too(folders):
    a, b = speaker(next(folders), words(["cat"]), 1), speaker(next(folders), words(["dog"]), 2)
    assert set(reconcile("union", a, [a, b]).rows) == {a.digest, b.digest}


def test_notes_count_what_is_added_left_out_and_filled(folders):
    a = speaker(next(folders), words(["cat", "dog"]), 1)
    b = speaker(next(folders), words(["cat", "hen"], [special("<a>")]), 2)
    added, cut, lacking = reconcile("union", a, [b]).notes
    assert added.startswith(f"2 tokens that {a.name} lacks are added") and cut.startswith("1 of the added tokens")
    assert lacking.startswith(f"{b.name} lacks 1 of 5 tokens")
    left_out, lacking = reconcile("base", a, [b]).notes
    assert left_out == f"2 tokens that {a.name} lacks are left out"
    assert lacking.startswith(f"{b.name} lacks 1 of 3 tokens")


def test_words_of_another_bpe_are_added_tokens_with_a_note(folders):
    a = speaker(next(folders), pieces([("c", "a"), ("ca", "t")]), 1)
    b = speaker(next(folders), pieces([("d", "o"), ("do", "g")]), 2)
    found = reconcile("union", a, [b])
    assert [t.content for t in found.tokens] == ["do", "dog"]
    assert any(note.startswith("2 of the added tokens are words") for note in found.notes)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_parent_without_a_tokenizer_has_the_bases(policy, folders):
    a, b = speaker(next(folders), words(WORDS), 1), speaker(next(folders), None, 2, rows=8)
    c = speaker(next(folders), words(["cat"]), 3)
    assert reconcile(policy, a, [b]) is None
    if policy != "equal":
        assert reconcile(policy, a, [b, c]).rows[b.digest].tolist() == list(range(8))


@pytest.mark.parametrize("policy", POLICIES)
def test_without_any_tokenizer_rows_must_agree(policy, folders):
    a, b, c = (speaker(next(folders), None, i, rows=rows) for i, rows in enumerate((8, 8, 9)))
    assert reconcile(policy, a, [b]) is None
    with pytest.raises(ParentError, match=f"rows 8 in {a.name}, 9" if policy == "equal" else "has none"):
        reconcile(policy, a, [c])


@pytest.mark.parametrize("policy", ["base", "union"])
def test_rows_that_nobody_can_name_are_refused(policy, folders):
    a, b = speaker(next(folders), words(WORDS), 1), speaker(next(folders), None, 2, rows=9)
    with pytest.raises(ParentError, match=f"{b.name} has no tokenizer, and rows 9 where {a.name} has 8"):
        reconcile(policy, a, [b])


@pytest.mark.parametrize("policy", POLICIES)
def test_a_token_beyond_the_rows_is_refused(policy, folders):
    a = speaker(next(folders), words(WORDS), 1)
    b = speaker(next(folders), words(WORDS, [special("<a>")]), 2, rows=8)
    with pytest.raises(ParentError, match=f"token '<a>' of {b.name} has the id 8, and the model has 8 rows"):
        reconcile(policy, a, [b])


@pytest.mark.parametrize("policy", ["base", "union"])
def test_one_content_with_two_tokenizers_is_refused(policy, folders):
    a = speaker(next(folders), words(["cat", "dog"]), 1)
    b = speaker(next(folders), None, 2, rows=3, more={n: a.read(n) for n in a.files})
    words(["dog", "cat"]).save_pretrained(b.folder)
    with pytest.raises(ParentError, match="weights of another parent and another tokenizer"):
        reconcile(policy, a, [b])


def test_a_second_table_of_tokens_with_other_rows_is_refused(folders):
    more = {"model.embed_tokens_per_layer.weight": torch.ones(2, 3)}
    a, b = (speaker(next(folders), words(names), 1, more=more) for names in (["cat", "dog"], ["cat", "eel"]))
    with pytest.raises(ParentError, match=r"'model\.embed_tokens_per_layer\.weight' .* has 2 rows and the embedding 3"):
        reconcile("base", a, [b])


def test_gaps_in_the_bases_ids_are_refused_by_union(folders):
    a, b = speaker(next(folders), words(["cat", "dog"]), 1, rows=9), speaker(next(folders), words(["eel"]), 2)
    path = a.folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"] = {"<unk>": 0, "cat": 3, "dog": 2}  # the next id would be 3
    path.write_text(json.dumps(content))
    with pytest.raises(ParentError, match="gaps"):
        reconcile("union", a, [b])
    assert reconcile("base", a, [b]).rows[a.digest].tolist() == list(range(9))


def test_an_unknown_policy_is_refused_with_the_nearest(folders):
    a = speaker(next(folders), words(WORDS), 1)
    with pytest.raises(ConfigError, match="Did you mean 'union'"):
        reconcile("onion", a, [a])


def test_the_head_is_gathered_as_the_embedding_is(folders):
    a = speaker(next(folders), words(["cat", "dog"]), 1)
    b = speaker(next(folders), words(["eel", "cat"]), 2)
    found = reconcile("union", a, [b])
    for parent in (a, b):
        head, embedding = (found.gather(parent.digest, reader([a, b], name)) for name in (HEAD, EMBEDDING))
        assert torch.equal(head, -embedding)
