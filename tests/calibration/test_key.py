"""What answers depend on: equal settings meet in one file, whatever could change a bit keeps them apart."""

import json
from dataclasses import replace

import torch

from evomerge.calibration.key import digest_of, file_name, settings_of
from evomerge.tasks.harness import load
from tests.calibration.made import recipe

BACKEND = {"_target_": "HFBackend", "batch_size": 4, "max_length": None}


def test_equal_evaluators_have_equal_settings(evaluator):
    settings = settings_of(evaluator, BACKEND)
    assert settings == settings_of(replace(evaluator, threads=torch.get_num_threads()), dict(reversed(BACKEND.items())))
    assert file_name(settings).startswith("calibration-") and len(file_name(settings)) == len("calibration-.npz") + 16


def test_whatever_changes_answers_changes_the_name(evaluator, quiz_folder):
    names = ["choice", "rolling", "generate"]
    changed = [
        replace(evaluator, dtype="bfloat16"),
        replace(evaluator, threads=2),
        replace(evaluator, device=torch.device("meta")),
        replace(evaluator, tasks=evaluator.tasks[:2]),
        replace(evaluator, tasks=load(names, quiz_folder, num_fewshot=1)),
        replace(evaluator, tasks=load(names, quiz_folder, split={"seed": 1})),
        replace(evaluator, tasks=load(names, quiz_folder, metrics={"rolling": "bits_per_byte"})),
    ]
    settings = [settings_of(one, BACKEND) for one in [evaluator, *changed]]
    settings.append(settings_of(evaluator, {**BACKEND, "batch_size": 8}))
    assert len({*map(file_name, settings)}) == len(settings)


def test_what_changes_no_answer_changes_no_name(evaluator, quiz_folder):
    held = settings_of(evaluator, BACKEND)
    tasks = load(["choice", "rolling", "generate"], quiz_folder, subtask="topic")
    assert settings_of(replace(evaluator, tasks=tasks), BACKEND) == held
    assert not {"split", "subtask"} & {*json.loads(held)["tasks"][0]}


def test_a_measure_against_references_depends_on_who_they_are(evaluator):
    class Divergence:
        metric = evaluator.tasks[0].metric

        def identity(self):
            return evaluator.tasks[0].identity()

        def observe(self, reference, backend):
            """Keep what it predicts."""

    with_it = replace(evaluator, tasks=(Divergence(),))
    fewer = replace(with_it, family=replace(evaluator.family, parents=evaluator.family.parents[:1]))
    assert settings_of(with_it, BACKEND) != settings_of(fewer, BACKEND)


def test_the_seed_counts_only_where_something_is_drawn():
    for method, alike in (("linear", True), ("passthrough", True), ("dare_linear", False), ("ties", False)):
        digests = {digest_of(recipe(1.0, method, seed)) for seed in (0, 1, 2)}
        assert (len(digests) == 1) == alike
    assert digest_of(recipe(1.0)) != digest_of(recipe(2.0)) != digest_of(recipe(2.0, "ties"))
