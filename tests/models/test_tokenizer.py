"""Tokenizers in folders: read as the model reads them, saved with a union's tokens, named by what they encode."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from tokenizers import AddedToken, Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from evomerge.errors import ParentError
from evomerge.models.reconcile import reconcile
from evomerge.models.tokenizer import (
    chat_template_source,
    load,
    read_chat_template,
    read_vocabulary,
    save_tokenizer,
    tokenizer_digest,
)
from tests.models.speakers import EMBEDDING, code, pieces, reader, speaker, special, words

BPE_A = [("c", "a"), ("ca", "t"), ("Ġ", "cat")]
BPE_B = [("d", "o"), ("do", "g")]


@pytest.fixture(params=["words", "pieces"])
def union(request, tmp_path):
    """Base, parent and the folder that the union's tokenizer is saved to."""
    make = {"words": lambda w, m, t: words(w, t), "pieces": lambda w, m, t: pieces(m, t)}[request.param]
    a, b = make(["cat", "dog"], BPE_A, [special("<a>")]), make(["dog", "emu"], BPE_B, [special("<b>"), "<c>"])
    a.chat_template = "{{ messages }}"
    parents = [speaker(tmp_path / "a", a, 1, rows=40), speaker(tmp_path / "b", b, 2)]
    found = reconcile("union", *parents[:1], parents[1:])
    (tmp_path / "union").mkdir()
    save_tokenizer(parents[0].folder, tmp_path / "union", found.tokens)
    return parents, found, tmp_path / "union"


def test_the_saved_union_gives_every_token_the_id_of_its_row(union):
    parents, found, folder = union
    saved = AutoTokenizer.from_pretrained(folder).get_vocab()
    assert set(saved) == {t for p in parents for t in AutoTokenizer.from_pretrained(p.folder).get_vocab()}
    gathered = found.gather(parents[0].digest, reader(parents, EMBEDDING))
    assert all(gathered[row, 1] == code(token) for token, row in saved.items())


def test_the_saved_union_encodes_the_bases_text_as_before(union):
    (base, _), _, folder = union
    saved, before = AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(base.folder)
    text = "cat cat<a>a cat"
    assert saved.encode(text) == before.encode(text)
    assert saved.decode(saved.encode(text)) == before.decode(before.encode(text))
    assert saved.encode("cat<b>")[-1] == saved.get_vocab()["<b>"]


def test_the_saved_union_keeps_flags_settings_and_chat_template(union):
    (base, _), _, folder = union
    saved = AutoTokenizer.from_pretrained(folder)
    flags = {t.content: t for t in saved.added_tokens_decoder.values()}
    assert (flags["<a>"], flags["<b>"]) == (special("<a>"), special("<b>"))
    assert flags["<c>"] == AddedToken("<c>", special=False)
    assert saved.chat_template == read_chat_template(folder) == "{{ messages }}"
    assert (folder / "tokenizer_config.json").read_bytes() == (base.folder / "tokenizer_config.json").read_bytes()


def test_added_tokens_of_the_settings_are_read_too(tmp_path):
    words(["cat"]).save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pad_token": "<pad>"}))
    assert read_vocabulary(tmp_path) == {"<unk>": 0, "cat": 1, "<pad>": 2}


def test_unigram_tokens_are_read(tmp_path):
    unigram = models.Unigram([("<unk>", 0.0), ("a", -1.0), ("b", -2.0)], unk_id=0)
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(unigram)).save_pretrained(tmp_path)
    assert read_vocabulary(tmp_path) == {"<unk>": 0, "a": 1, "b": 2}


def test_a_folder_without_a_vocabulary_has_no_tokenizer(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert load(tmp_path) is None and read_vocabulary(tmp_path) is None
    assert tokenizer_digest(tmp_path) == "none"
    with pytest.raises(ParentError, match="no tokenizer that tokens can be added to"):
        save_tokenizer(tmp_path, tmp_path, [])


@pytest.mark.parametrize("content", ["", '{"version": ', '{"version": "1.0"}', '{"added_tokens": [], "model": 3}'])
def test_a_broken_tokenizer_is_refused_with_its_folder(content, tmp_path):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ParentError, match=f"tokenizer in {tmp_path} cannot be read .* again"):
        read_vocabulary(tmp_path)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    words(["cat"]).save_pretrained(tmp_path)
    setting = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(setting))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ParentError, match="without running its code"):
        load(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_the_digest_is_the_same_after_saving_again_in_another_layout(tmp_path):
    tokenizer = words(["cat"], [special("<a>")])
    tokenizer.chat_template = "{{ messages }}"
    tokenizer.save_pretrained(tmp_path / "one")
    AutoTokenizer.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two", save_jinja_files=False)
    path = tmp_path / "two" / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=7))
    assert not (tmp_path / "two" / "chat_template.jinja").exists()
    assert tokenizer_digest(tmp_path / "one") == tokenizer_digest(tmp_path / "two")
    assert len(tokenizer_digest(tmp_path / "one")) == 16


