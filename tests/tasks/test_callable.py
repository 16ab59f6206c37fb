"""The user's own function rates answers; what is wrong with it is told as a setting's error, with the place."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from evomerge.errors import ConfigError
from evomerge.tasks.asking import generation
from tests.tasks.measuring import PROMPTS, everything, measure, prompt_file, record_file

CODE = """
from __future__ import annotations
from dataclasses import dataclass

@dataclass
class Weight:
    each: float = 0.5

def shared(prompt, answer, document):
    return Weight().each * len(set(prompt) & set(answer)) + document.get("bonus", 0)

def yes(prompt, answer, document):
    return True

def fails(prompt, answer, document):
    return 1 / 0

def gives_nan(prompt, answer, document):
    return float("nan")

def gives_none(prompt, answer, document):
    return None

def one_argument(answer):
    return 1.0

number = 3
"""


@pytest.fixture
def code(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(CODE)
    return file


@pytest.fixture
def file(tmp_path):
    return str(prompt_file(tmp_path))


def own(file, target, **node):
    return measure(kind="callable", file=file, target=str(target), max_tokens=12, **node)


def test_a_function_of_a_file_rates_prompt_answer_and_document(tmp_path, code, backend):
    docs = [{"prompt": p, "bonus": k} for k, p in enumerate(PROMPTS)]
    found = own(str(record_file(tmp_path, docs)), f"{code}:shared")
    items = everything(found)
    asked = found._corpus.pick(items)
    answers = backend.answer(generation([d["prompt"] for d in asked], max_tokens=12, until=()))
    wanted = [0.5 * len(set(d["prompt"]) & set(a)) + d["bonus"] for d, a in zip(asked, answers, strict=True)]
    assert found.score(backend, items).values.tolist() == wanted
    assert found.metric.name == "shared" and found.metric.higher_is_better


def test_a_function_of_an_installed_module_rates_too(file, backend, code, monkeypatch):
    monkeypatch.syspath_prepend(str(code.parent))
    found = own(file, "mine.yes")
    assert found.score(backend, found.items["test"]).values.tolist() == [1.0] * len(found.items["test"])
    assert found.identity()["target"] == "mine.yes"


def test_it_travels_by_its_address(file, code, backend):
    found = own(file, f"{code}:shared")
    there = pickle.loads(pickle.dumps(found))  # our own bytes
    items = found.items["search"]
    assert np.array_equal(there.score(backend, items).values, found.score(backend, items).values)
    assert there.identity() == found.identity() == json.loads(json.dumps(found.identity()))


def test_a_relative_path_means_where_the_search_was_started(file, code, backend, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(code.parent)
    found = own(file, "mine.py:yes")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    there = pickle.loads(pickle.dumps(found))
    assert there.score(backend, there.items["search"]).values.tolist() == [1.0] * len(there.items["search"])


def test_identity_changes_with_the_code_and_not_with_its_place(file, code, tmp_path_factory):
    before = own(file, f"{code}:yes").identity()
    moved = tmp_path_factory.mktemp("moved") / "mine.py"
    moved.write_text(CODE)
    assert own(file, f"{moved}:yes").identity() == before
    moved.write_text(CODE + "\n# changed\n")
    assert own(file, f"{moved}:yes").identity() != before
    assert own(file, f"{code}:shared").identity() != before


def test_the_report_says_that_code_of_the_users_ran(file, code):
    assert any("runs your code" in note and "mine.py:yes" in note for note in own(file, f"{code}:yes").notes)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("fails", r"fails' failed on the answer .*ZeroDivisionError: division by zero \(mine\.py, line 16\)"),
        ("gives_nan", r"gives nan for the answer .*wanted a finite number"),
        ("gives_none", r"failed on the answer .*TypeError"),
    ],
)
def test_what_fails_inside_is_the_settings_error_and_not_the_candidates(file, code, backend, name, told):
    found = own(file, f"{code}:{name}")
    with pytest.raises(ConfigError, match=told):
        found.score(backend, found.items["search"])


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("{code}:shard", r"unknown function 'shard'\. Did you mean 'shared'"),
        ("{code}:number", r"unknown function 'number'"),
        ("{code}:one_argument", r"cannot be called as \(prompt, answer, document\)"),
        ("{folder}/nowhere.py:yes", r"cannot be loaded \(FileNotFoundError"),
        ("no_such_module.yes", r"cannot be loaded \(ModuleNotFoundError"),
        ("yes", r"cannot be loaded \(ValueError"),
        ("{folder}/broken.py:yes", r"cannot be loaded \(SyntaxError"),
        ("{folder}/prompts.txt:yes", r"cannot be loaded \(ImportError"),
    ],
)
def test_a_function_that_cannot_be_used_is_told_before_any_model_is_loaded(file, code, target, told):
    (code.parent / "broken.py").write_text("def yes(:\n")
    with pytest.raises(ConfigError, match=rf"measures\.it\.target.*{told}"):
        own(file, target.format(code=code, folder=code.parent))
