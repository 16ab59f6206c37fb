"""Margins of multiple choice: how far the right answer is ahead of the best wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lm_eval.api.task import ConfigurableTask

from evomerge.tasks.harness import HarnessTask, load
from tests.tasks.conftest import make_docs, write_task


class Numbers:
    """Answers every request with the next of some log-likelihoods."""

    batch_size = 1

    def __init__(self, *logliks: float) -> None:
        self.logliks = logliks

    def answer(self, requests: list[Any]) -> list[tuple[float, bool]]:
        return [(self.logliks[k % len(self.logliks)], False) for k in range(len(requests))]


def task(folder: Path, kind: str = "choice", **config: Any) -> HarnessTask:
    docs = make_docs(8) if "docs" not in config else config.pop("docs")
    write_task(folder, "sums", kind, {"validation": docs[:5], "test": docs[5:]}, **config)
    return load(["sums"], folder)[0]


def margins(found: HarnessTask, *logliks: float) -> list[float] | None:
    scores = found.score(Numbers(*logliks), found.items["test"])
    assert len(scores.values) == len(found.items["test"])
    return None if scores.margins is None else scores.margins.tolist()


def labels(found: HarnessTask) -> list[int]:
    side = found._sides[-1]
    return [side.docs[i]["label"] for i in found.items["test"]]


def test_a_margin_is_the_right_choice_minus_the_best_wrong_one(tmp_path: Path):
    found = task(tmp_path)
    by_label = {0: -1.0 + 2.0, 1: -2.0 + 1.0, 2: -5.0 + 1.0}  # of -1, -2 and -5
    assert margins(found, -1.0, -2.0, -5.0) == [by_label[k] for k in labels(found)]


def test_a_positive_margin_is_a_right_answer(tmp_path: Path):
    found = task(tmp_path)
    scores = found.score(Numbers(-3.0, -1.0, -2.0), found.items["test"])
    assert ((scores.margins > 0) == (scores.values == 1)).all() and set(scores.values) == {0.0, 1.0}


def test_margins_come_in_the_order_of_the_items(tmp_path: Path):
    found = task(tmp_path)
    items = found.items["test"]
    straight, reverse = (found.score(Numbers(-1.0, -2.0, -5.0), some) for some in (items, items[::-1]))
    assert straight.margins.tolist() == reverse.margins.tolist()[::-1]


@pytest.mark.parametrize(
    ("target", "expected"),
    [("{{[0, 2]}}", -1.0 + 2.0), ("{{choices[1]}}", -2.0 + 1.0), ("{{2}}", -5.0 + 1.0)],
    ids=["several", "text", "place"],
)
def test_the_right_choice_may_be_named_in_each_of_lm_evals_ways(tmp_path: Path, target: str, expected: float):
    docs = [doc | {"choices": ["red", "green", "blue"]} for doc in make_docs(8)]  # lm-eval reads digits as a place
    assert set(margins(task(tmp_path, docs=docs, doc_to_target=target), -1.0, -2.0, -5.0)) == {expected}


def test_unconditional_requests_are_no_choices(tmp_path: Path):
    metric = {"metric": "acc_mutual_info", "aggregation": "mean", "higher_is_better": True}
    found = task(tmp_path, metric_list=[metric])
    assert margins(found, -1.0, -2.0, -5.0, -0.1, -0.1, -0.1) == margins(task(tmp_path / "plain"), -1.0, -2.0, -5.0)


@pytest.mark.parametrize("kind", ["loglik", "generate"])
def test_a_task_without_choices_has_no_margins(tmp_path: Path, kind: str):
    found = task(tmp_path, kind)
    backend = Numbers(-1.0)
    if kind == "generate":
        backend.answer = lambda requests: ["12" for _ in requests]
    assert found.score(backend, found.items["test"]).margins is None


def test_one_item_without_a_right_choice_leaves_the_task_without_margins(tmp_path: Path):
    docs = make_docs(8)
    docs[6]["label"] = 7
    found = task(tmp_path, docs=docs)
    assert margins(found, -1.0, -2.0, -5.0) is None
    whole = [i for i in found.items["test"] if found._sides[-1].docs[i]["label"] < 3]
    assert np.isfinite(found.score(Numbers(-1.0, -2.0, -5.0), whole).margins).all()


def test_what_a_document_tells_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    looks: list[Any] = []
    look = ConfigurableTask.doc_to_choice
    monkeypatch.setattr(ConfigurableTask, "doc_to_choice", lambda s, *args: looks.append(args) or look(s, *args))
    found = task(tmp_path)
    first = found.score(Numbers(-1.0, -2.0, -5.0), found.items["test"])
    looks.clear()
    second = found.score(Numbers(-1.0, -2.0, -5.0), found.items["test"])
    assert looks == [] and second.values.tolist() == first.values.tolist()


def test_infinite_log_likelihoods_give_no_margins(tmp_path: Path):
    assert margins(task(tmp_path), -1.0, float("-inf"), float("-inf")) is None
