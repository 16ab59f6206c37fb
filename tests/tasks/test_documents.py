"""Files of the user's become items: nothing is lost, nothing counts twice, and what is wrong is told with its line."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.errors import TaskError
from evomerge.tasks.documents import Corpus, passages, read_passages, read_prompts
from evomerge.tasks.splits import Split, item_id
from tests.tasks.measuring import prompt_file, record_file


@given(st.text(alphabet="ab\n \t\u2028é", max_size=80), st.integers(1, 20))
def test_passages_hold_every_character_that_is_no_space_in_order_and_none_is_longer_than_asked(text, size):
    found = passages(text, size)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(0 < len(piece) <= size and piece.strip() for piece in found)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("one two\n\nthree four", ["one two\n\n", "three four"]),
        ("one two\nthree four", ["one two\n", "three four"]),
        ("one two three four", ["one two ", "three four"]),
        ("onetwothreefour", ["onetwothreef", "our"]),
    ],
)
def test_a_passage_ends_after_a_paragraph_else_a_line_else_a_word(text, found):
    assert passages(text, 12) == found


def test_equal_prompts_are_one_item_and_the_order_of_the_file_does_not_matter(tmp_path):
    prompts = [f"prompt {k}" for k in range(10)]
    once = Corpus.cut("m", read_prompts("m", str(prompt_file(tmp_path, prompts)), "prompt"), None)
    twice = Corpus.cut("m", read_prompts("m", str(prompt_file(tmp_path, [*prompts[::-1], *prompts])), "prompt"), None)
    assert once.items == twice.items
    assert sorted(i for ids in once.items.values() for i in ids) == sorted(item_id({"prompt": p}) for p in prompts)


def test_json_strings_keep_the_line_separators_that_python_would_split_at(tmp_path):
    docs = [{"prompt": f"one\u2028two\x85{k}"} for k in range(6)]
    assert read_prompts("m", str(record_file(tmp_path, docs)), "prompt") == docs


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "p.txt").write_bytes(b"\xef\xbb\xbfhello\n\n  \nworld\r\n")
    assert read_prompts("m", str(tmp_path / "p.txt"), "prompt") == [{"prompt": "hello"}, {"prompt": "world"}]


def test_documents_of_a_group_stay_on_one_side_and_files_without_the_field_are_cut_by_themselves(tmp_path):
    docs = [{"prompt": f"{k}", "topic": k // 3} for k in range(30)]
    split = Split(group="topic")
    cut = Corpus.cut("m", docs, split)
    sides = [{cut.docs[i]["topic"] for i in ids} for ids in cut.items.values()]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    plain = [{"prompt": d["prompt"]} for d in docs]
    assert Corpus.cut("m", plain, split).items == Corpus.cut("m", plain, replace(split, group=None)).items


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", b'{"prompt": "x"}\n{oops', r"line 2 is no JSON.*one object a line"),
        ("a.jsonl", b'{"prompt": "x"}\n\n[1]', r"line 3 is list; wanted an object with the field 'prompt'"),
        ("a.jsonl", b'{"promt": "x"}', r"line 1: unknown field 'prompt'\. Did you mean 'promt'"),
        ("a.jsonl", json.dumps({"prompt": " "}).encode(), r"line 1: 'prompt' is ' '; wanted a text"),
        ("a.txt", b"\xff\xfe", r"a\.txt' is not UTF-8.*iconv"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_the_place(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TaskError, match=rf"measures\.fluency\.file.*{told}"):
        read_prompts("fluency", str(tmp_path / name), "prompt")


def test_a_missing_file_and_a_text_too_short_to_be_cut_are_told(tmp_path):
    with pytest.raises(TaskError, match=r"measures\.m\.file '.*nowhere\.txt' is no file"):
        read_passages("m", str(tmp_path / "nowhere.txt"), "text", 100)
    with pytest.raises(TaskError, match=r"'m' has no \w+ items"):
        Corpus.cut("m", [{"text": "only one"}], None)


def test_an_item_that_is_not_in_the_file_is_refused(tmp_path):
    cut = Corpus.cut("m", [{"prompt": f"{k}"} for k in range(10)], None)
    with pytest.raises(TaskError, match=r"'m' has no item 'feedbeef' among its 10.*has its file changed"):
        cut.pick(["feedbeef"])
