"""Answers in another language count 0: as a measure of its own, in a user's function, and in lm-eval's tasks."""

from __future__ import annotations

import builtins
import json
import pickle

import numpy as np
import pytest

from evomerge.errors import ConfigError, TaskError
from evomerge.memory.prompts import requests_of
from evomerge.tasks.harness import load
from evomerge.tasks.language import checked, spoken
from evomerge.types import ItemScores, Metric
from tests.tasks.conftest import make_docs, write_task
from tests.tasks.measuring import everything, measure, prompt_file

TEXTS = {
    "en": "The answer is that there are forty two of them.",
    "ja": "答えは四十二です。これは正しいと思います。",
    "de": "Die Antwort lautet zweiundvierzig, und das ist richtig.",
    "fr": "La réponse est quarante-deux, et cela est juste.",
}


class Speaker:
    """A backend that answers generation requests by the text that belongs to the last character of the prompt."""

    batch_size = 4

    def answer(self, requests):
        return [list(TEXTS.values())[ord(r.args[0].strip()[-1]) % len(TEXTS)] for r in requests]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    splits = {"validation": make_docs(20), "test": make_docs(12, start=40)}
    for kind in ("generate", "choice"):
        write_task(folder, kind, kind, splits, doc_to_text="{{question}}{{label}}{{answer}}")
    return folder


@pytest.mark.parametrize("language", TEXTS)
def test_a_text_is_in_its_own_language_alone(language):
    assert [name for name in TEXTS if spoken(TEXTS[language], name)] == [language]


@pytest.mark.parametrize("text", ["", "  \n", "42", "3.14 + 1 = ?"])
def test_a_text_without_letters_is_in_no_language(text):
    assert not any(spoken(text, language) for language in [*TEXTS, "af", "zh"])


def test_the_measure_is_the_share_of_answers_in_the_language(tmp_path):
    prompts = [f"prompt {k}{'abcd'[k % 4]}" for k in range(20)]
    found = measure(kind="language", language="ja", file=str(prompt_file(tmp_path, prompts)))
    items = everything(found)
    wanted = [float(list(TEXTS)[ord(found._corpus.docs[i]["prompt"][-1]) % 4] == "ja") for i in items]
    scores = found.score(Speaker(), items)
    assert scores.values.tolist() == wanted and found.report(scores) == 0.25
    assert found.identity()["teller"].startswith("py3langid ") and found.metric.name == "in_ja"


def test_a_users_function_sees_only_answers_in_the_language(tmp_path):
    (tmp_path / "rate.py").write_text("def rate(prompt, answer, document):\n    return len(answer)\n")
    prompts = [f"prompt {k}{'abcd'[k % 4]}" for k in range(20)]
    node = {"kind": "callable", "target": f"{tmp_path / 'rate.py'}:rate", "file": str(prompt_file(tmp_path, prompts))}
    found = measure(**node, language="de")
    assert set(found.score(Speaker(), everything(found)).values) == {0.0, float(len(TEXTS["de"]))}
    with pytest.raises(ConfigError, match="counts 0: good, where less is better"):
        measure(**node, language="de", higher_is_better=False)


def test_an_lm_eval_task_scores_0_for_answers_in_another_language(folder):
    (plain,) = load(["generate"], include_path=folder)
    (heard,) = checked([plain], {"generate": "fr"})
    items = everything(plain)
    scores, full = heard.score(Speaker(), items), plain.score(Speaker(), items).values
    texts = {item: Speaker().answer([r])[0] for item, r in _asked(plain, items).items()}
    wanted = [v if texts[i] == TEXTS["fr"] else 0.0 for i, v in zip(items, full, strict=True)]
    assert isinstance(scores, ItemScores) and scores.items == tuple(items)
    assert scores.values.tolist() == wanted and 0 < np.count_nonzero(scores.values) < len(items)


def _asked(task, items):
    return {item: requests_of(task, [item], None)[0] for item in items}


def test_the_checked_task_is_a_task_like_the_one_it_checks(folder):
    (plain,) = load(["generate"], include_path=folder)
    (heard,) = checked([plain], {"generate": "fr"})
    assert (heard.name, heard.items, heard.metric, heard.notes) == (plain.name, plain.items, plain.metric, plain.notes)
    assert heard.identity() == {**plain.identity(), "language": "fr", "teller": heard.identity()["teller"]}
    there = pickle.loads(pickle.dumps(heard))  # our own bytes
    items = plain.items["search"]
    assert np.array_equal(there.score(Speaker(), items).values, heard.score(Speaker(), items).values)
    assert json.dumps(there.identity()) == json.dumps(heard.identity())
    assert len(requests_of(heard, items, None)) == len(items)


def test_a_real_model_is_heard_as_well(folder, backend):
    (plain,) = load(["generate"], include_path=folder)
    (heard,) = checked([plain], {"generate": "en"})
    items = plain.items["search"]
    texts = dict(zip(items, backend.answer([_asked(plain, [i])[i] for i in items]), strict=True))
    full, values = plain.score(backend, items).values, heard.score(backend, items).values
    assert values.tolist() == [v * spoken(texts[i], "en") for i, v in zip(items, full, strict=True)]


def test_tasks_that_are_not_named_stay_as_they_are(folder):
    tasks = load(["generate", "choice"], include_path=folder)
    assert checked(tasks, {}) == tuple(tasks)
    assert checked(tasks, {"generate": "en"})[1] is tasks[1]


def test_what_cannot_be_checked_is_refused(folder):
    (generate,), (choice,) = load(["generate"], include_path=folder), load(["choice"], include_path=folder)
    with pytest.raises(ConfigError, match=r"unknown task in task\.languages 'generat'\. Did you mean 'generate'"):
        checked([generate], {"generat": "en"})
    with pytest.raises(ConfigError, match=r"unknown task\.languages\.generate 'jp'"):
        checked([generate], {"generate": "jp"})
    (heard,) = checked([choice], {"choice": "en"})
    with pytest.raises(TaskError, match=r"task\.languages\.choice: the task generates no text"):
        heard.score(ChoiceSpeaker(), choice.items["search"])
    generate.metric = Metric("errors", higher_is_better=False)
    with pytest.raises(ConfigError, match="no bad score by 'errors'"):
        checked([generate], {"generate": "en"})


class ChoiceSpeaker:
    batch_size = 4

    def answer(self, requests):
        return [(-1.0, False) for _ in requests]


def test_without_the_library_the_extra_to_install_is_told(monkeypatch, tmp_path):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "py3langid":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'evomerge\[language\]'"):
        measure(kind="language", language="ja", file=str(prompt_file(tmp_path)))
