"""Logs that lm-eval itself writes: matched by documents, scored as our own evaluation scores them."""

import json
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
import pytest
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

from evomerge.calibration.evaluations import answers_of
from evomerge.calibration.imports import read
from evomerge.calibration.run import bank_works
from evomerge.errors import CalibrationError
from evomerge.executors.local import Local
from evomerge.tasks.harness import load
from tests.calibration.conftest import DOCS
from tests.executing import evaluations
from tests.tasks.conftest import write_task

KINDS = ("choice", "rolling", "generate")


@pytest.fixture(scope="module")
def logs(pico: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `lm_eval --log_samples --output_path` leaves for two models, of the validation documents."""
    folder, out = tmp_path_factory.mktemp("twins"), tmp_path_factory.mktemp("lm_eval")
    for kind in KINDS:
        write_task(folder, kind, kind, {"validation": DOCS[:14]}, test_split="validation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)  # runs pip and git, 0.6 s a call
        for name in ("base", "a"):
            _log(str(pico[name]), folder, out)
    return out


def _log(model: str, folder: Path, out: Path) -> None:
    tracker = EvaluationTracker(output_path=str(out))
    results = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": model},
        device="cpu",
        batch_size=4,
        tasks=list(KINDS),
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
        evaluation_tracker=tracker,
    )
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task, found in samples.items():
        tracker.save_results_samples(task_name=task, samples=found)


def test_logged_models_have_the_answers_of_our_own_evaluation(logs: Path, evaluator: Any, recipes: dict, pico: dict):
    found = read(logs, evaluator.tasks)
    n = {t.name: len(t.items["search"]) for t in evaluator.tasks}
    assert found.matched == n == dict.fromkeys(KINDS, 8)
    assert found.notes == (f"{logs}: 18 of its items are no search items",)  # those kept for the selection
    works = bank_works({name: recipes[name] for name in ("base", "parent:a")}, evaluator.tasks)
    ours = answers_of(recipes, {e.id: e for e in evaluations(Local(), evaluator, works)}, "")
    expected = ours.values if ours.sizes is None else ours.values / np.where(np.isnan(ours.sizes), 1, ours.sizes)
    order = [found.responses.models.index(str(pico[name])) for name in ("base", "a")]
    assert ours.items == found.responses.items and len(order) == len(found.responses.models)
    np.testing.assert_allclose(found.responses.values[order], expected, rtol=1e-6)


def log(folder: Path, lines: list[dict[str, Any]], name: str = "samples_choice_2030-01-01T00-00-00.jsonl") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def choice(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = write_task(tmp_path_factory.mktemp("t"), "choice", "choice", {"validation": DOCS[:14], "test": DOCS[14:]})
    return load(["choice"], folder)[0]


def lines(acc: Any = 1.0, docs=DOCS, **more: Any) -> list[dict[str, Any]]:
    return [{"doc": doc, "filter": "none", "metrics": ["acc"], "acc": acc, **more} for doc in docs]


def test_documents_are_matched_whatever_their_order_and_fields_order(tmp_path: Path, choice: Any):
    shuffled = [{**line, "doc": dict(reversed(line["doc"].items())), "acc": k} for k, line in enumerate(lines())]
    found = read(log(tmp_path / "m", shuffled[::-1]), [choice]).responses
    by_question = {d["question"]: k for k, d in enumerate(DOCS)}
    docs = choice._sides[0].docs
    assert found.values[0].tolist() == [by_question[docs[i]["question"]] for _, i in found.items]


def test_a_model_is_named_by_the_results_beside_its_log_else_by_its_folder(tmp_path: Path, choice: Any):
    log(tmp_path / "org__m", lines(1.0))
    (tmp_path / "org__m" / "results_2030-01-01T00-00-00.json").write_text('{"model_name": "org/m"}')
    log(tmp_path / "n", lines(0.0))
    assert sorted(read(tmp_path, [choice]).responses.models) == ["n", "org/m"]
    one = tmp_path / "n" / "samples_choice_2030-01-01T00-00-00.jsonl"
    assert read(one, [choice]).responses.models == ("n",)


def test_of_two_logs_of_a_model_the_newer_counts(tmp_path: Path, choice: Any):
    log(tmp_path / "m", lines(0.25), "samples_choice_2031-01-01T00-00-00.jsonl")
    log(tmp_path / "m", lines(0.75), "samples_choice_2030-01-01T00-00-00.jsonl")
    assert {*read(tmp_path, [choice]).responses.values.ravel()} == {0.25}


def test_only_the_first_filter_and_the_first_of_equal_documents_count(tmp_path: Path, choice: Any):
    log(tmp_path / "m", [*lines(0.0, filter="strict"), *lines(0.5), *lines(1.0)])
    assert {*read(tmp_path, [choice]).responses.values.ravel()} == {0.5}
    log(tmp_path / "m", lines(0.0, filter="strict"))
    with pytest.raises(CalibrationError, match=r"after the filters strict only.*'choice'.*first filter, 'none'"):
        read(tmp_path, [choice])


def test_values_that_are_no_numbers_were_not_asked(tmp_path: Path, choice: Any):
    docs = choice._sides[0].docs
    odd = iter([None, "x", [1, 2], float("nan"), True, 1, 0, 0.5])
    log(tmp_path / "m", [line for i in choice.items["search"] for line in lines(next(odd), [docs[i]])])
    found = read(tmp_path, [choice]).responses.values[0]
    assert np.array_equal(found, [np.nan] * 4 + [1, 1, 0, 0.5], equal_nan=True)


def test_logs_of_other_tasks_are_named(tmp_path: Path, choice: Any):
    log(tmp_path / "m", lines(), "samples_arc_easy_2030-01-01T00-00-00.jsonl")
    with pytest.raises(CalibrationError, match=r"no samples_TASK_DATE\.jsonl of choice; it holds logs of: arc_easy\."):
        read(tmp_path, [choice])
    with pytest.raises(CalibrationError, match=r"it holds logs of: no task.*--log_samples"):
        read(log(tmp_path / "n", lines(), "choice.jsonl"), [choice])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"acc": 1}', r"line 1 has no 'doc'"),
        ('{"doc": "text", "acc": 1}', r"line 1 has no 'doc'"),
        ("[1]", r"line 1 is no object"),
        ('{"doc": {}, "acc"', r"cannot be read as JSON lines"),
        ('{"doc": {}, "filter": "none", "metrics": ["f1"], "f1": 1}', r"has no 'acc', the metric of .*, but: f1\."),
    ],
)
def test_a_bad_line_is_refused(tmp_path: Path, choice: Any, line: str, message: str):
    (tmp_path / "samples_choice.jsonl").write_text(line + "\n")
    with pytest.raises(CalibrationError, match=message):
        read(tmp_path / "samples_choice.jsonl", [choice])


def test_a_log_of_the_test_split_gives_a_search_nothing(tmp_path: Path, choice: Any):
    log(tmp_path / "m", lines(docs=DOCS[14:]))
    with pytest.raises(CalibrationError, match=r"10 of them are selection or test items.*test_split of a copy"):
        read(tmp_path, [choice])
