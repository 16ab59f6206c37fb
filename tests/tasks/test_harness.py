"""lm-eval tasks: equal to lm-eval item by item, whatever is asked in whatever order, under changing weights."""

import inspect
import pickle
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
import pytest
import torch
import yaml
from lm_eval.tasks import TaskManager
from safetensors.torch import load_file

from evomerge.backends.hf import HFBackend
from evomerge.errors import ConfigError, TaskError
from evomerge.tasks.harness import HarnessTask, load
from evomerge.tasks.splits import item_id
from evomerge.types import ItemScores
from tests.tasks.conftest import KINDS, make_docs, write_docs, write_task

DOCS = make_docs(36)
SPLITS = {"train": DOCS[:8], "validation": DOCS[8:22], "test": DOCS[22:]}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One task per kind, with three splits, and a twin that lm-eval evaluates on the validation split."""
    folder = tmp_path_factory.mktemp("tasks")
    for kind in KINDS:
        write_task(folder, kind, kind, SPLITS, fewshot_split="train", tag="sums")
        write_task(folder, f"{kind}_val", kind, SPLITS, fewshot_split="train", test_split="validation")
    (folder / "pair.yaml").write_text(yaml.safe_dump({"group": "pair", "task": ["margin", "rolling"]}))
    return folder


@pytest.fixture(autouse=True)
def _no_environment_report(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)  # runs pip and git, 0.6 s a call


def by_lm_eval(
    backend: HFBackend, folder: Path, name: str, metric: str, docs: Sequence[int] | None = None, **options: Any
) -> dict[str, Any]:
    """Raw values by item from lm_eval.simple_evaluate, after the first filter."""
    fewshot = {"fewshot_as_multiturn": False} | options
    results = lm_eval.simple_evaluate(
        model=backend.lm,
        tasks=[name],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        samples=None if docs is None else {name: list(docs)},
        log_samples=True,
        bootstrap_iters=0,
        **fewshot,
    )
    samples = results["samples"][name]
    return {item_id(s["doc"]): s[metric] for s in samples if s["filter"] == samples[0]["filter"]}


def values(task: HarnessTask, backend: HFBackend, items: Sequence[str]) -> dict[str, Any]:
    scores = task.score(backend, items)
    assert scores.items == tuple(items) and scores.values.dtype == np.float64
    return dict(zip(items, scores.values.tolist(), strict=True))


def plain(raw: dict[str, Any], metric: str) -> dict[str, Any]:
    """lm-eval's raw values as evomerge keeps them: numbers, or [loglik, weight]."""
    if metric == "perplexity":
        return {i: [v, 1.0] for i, v in raw.items()}
    return {i: list(map(float, v)) if isinstance(v, tuple) else float(v) for i, v in raw.items()}


METRICS = [
    ("choice", "acc"),
    ("margin", "margin"),
    ("loglik", "perplexity"),
    ("rolling", "word_perplexity"),
    ("generate", "spelling"),
]


# ---------------------------------------------------------------- equal to lm-eval


@pytest.mark.parametrize(("kind", "metric"), METRICS)
@pytest.mark.parametrize("shots", [0, 2])
def test_item_scores_equal_lm_eval(folder: Path, backend: HFBackend, kind: str, metric: str, shots: int):
    (task,) = load([kind], folder, num_fewshot=shots)
    found = values(task, backend, task.items["search"] + task.items["selection"])
    assert found == plain(by_lm_eval(backend, folder, f"{kind}_val", metric, num_fewshot=shots), metric)
    assert len({str(v) for v in found.values()}) > 1  # scores that are all alike would prove nothing


@pytest.mark.parametrize(("kind", "metric"), METRICS)
def test_a_few_items_score_as_lm_eval_scores_these_samples(folder: Path, backend: HFBackend, kind: str, metric: str):
    (task,) = load([kind], folder)
    chosen = sorted(SPLITS["test"].index(d) for d in SPLITS["test"][3:12:2])
    items = [item_id(SPLITS["test"][i]) for i in chosen]
    assert values(task, backend, items) == plain(by_lm_eval(backend, folder, kind, metric, chosen), metric)


