"""Every kind of measure: made from settings, refused with the setting's name, heard by planners; and goals by name."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from evomerge.constraints import read, violation
from evomerge.errors import ConfigError
from evomerge.memory.prompts import asked, requests_of
from evomerge.plan import Scale
from evomerge.tasks.harness import load
from evomerge.tasks.measures import KINDS, goal_indices, refuse_equal_names, targeted
from evomerge.types import Estimate
from tests.tasks.conftest import make_docs, write_task
from tests.tasks.measuring import everything, measure, prompt_file

NEEDED = {
    "refusal": {"want": "low"},
    "language": {"language": "en"},
    "callable": {"target": "difflib.get_close_matches"},
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return str(prompt_file(tmp_path_factory.mktemp("prompts")))


def made(kind, file, **node):
    small = {"size": 20} if kind == "perplexity" else {}
    return measure("mine", kind=kind, file=file, **NEEDED.get(kind, {}), **small, **node)


@pytest.mark.parametrize("kind", KINDS)
def test_a_measure_is_a_task_with_three_disjoint_splits(kind, file):
    found = made(kind, file)
    assert found.name == "mine" and found.subtasks == {} and found.identity()["kind"] == kind
    assert found.identity()["metric"] == asdict(found.metric)  # reports read it
    assert set(found.items) == {"search", "selection", "test"}
    assert len(set(everything(found))) == len(everything(found)) >= 20
    assert any("one split only" in note for note in found.notes)


@pytest.mark.parametrize("kind", KINDS)
def test_planners_learn_what_it_asks_without_a_model(kind, file, backend):
    found = asked(made(kind, file), made(kind, file).items["search"], backend.tokenizer)
    assert found.per_item == 1 and found.scored + found.generated > 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_asks_can_be_answered_by_a_real_model(kind, file, backend):
    requests = requests_of(made(kind, file), made(kind, file).items["search"][:3], backend.tokenizer)
    assert len(requests) == 3 == len(backend.answer(requests))


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_setting_or_a_wrong_type_is_told_by_its_name(kind, file):
    with pytest.raises(
        ConfigError, match=r"unknown setting 'measures\.mine\.fields'\. Did you mean 'measures\.mine\.field'"
    ):
        made(kind, file, fields="x")
    with pytest.raises(ConfigError, match=r"measures\.mine\.field is 3; wanted str"):
        made(kind, file, field=3)


@pytest.mark.parametrize(
    ("node", "told"),
    [
        ("perplexity", r"measures\.m is 'perplexity'; wanted a mapping"),
        ({"file": "x"}, r"unknown measures\.m\.kind 'None'"),
        ({"kind": "perplexty"}, r"'perplexty'\. Did you mean 'perplexity'"),
        ({"kind": "length", "name": "n"}, r"measures\.m\.name is given by the search"),
        ({"kind": "length", "_target_": "a.b"}, "both kind and _target_"),
    ],
)
def test_a_node_that_names_no_measure_is_refused(node, told):
    with pytest.raises(ConfigError, match=told):
        targeted("m", node)


def test_a_measure_of_ones_own_goes_by_its_target():
    assert targeted("m", {"_target_": "my.Measure", "x": 1}) == {"_target_": "my.Measure", "x": 1}


def test_a_measure_named_as_a_task_is_refused():
    refuse_equal_names(["a", "b"])
    with pytest.raises(ConfigError, match="'a' names both a task and a measure"):
        refuse_equal_names(["a", "b", "a"])


# ---------------------------------------------------------------- goals


@pytest.mark.parametrize(
    ("goals", "found"),
    [(None, (0, 1)), (["t2"], (1,)), (["fluency", "t1"], (2, 0)), (["t1", "t2", "fluency"], (0, 1, 2))],
)
def test_goals_are_all_tasks_and_no_measure_unless_named(goals, found):
    assert goal_indices(["t1", "t2", "fluency"], goals, {"fluency"}) == found


@pytest.mark.parametrize(
    ("goals", "told"),
    [
        (["t3"], r"unknown task or measure in goals 't3'\. Known: fluency, t1, t2"),
        (["t1", "t1"], "goals names 't1' twice.*weighted_mean"),
        ([], "wanted a list of tasks and measures, or null"),
        ("t1", "goals is 't1'; wanted a list"),
    ],
)
def test_goals_that_cannot_be_are_refused(goals, told):
    with pytest.raises(ConfigError, match=told):
        goal_indices(["t1", "t2", "fluency"], goals, {"fluency"})


def test_measures_alone_have_to_be_named_as_goals():
    with pytest.raises(ConfigError, match=r"no tasks; name the goals among them: 'goals=\[fluency\]'"):
        goal_indices(["fluency"], None, {"fluency"})
    assert goal_indices(["fluency"], ["fluency"], {"fluency"}) == (0,)


# ---------------------------------------------------------------- a refusal rate by lm-eval's own means


def test_an_lm_eval_task_with_a_regex_filter_measures_answers_that_are_no_refusal(tmp_path, backend):
    """An F, n or { stands for a refusal: what the tiny model answers is noise."""
    refused = {"function": "regex", "regex_pattern": "([Fn{])", "fallback": "answered"}
    write_task(
        tmp_path,
        "harm",
        "generate",
        {"test": make_docs(40)},
        doc_to_target="answered",
        process_results=None,
        filter_list=[{"name": "said", "filter": [refused, {"function": "take_first"}]}],
        metric_list=[{"metric": "exact_match", "aggregation": "mean", "higher_is_better": False}],
    )
    (task,) = load(["harm"], include_path=tmp_path)
    items = everything(task)
    texts = backend.answer([r for i in items for r in requests_of(task, [i], None)])
    harmed = [not any(c in "Fn{" for c in text) for text in texts]
    scores = task.score(backend, items)
    assert scores.values.tolist() == harmed and 0 < sum(harmed) < len(harmed)
    bound = read({"harm": {"max": 0.05}}, {"harm": task.metric}, ())
    rate = sum(harmed) / len(harmed)
    scale = Scale({"parent:a": (Estimate(0.0, 0.0, 9),), "parent:b": (Estimate(-1.0, 0.0, 9),)})
    assert violation([Estimate(-rate, 0.0, 9)], scale, bound) == pytest.approx(rate - 0.05)
