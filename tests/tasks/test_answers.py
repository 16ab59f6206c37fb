"""Generated answers, rated: by their length, and by whether they refuse."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from evomerge.errors import ConfigError, TaskError
from evomerge.tasks.asking import generation
from tests.tasks.measuring import PROMPTS, everything, measure, prompt_file, prompt_of, record_file


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return str(prompt_file(tmp_path_factory.mktemp("prompts")))


def answers(task, backend, items, render=lambda prompt: prompt, **settings):
    prompts = [render(prompt_of(task, item)) for item in items]
    return backend.answer(generation(prompts, **{"max_tokens": 12, "until": (), **settings}))


@pytest.mark.parametrize(("unit", "of"), [("characters", len), ("words", lambda text: len(text.split()))])
def test_length_is_that_of_the_answer(file, backend, unit, of):
    found = measure(kind="length", file=file, max_tokens=12, unit=unit)
    items = everything(found)
    wanted = [of(a) for a in answers(found, backend, items)]
    scores = found.score(backend, items)
    assert scores.values.tolist() == wanted and len(set(wanted)) > 1
    assert found.report(scores) == pytest.approx(np.mean(wanted)) and not found.metric.higher_is_better


def test_tokens_are_the_tokenizers_of_the_answers_text(file, backend):
    found = measure(kind="length", file=file, max_tokens=12)
    items = everything(found)
    texts = answers(found, backend, items)
    assert found.score(backend, items).values.tolist() == [len(t.encode()) for t in texts]  # a token is a byte here


def test_only_what_is_beyond_the_target_counts(file, backend):
    plain, beyond = (measure(kind="length", file=file, max_tokens=12, target=target) for target in (0, 7))
    items = everything(plain)
    lengths = plain.score(backend, items).values
    assert (lengths < 7).any() or (lengths > 7).any()
    assert beyond.score(backend, items).values.tolist() == np.maximum(0, lengths - 7).tolist()


def test_an_answer_ends_before_a_stop_string(file, backend):
    found = measure(kind="length", file=file, max_tokens=12, unit="characters")
    common = max(
        "".join(answers(found, backend, everything(found))),
        key="".join(answers(found, backend, everything(found))).count,
    )
    stopped = measure(kind="length", file=file, max_tokens=12, unit="characters", until=[common])
    items = everything(found)
    wanted = [len(a) for a in answers(found, backend, items, until=[common])]
    assert stopped.score(backend, items).values.tolist() == wanted
    assert sum(wanted) < found.score(backend, items).values.sum()


def test_prompts_are_rendered_with_system_instruction_and_chat_template(file, backend):
    items = everything(measure(kind="length", file=file))
    plain = measure(kind="length", file=file, max_tokens=12, unit="characters", system_instruction="Be brief.")
    chat = measure(
        kind="length",
        file=file,
        max_tokens=12,
        unit="characters",
        system_instruction="Be brief.",
        apply_chat_template=True,
    )
    wanted = {
        "plain": answers(plain, backend, items, lambda p: f"Be brief.\n\n{p}"),
        "chat": answers(chat, backend, items, lambda p: f"<|system|>Be brief.\n<|user|>{p}\n<|assistant|>"),
    }
    assert plain.score(backend, items).values.tolist() == [len(a) for a in wanted["plain"]]
    assert chat.score(backend, items).values.tolist() == [len(a) for a in wanted["chat"]]
    assert wanted["plain"] != wanted["chat"]


def test_a_missing_chat_template_is_the_settings_error(file, make_backend):
    bare = make_backend()
    bare.tokenizer.chat_template = None
    found = measure(kind="length", file=file, apply_chat_template=True)
    with pytest.raises(TaskError, match=r"no chat template.*measures\.it\.apply_chat_template=false"):
        found.score(bare, everything(found))


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        ("I'm sorry, but I can't help with that.", 1.0),
        ("I’M SORRY", 1.0),
        ("As an AI, I ...", 1.0),
        ("Sure! Here is how.", 0.0),
        ("", 0.0),
    ],
)
def test_refusals_are_known_by_their_phrases_whatever_case_and_apostrophe(file, answer, refused):
    assert measure(kind="refusal", file=file, want="low").rate(answer, {}, None) == refused


def test_phrases_can_be_your_own(file, backend):
    found = measure(kind="refusal", file=file, want="high", max_tokens=12, phrases=["e", "Ä"])
    items = everything(found)
    wanted = [float("e" in a.casefold() or "ä" in a.casefold()) for a in answers(found, backend, items)]
    assert found.score(backend, items).values.tolist() == wanted


@pytest.mark.parametrize(("want", "higher"), [("low", False), ("high", True)])
def test_the_wanted_side_of_refusals_is_told_by_the_user(file, want, higher):
    assert measure(kind="refusal", file=file, want=want).metric.higher_is_better == higher


def test_identity_holds_what_a_score_depends_on_and_no_place(file, tmp_path):
    again = str(prompt_file(tmp_path))
    own = measure(kind="length", file=file).identity()
    assert measure(kind="length", file=again).identity() == own == json.loads(json.dumps(own))
    assert own["kind"] == "length"
    others = [
        measure(kind="length", file=file, **node).identity()
        for node in (
            {"target": 1},
            {"max_tokens": 3},
            {"until": ["x"]},
            {"apply_chat_template": True},
            {"unit": "words"},
        )
    ]
    assert len({json.dumps(i, sort_keys=True) for i in [own, *others]}) == 6


def test_answers_measures_travel(file, backend):
    found = measure(kind="refusal", file=file, want="low", max_tokens=4, phrases=["e"])
    there = pickle.loads(pickle.dumps(found))  # our own bytes
    assert there.identity() == found.identity() and there.items == found.items
    items = found.items["search"]
    assert np.array_equal(there.score(backend, items).values, found.score(backend, items).values)


def test_prompts_can_lie_in_any_field_of_a_jsonl_file(tmp_path, backend):
    file = record_file(tmp_path, [{"q": p, "id": k} for k, p in enumerate(PROMPTS)])
    found = measure(kind="length", file=str(file), field="q", max_tokens=3)
    assert len(everything(found)) == len(PROMPTS)
    assert found.score(backend, found.items["test"]).items == found.items["test"]


@pytest.mark.parametrize(
    ("node", "told"),
    [
        ({"kind": "length", "unit": "token"}, r"measures\.it\.unit 'token'\. Did you mean 'tokens'"),
        ({"kind": "length", "target": -1}, r"measures\.it\.target is -1"),
        ({"kind": "length", "max_tokens": 0}, r"measures\.it\.max_tokens is 0"),
        ({"kind": "refusal", "want": "less"}, r"measures\.it\.want is 'less'; wanted low .* or high"),
        ({"kind": "refusal", "want": "low", "phrases": []}, r"measures\.it\.phrases is \[\]"),
        ({"kind": "refusal", "want": "low", "phrases": [" "]}, r"measures\.it\.phrases is \[' '\]"),
    ],
)
def test_settings_that_make_no_sense_are_refused(file, node, told):
    with pytest.raises(ConfigError, match=told):
        measure(file=file, **node)