@pytest.mark.parametrize("multiturn", [False, True])
@pytest.mark.parametrize("kind", ["margin", "generate"])
def test_chat_prompts_score_as_in_lm_eval(folder: Path, backend: HFBackend, kind: str, multiturn: bool):
    chat = {"apply_chat_template": True, "fewshot_as_multiturn": multiturn, "system_instruction": "Add."}
    (task,) = load([kind], folder, num_fewshot=2, **chat)
    expected = by_lm_eval(backend, folder, kind, task.metric.name, num_fewshot=2, **chat)
    found = values(task, backend, task.items["test"])
    assert found == plain(expected, task.metric.name)
    assert found != values(load([kind], folder, num_fewshot=2)[0], backend, task.items["test"])


@pytest.mark.parametrize(("kind", "metric"), [*METRICS, ("rolling", "byte_perplexity"), ("rolling", "bits_per_byte")])
def test_report_equals_lm_evals_aggregate(folder: Path, backend: HFBackend, kind: str, metric: str):
    (task,) = load([kind], folder, metrics={kind: metric})
    in_file_order = [item_id(doc) for doc in SPLITS["test"]]  # sums of floats depend on their order
    raw = by_lm_eval(backend, folder, kind, metric)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    aggregate = manager.load([kind])["tasks"][kind].aggregation()[metric]
    assert task.report(task.score(backend, in_file_order)) == pytest.approx(aggregate(list(raw.values())), rel=1e-12)


def test_an_overflowing_perplexity_is_infinite(folder: Path):
    (task,) = load(["rolling"], folder)
    assert task.report(ItemScores("rolling", ("a",), np.array([[-1e4, 2.0]]))) == float("inf")


def test_validation_serves_search_and_test_the_test(folder: Path):
    (task,) = load(["choice"], folder)
    sides = {side: set(items) for side, items in task.items.items()}
    assert sides["test"] == {item_id(d) for d in SPLITS["test"]}
    assert sides["search"] | sides["selection"] == {item_id(d) for d in SPLITS["validation"]}
    assert not sides["search"] & sides["selection"] and len(sides["selection"]) == round(0.4 * 14)
    assert task.notes == ()


# ---------------------------------------------------------------- order, weights, processes


@pytest.mark.parametrize("kind", ["loglik", "rolling", "generate"])
def test_scores_do_not_depend_on_the_order_of_items(folder: Path, backend: HFBackend, kind: str):
    (task,) = load([kind], folder, num_fewshot=2)
    items = list(task.items["search"])
    shuffled = random.Random(3).sample(items, len(items))
    assert values(task, backend, shuffled) == values(task, backend, items)


def test_questions_are_asked_in_document_order(folder: Path, backend: HFBackend, monkeypatch: pytest.MonkeyPatch):
    # batches follow this order, and padding decides the last bits of a score
    (task,) = load(["rolling"], folder)
    asked: list[list[int]] = []
    answer = backend.answer
    monkeypatch.setattr(backend, "answer", lambda rs: asked.append([r.doc_id for r in rs]) or answer(rs))
    for seed in range(3):
        task.score(backend, random.Random(seed).sample(task.items["test"], 9))
    assert all(order == sorted(order) and len(order) == 9 for order in asked)


def test_items_of_several_sides_are_scored_in_one_call(folder: Path, backend: HFBackend):
    (task,) = load(["choice"], folder)
    mixed = [i for side in zip(task.items["test"], task.items["search"], strict=False) for i in side]
    apart = values(task, backend, task.items["test"]) | values(task, backend, task.items["search"])
    assert values(task, backend, mixed) == {i: apart[i] for i in mixed}