def test_the_digest_tells_apart_what_changes_prompts(tmp_path):
    def tokenizer(make=pieces, merges=BPE_A, added=("<a>",), template=None, **roles):
        made = make(merges, [special(t) for t in added])
        made.chat_template = template
        for role, token in roles.items():
            setattr(made, role, token)
        return made

    variants = [
        tokenizer(),
        tokenizer(merges=BPE_A[:2]),
        tokenizer(merges=[BPE_A[0], ("c", "at"), ("a", "t"), *BPE_A[1:]][::-1]),
        tokenizer(added=("<b>",)),
        tokenizer(added=()),
        tokenizer(template="{{ messages }}"),
        tokenizer(bos_token="<a>"),
    ]
    for i, variant in enumerate(variants):
        variant.save_pretrained(tmp_path / str(i))
    assert len({tokenizer_digest(tmp_path / str(i)) for i in range(len(variants))}) == len(variants)


def test_several_chat_templates_give_the_default(tmp_path):
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert read_chat_template(tmp_path) == "d"
    (tmp_path / "chat_template.jinja").write_text("j")
    assert read_chat_template(tmp_path) == "j"
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(ParentError, match="is not JSON"):
        read_chat_template(tmp_path)


@pytest.mark.parametrize(
    ("templates", "lender", "note"),
    [
        ((None, None, None), None, r"^$"),
        (("x", None, "x"), 0, r"^$"),
        (("x", "y", "x"), 0, r"chat templates differ: \S+/0's is used, not that of \S+/1\.$"),
        ((None, None, "y"), 2, r"/0 has no chat template: \S+/2's is used"),
        ((None, "x", "y"), 1, r"differ: \S+/1's is used, not that of \S+/2"),
    ],
)
def test_the_base_lends_the_chat_template_or_else_the_first_parent_that_has_one(templates, lender, note, tmp_path):
    parents = [speaker(tmp_path / str(i), words(["cat"]), i) for i in range(3)]
    for parent, template in zip(parents, templates, strict=True):
        if template:
            (parent.folder / "chat_template.jinja").write_text(template)
    found, told = chat_template_source(parents[0], parents)
    assert found is (None if lender is None else parents[lender])
    assert re.search(note, told)


@pytest.fixture(params=["GPT2Tokenizer", "Qwen2TokenizerFast", "GPTNeoXTokenizerFast", "GemmaTokenizerFast"])
def older(request, tmp_path):
    """As transformers 4 saved it: the class rebuilds the tokenizer on loading, with the added tokens listed here."""
    pieces(BPE_A, [special("<a>")]).save_pretrained(tmp_path / "base")
    path = tmp_path / "base" / "tokenizer_config.json"
    listed = {"30": {"content": "<a>", "special": True, "normalized": False, "lstrip": False, "rstrip": False}}
    path.write_text(
        json.dumps({"tokenizer_class": request.param, "model_max_length": 9, "added_tokens_decoder": listed})
    )
    (tmp_path / "union").mkdir()
    return tmp_path


def test_a_union_is_whole_where_the_settings_list_the_added_tokens(older):
    new = [special("<b>"), AddedToken("<c>", lstrip=True)]
    save_tokenizer(older / "base", older / "union", new)
    before, after = AutoTokenizer.from_pretrained(older / "base"), AutoTokenizer.from_pretrained(older / "union")
    n = len(before.get_vocab())
    assert after.get_vocab() == {**before.get_vocab(), "<b>": n, "<c>": n + 1}
    assert [after.added_tokens_decoder[n], after.added_tokens_decoder[n + 1]] == new
    assert after.model_max_length == 9 and after.encode("cat<a>") == before.encode("cat<a>")


def test_a_saved_tokenizer_that_loads_otherwise_is_refused(older):
    shutil.copyfile(older / "base" / "tokenizer_config.json", older / "union" / "tokenizer_config.json")
    (older / "base" / "tokenizer_config.json").unlink()
    with pytest.raises(ParentError, match="loses added tokens"):
        save_tokenizer(older / "base", older / "union", [special("<b>")])
