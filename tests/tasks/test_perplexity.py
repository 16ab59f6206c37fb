"""Perplexity of a text: lm-eval's own figures on the same passages."""

from __future__ import annotations

import json
import math
import pickle

import lm_eval
import numpy as np
import pytest
from lm_eval.tasks import TaskManager

from evomerge.errors import ConfigError
from evomerge.estimators.mean import task_mean
from tests.tasks.conftest import write_task
from tests.tasks.measuring import everything, measure

TEXT = "\n\n".join(
    f"Paragraph {k} of the report.\nIt has naïve words, {'and more ' * (k % 5)}of them." for k in range(30)
)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    file = tmp_path_factory.mktemp("text") / "report.txt"
    file.write_text(TEXT, encoding="utf-8")
    return file


@pytest.mark.parametrize("metric", ["bits_per_byte", "byte_perplexity", "word_perplexity"])
def test_it_is_what_lm_eval_reports_for_the_same_passages(text, metric, backend, tmp_path, monkeypatch):
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)
    found = measure(kind="perplexity", file=str(text), size=300, metric=metric)
    docs = [{"question": d["text"]} for d in found._corpus.pick(everything(found))]
    assert len(docs) > 8
    write_task(tmp_path, "report", "rolling", {"test": docs}, doc_to_target="{{question}}")
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    theirs = lm_eval.simple_evaluate(backend.lm, tasks=["report"], task_manager=manager, bootstrap_iters=0)
    ours = found.report(found.score(backend, everything(found)))
    assert ours == pytest.approx(theirs["results"]["report"][f"{metric},none"], rel=1e-6)


def test_values_are_pairs_whose_estimate_is_higher_for_the_better_model(text, backend):
    found = measure(kind="perplexity", file=str(text), size=300)
    scores = found.score(backend, found.items["search"])
    assert scores.values.shape == (len(found.items["search"]), 2) and (scores.values[:, 0] < 0).all()
    sizes = [len(d["text"].encode()) for d in found._corpus.pick(scores.items)]
    assert scores.values[:, 1].tolist() == sizes
    assert task_mean(scores, found.metric).value == pytest.approx(-found.report(scores) * math.log(2))


def test_items_come_in_the_order_asked_and_do_not_depend_on_each_other(text, backend):
    found = measure(kind="perplexity", file=str(text), size=300)
    items = list(found.items["search"])
    forth, back = found.score(backend, items), found.score(backend, items[::-1])
    assert back.items == tuple(items[::-1])
    np.testing.assert_allclose(forth.values, back.values[::-1], rtol=1e-5)


def test_documents_of_a_jsonl_file_stay_whole(tmp_path):
    docs = [{"body": f"{k} " + "word " * 2000} for k in range(8)]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, docs)))
    found = measure(kind="perplexity", file=str(tmp_path / "d.jsonl"), field="body")
    assert sorted(d["body"] for d in found._corpus.docs.values()) == sorted(d["body"] for d in docs)


def test_identity_follows_the_text_and_not_its_place(text, tmp_path):
    moved, changed = tmp_path / "elsewhere.txt", tmp_path / "changed.txt"
    moved.write_text(TEXT, encoding="utf-8")
    changed.write_text(TEXT + "!", encoding="utf-8")
    own = measure(kind="perplexity", file=str(text), size=300).identity()
    assert measure(kind="perplexity", file=str(moved), size=300).identity() == own == json.loads(json.dumps(own))
    assert measure(kind="perplexity", file=str(changed), size=300).identity() != own
    assert measure(kind="perplexity", file=str(text), size=200).identity() != own


def test_it_travels(text, backend):
    found = measure(kind="perplexity", file=str(text), size=300)
    there = pickle.loads(pickle.dumps(found))  # our own bytes
    items = found.items["search"]
    assert np.array_equal(there.score(backend, items).values, found.score(backend, items).values)
    assert there.identity() == found.identity()


def test_a_metric_or_a_size_that_makes_no_sense_is_refused(text):
    with pytest.raises(
        ConfigError, match=r"unknown measures\.it\.metric 'bits_per_bite'\. Did you mean 'bits_per_byte'"
    ):
        measure(kind="perplexity", file=str(text), metric="bits_per_bite")
    with pytest.raises(ConfigError, match=r"measures\.it\.size is 0; wanted"):
        measure(kind="perplexity", file=str(text), size=0)