def test_changed_weights_score_as_a_fresh_model_and_back(
    folder: Path, make_backend: Callable[..., HFBackend], base_folder: Path, expert_folder: Path
):
    live, fresh = make_backend(), make_backend(expert_folder)
    tasks = load(["margin", "loglik", "rolling", "generate"], folder, num_fewshot=1)

    def everything(backend: HFBackend) -> list[dict[str, Any]]:
        return [values(task, backend, task.items["test"]) for task in tasks]

    def write(source: Path) -> None:
        weights = dict(live.lm.model.named_parameters())
        with torch.no_grad():
            for name, tensor in load_file(source / "model.safetensors").items():
                weights[name].copy_(tensor)

    before = everything(live)
    write(expert_folder)
    assert everything(live) == everything(fresh) != before
    write(base_folder)
    assert everything(live) == before


def test_prepared_requests_are_built_once(folder: Path, backend: HFBackend, monkeypatch: pytest.MonkeyPatch):
    (task,) = load(["margin"], folder, num_fewshot=2)
    task.prepare(backend)
    for side in task._sides:
        monkeypatch.setattr(side, "_build", None)
    task.score(backend, task.items["search"])
    task.score(backend, task.items["test"])


def test_a_task_travels_by_its_settings(folder: Path, backend: HFBackend):
    (task,) = load(["generate"], folder, num_fewshot=2, split={"seed": 5})
    task.prepare(backend)
    parcel = pickle.dumps(task)
    again = pickle.loads(parcel)
    assert len(parcel) < 5_000 and again.identity() == task.identity() and again.items == task.items
    assert values(again, backend, task.items["search"]) == values(task, backend, task.items["search"])


def test_a_worker_with_other_data_refuses_the_task(tmp_path: Path):
    write_task(tmp_path, "sums", "choice", SPLITS)
    parcel = pickle.dumps(load(["sums"], tmp_path)[0])
    write_docs(tmp_path / "sums_test.jsonl", DOCS[23:])
    with pytest.raises(TaskError, match=r"differs .* in: items"):
        pickle.loads(parcel)


def test_identity_names_what_scores_depend_on(folder: Path):
    def identity(**options: Any) -> dict[str, Any]:
        return load(["loglik"], folder, **options)[0].identity()

    assert identity() == identity()
    for options, key in [
        ({"num_fewshot": 1}, "num_fewshot"),
        ({"metrics": {"loglik": "acc"}}, "metric"),
        ({"split": {"selection": 0.5}}, "items"),
        ({"system_instruction": "Add."}, "system_instruction"),
    ]:
        assert identity(**options)[key] != identity()[key]


# ---------------------------------------------------------------- few-shot examples


@pytest.mark.parametrize(
    ("splits", "config"),
    [
        (("validation", "test"), {"fewshot_split": "validation"}),
        (("train", "test"), {"fewshot_split": "train"}),
        (("train", "test"), {}),
        (("validation", "test"), {}),
        (("test",), {}),
        (("validation",), {"fewshot_split": "validation", "fewshot_config": {"sampler": "first_n"}}),
    ],
)
def test_no_document_is_among_its_own_examples(
    tmp_path: Path, backend: HFBackend, splits: tuple[str, ...], config: dict[str, Any]
):
    # names of splits: search falls back to train, the pool to train, validation, test
    write_task(tmp_path, "sums", "loglik", {s: SPLITS[s] for s in splits}, **config)
    (task,) = load(["sums"], tmp_path, num_fewshot=3)
    for side in task._sides:
        for item, requests in side.requests(side.docs, backend).items():
            prompt = requests[0].args[0]
            assert prompt.count("What is") == 4
            own = side.docs[item]["question"]
            assert [line.split("?")[0] for line in prompt.split("\n\n")].count(own.split("?")[0]) == 1


def test_examples_from_the_search_split_equal_lm_evals_own_exclusion(tmp_path: Path, backend: HFBackend):
    write_task(tmp_path, "sums", "loglik", SPLITS, fewshot_split="validation")
    write_task(tmp_path, "sums_val", "loglik", SPLITS, fewshot_split="validation", test_split="validation")
    (task,) = load(["sums"], tmp_path, num_fewshot=2)
    found = values(task, backend, task.items["search"] + task.items["selection"])
    assert found == plain(by_lm_eval(backend, tmp_path, "sums_val", "perplexity", num_fewshot=2), "perplexity")


def test_the_same_examples_before_every_document_on_request(tmp_path: Path, backend: HFBackend):
    write_task(tmp_path, "sums", "choice", SPLITS, fewshot_split="train")
    beginnings = {}
    for same in (False, True):
        (task,) = load(["sums"], tmp_path, num_fewshot=2, fewshot_same=same)
        (side,) = [s for s in task._sides if set(s.docs) & set(task.items["test"])]
        prompts = [asked[0].args[0] for asked in side.requests(side.docs, backend).values()]
        beginnings[same] = {prompt.rsplit("\n\n", 1)[0] for prompt in prompts}
        assert task.identity()["fewshot_same"] is same
    assert len(beginnings[True]) == 1 < len(beginnings[False])


def test_a_zero_in_the_tasks_config_stands_and_is_noted(tmp_path: Path):
    write_task(tmp_path, "sums", "choice", SPLITS, num_fewshot=0)
    (task,) = load(["sums"], tmp_path, num_fewshot=5)
    assert task.identity()["num_fewshot"] == 0 and "num_fewshot=5 is ignored" in task.notes[0]


def test_examples_from_among_test_documents_are_noted(tmp_path: Path, folder: Path):
    write_task(tmp_path, "sums", "choice", {"test": DOCS})
    (task,) = load(["sums"], tmp_path, num_fewshot=1)
    assert task.notes[-1] == "sums: examples in its search prompts are drawn from among test documents too"
    assert load(["choice"], folder, num_fewshot=1)[0].notes == ()


def test_too_many_examples_are_refused(tmp_path: Path, backend: HFBackend):
    write_task(tmp_path, "sums", "choice", SPLITS, fewshot_split="train")
    with pytest.raises(TaskError, match=r"with 9 examples"):
        load(["sums"], tmp_path, num_fewshot=9)[0].prepare(backend)


# ---------------------------------------------------------------- splits of real tasks


def test_items_do_not_depend_on_the_order_of_the_data_file(tmp_path: Path):
    write_task(tmp_path, "sums", "choice", SPLITS)
    (before,) = load(["sums"], tmp_path)
    for name, docs in SPLITS.items():
        write_docs(tmp_path / f"sums_{name}.jsonl", random.Random(1).sample(docs, len(docs)))
    (after,) = load(["sums"], tmp_path)
    assert after.items == before.items and after.identity() == before.identity()


def test_with_examples_the_order_of_the_data_file_is_identity(tmp_path: Path):
    write_task(tmp_path, "sums", "choice", SPLITS)
    before = load(["sums"], tmp_path, num_fewshot=1)[0].identity()
    write_docs(tmp_path / "sums_test.jsonl", SPLITS["test"][::-1])
    after = load(["sums"], tmp_path, num_fewshot=1)[0].identity()
    assert {k for k in after if after[k] != before[k]} == {"examples"}


def test_a_single_split_is_cut_and_noted(tmp_path: Path, backend: HFBackend):
    write_task(tmp_path, "sums", "margin", {"test": DOCS})
    (task,) = load(["sums"], tmp_path)
    assert {side: len(items) for side, items in task.items.items()} == {"test": 14, "selection": 9, "search": 13}
    assert task.notes == ("sums: one split only; 14 of 36 items were cut off for the test",)
    assert len(values(task, backend, task.items["search"])) == 13


def test_train_serves_search_and_validation_the_test_where_there_is_no_test(tmp_path: Path):
    write_task(tmp_path, "sums", "choice", {"train": DOCS[:20], "validation": DOCS[20:]})
    (task,) = load(["sums"], tmp_path)
    assert set(task.items["test"]) == {item_id(d) for d in DOCS[20:]}
    assert ["no test split" in task.notes[0], "trained on it" in task.notes[1]] == [True, True]


def test_duplicates_are_one_item_and_leaks_are_dropped(tmp_path: Path, backend: HFBackend):
    splits = {"validation": DOCS[:12] + DOCS[:3], "test": DOCS[10:20] + DOCS[10:11]}
    write_task(tmp_path, "sums", "loglik", splits)
    (task,) = load(["sums"], tmp_path)
    assert len(task.items["search"] + task.items["selection"]) == 10 and len(task.items["test"]) == 10
    assert task.notes == ("sums: 2 of 12 search items are in the test too: dropped",)
    assert len(values(task, backend, task.items["test"])) == 10


def test_groups_of_a_task_stay_together(tmp_path: Path):
    write_task(tmp_path, "sums", "choice", {"test": DOCS})
    (task,) = load(["sums"], tmp_path, split={"group": "topic"})
    topic = {item_id(doc): doc["topic"] for doc in DOCS}
    topics = [{topic[i] for i in items} for items in task.items.values()]
    assert sum(len(t) for t in topics) == len({doc["topic"] for doc in DOCS})


def test_sub_tasks_come_from_the_documents_and_are_part_of_identity(tmp_path: Path):
    write_task(tmp_path, "sums", "choice", SPLITS)
    write_task(tmp_path, "bare", "choice", {s: [_without(d, "topic") for d in docs] for s, docs in SPLITS.items()})
    sums, bare = load(["sums", "bare"], tmp_path, subtask="topic")
    topic = {item_id(doc): doc["topic"] for doc in DOCS}
    asked = [i for items in sums.items.values() for i in items]
    assert {i: sums.subtasks[i] for i in asked} == {i: topic[i] for i in asked} and bare.subtasks == {}
    plain, alike = load(["sums", "bare"], tmp_path)
    assert plain.subtasks == {} and plain.items == sums.items and alike.identity() == bare.identity()
    assert {k for k in plain.identity() if plain.identity()[k] != sums.identity()[k]} == {"subtask"}


def _without(doc: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in doc.items() if name != field}


def test_a_task_travels_with_its_sub_tasks(tmp_path: Path):
    write_task(tmp_path, "sums", "choice", SPLITS)
    (task,) = load(["sums"], tmp_path, subtask="topic", split={"bank": 3})
    again = pickle.loads(pickle.dumps(task))
    assert again.subtasks == task.subtasks and again.items == task.items and len(again.items["search"]) == 3


def test_a_field_that_no_task_has_is_refused_with_the_nearest(folder: Path):
    with pytest.raises(TaskError, match=r"document field in task.subtask: 'topics'. Did you mean 'topic'"):
        load(["choice", "loglik"], folder, subtask="topics")


def test_answers_are_scored_after_the_first_filter(folder: Path):
    assert [task.filter for task in load(["generate", "choice"], folder)] == ["half", "none"]


# ---------------------------------------------------------------- metrics and names


def test_metric_kind_and_direction_come_from_the_task(folder: Path):
    tasks = load(list(KINDS), folder)
    assert [(t.metric.name, t.metric.kind, t.metric.higher_is_better) for t in tasks] == [
        ("acc", "mean", True),
        ("margin", "mean", True),
        ("perplexity", "pairs", False),
        ("word_perplexity", "pairs", False),
        ("spelling", "mean", True),
    ]


def test_a_corpus_metric_is_refused_naming_the_fit_ones(tmp_path: Path):
    metrics = [
        {"metric": "f1", "aggregation": "f1", "higher_is_better": True},
        {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
    ]
    write_task(tmp_path, "sums", "choice", SPLITS, metric_list=metrics)
    with pytest.raises(TaskError, match=r"'f1' of task 'sums'.*not as a mean.*task.metrics=.*Fit: acc\."):
        load(["sums"], tmp_path)
    (task,) = load(["sums"], tmp_path, metrics={"sums": "acc"})
    assert task.metric.name == "acc"


def test_unknown_metrics_are_refused(folder: Path):
    with pytest.raises(TaskError, match=r"'ac'. Did you mean 'acc'"):
        load(["loglik"], folder, metrics={"loglik": "ac"})
    with pytest.raises(TaskError, match=r"task in task.metrics 'loglike'. Did you mean 'loglik'"):
        load(["loglik"], folder, metrics={"loglike": "acc"})


def test_the_yaml_of_conf_holds_loads_own_defaults(folder: Path):
    config = yaml.safe_load((Path(__file__).parents[2] / "conf/task/harness.yaml").read_text())
    assert config.pop("_target_") == "evomerge.tasks.harness.load"
    parameters = inspect.signature(load).parameters
    config.pop("languages")  # of the wrapper around the tasks
    assert set(config) == set(parameters) - {"split"}  # interpolated from the config group of that name
    defaults = {name: parameters[name].default for name in config if name not in ("names", "metrics")}
    assert {name: config[name] for name in defaults} == defaults
    assert len(load(**config | {"names": ["choice"], "include_path": str(folder)})) == 1


def test_groups_and_tags_expand(folder: Path):
    assert [t.name for t in load(["pair"], folder)] == ["margin", "rolling"]
    assert sorted(t.name for t in load("sums", folder)) == sorted(KINDS)


def test_an_unknown_task_is_refused_with_the_nearest(folder: Path, monkeypatch: pytest.MonkeyPatch):
    only_own = lambda include_path, include_defaults=True: TaskManager(  # noqa: E731  lm-eval's own take 6 to 14 s
        include_path=include_path, include_defaults=False
    )
    monkeypatch.setattr("evomerge.tasks.harness.TaskManager", only_own)
    with pytest.raises(TaskError, match=r"unknown task 'generat'. Nearest: generate"):
        load(["generat"], folder)


def test_what_cannot_be_loaded_is_refused(tmp_path: Path):
    with pytest.raises(TaskError, match=r"is no folder"):
        load(["sums"], tmp_path / "nowhere")
    write_task(tmp_path, "sums", "choice", SPLITS)
    (tmp_path / "sums_test.jsonl").unlink()
    with pytest.raises(TaskError, match=r"sums cannot be loaded: FileNotFoundError"):
        load(["sums"], tmp_path)
    with pytest.raises(ConfigError, match=r"unknown split option 'sed'"):
        load(["sums"], tmp_path, split={"sed": 0})


def test_an_unknown_item_is_refused(folder: Path, backend: HFBackend):
    (task,) = load(["choice"], folder)
    with pytest.raises(TaskError, match=r"no item 'feedbeef' among its 28"):
        task.score(backend, ["feedbeef"])


def test_a_missing_chat_template_is_refused(folder: Path, make_backend: Callable[..., HFBackend]):
    bare = make_backend()
    bare.tokenizer.chat_template = None
    with pytest.raises(TaskError, match=r"no chat template"):
        load(["choice"], folder, apply_chat_template=True)[0].prepare(bare)


# ---------------------------------------------------------------- no trace


def test_global_random_states_and_output_are_untouched(
    folder: Path, tmp_path: Path, backend: HFBackend, capfd: pytest.CaptureFixture
):
    sampling = {"until": ["\n"], "max_gen_toks": 4, "do_sample": True, "temperature": 1.0}
    write_task(tmp_path, "sampled", "generate", SPLITS, generation_kwargs=sampling)
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    for task in (*load(["margin", "rolling"], folder, num_fewshot=2), *load(["sampled"], tmp_path)):
        task.prepare(backend)
        once = values(task, backend, task.items["search"])
        assert values(task, backend, task.items["search"]) == once
    assert "answers are sampled" in task.notes[0]
    assert random.getstate() == before[0]
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), before[1], strict=True))
    assert torch.equal(torch.get_rng_state(), before[2])
    assert capfd.readouterr().out == ""


def test_scoring_draws_no_bars(folder: Path, backend: HFBackend, capfd: pytest.CaptureFixture):
    for task in load(["margin", "rolling", "generate"], folder, num_fewshot=2):
        task.score(backend, task.items["search"])
    captured = capfd.readouterr()
    assert "it/s" not in captured.err + captured.out
