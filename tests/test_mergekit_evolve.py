"""A file of mergekit-evolve becomes settings that Hydra reads back, and a search that runs."""

from __future__ import annotations

import pytest
import yaml

from evomerge import config
from evomerge.cli import main
from evomerge.errors import ConfigError
from evomerge.mergekit_evolve import settings_of

GENOME = {"models": ["org/a", "org/b"], "base_model": "org/base", "merge_method": "ties"}
#: Beginnings of the sentences that concern every file.
ALWAYS = ("taken over: the genome", "ignored: options", "mended: the same command", "mended: seed", "mended: a candid")


@pytest.fixture
def written(tmp_path):
    """Writes a file of a genome and other keys."""

    def write(genome=None, *, tasks=("t",), without=(), **rest):
        whole = {"genome": {**GENOME, **(genome or {})}, "tasks": list(tasks), **rest}
        for key in without:
            whole["genome"].pop(key, None)
            whole.pop(key, None)
        path = tmp_path / "evolve.yml"
        path.write_text(yaml.safe_dump(whole))
        return path

    return write


def composed(path):
    overrides, _ = settings_of(path)
    return config.settings(overrides)


def said(path):
    return settings_of(path)[1]


# ---------------------------------------------------------------- settings


def test_every_key_of_a_file_becomes_a_setting(written):
    genome = {
        "models": ["org/a", "org/b@v1", "org/base+org/lora"],
        "tokenizer_source": "union",
        "layer_granularity": 4,
        "normalize": False,
        "allow_negative_weights": True,
        "filters": ["self_attn", "mlp"],
        "smooth": True,
    }
    tasks = ["plain", {"name": "other-task", "weight": 0.5, "metric": "exact_match,strict-match"}]
    cfg = composed(written(genome, tasks=tasks, limit=7, num_fewshot=3, apply_chat_template=False))
    assert config.plain(cfg.parents) == {
        "base": "org/base",
        "models": ["org/a", "org/b@v1", "org/lora"],
        "vocabulary": "union",
    }
    assert config.plain(cfg.space) == {
        "_target_": "evomerge.spaces.mergekit.MergekitSpace",
        "merge_method": "ties",
        "layer_granularity": 4,
        "normalize": False,
        "allow_negative_weights": True,
        "smooth": True,
        "filters": ["self_attn", "mlp"],
        "low": None,
        "high": None,
    }
    assert config.plain(cfg.task.names) == ["plain", "other-task"]
    assert config.plain(cfg.task.metrics) == {"plain": "acc", "other-task": "exact_match"}
    assert (cfg.task.num_fewshot, cfg.task.apply_chat_template, cfg.task.fewshot_as_multiturn) == (3, False, True)
    assert (cfg.objective._target_, config.plain(cfg.objective.weights)) == (
        "evomerge.objectives.weighted_mean.WeightedMean",
        [1.0, 0.5],
    )
    assert (cfg.subset._target_, cfg.subset.n, cfg.dtype) == ("evomerge.subsets.random.Random", 14, "bfloat16")


def test_what_a_file_leaves_out_is_as_in_mergekit_evolve(written):
    cfg = composed(written({"base_model": None, "merge_method": "linear"}, tasks=["a", "b"]))
    assert cfg.parents.base is None
    assert (cfg.parents.vocabulary, cfg.space.layer_granularity, cfg.space.normalize) == ("equal", None, None)
    assert cfg.subset._target_.endswith("Everything")
    assert (cfg.task.num_fewshot, cfg.task.apply_chat_template, cfg.task.fewshot_as_multiturn) == (None, True, True)
    assert cfg.objective.weights is None


NAMES = ["a=b", "a,b", "a b", "it's", 'q"r', "back\\", "[x]", "{y}", "~/m", "$HOME", "null", "1e3", "ü/ß", "a:b", "#x"]


@pytest.mark.parametrize("name", NAMES)
def test_names_survive_hydras_grammar(written, name):
    cfg = composed(written({"models": [name, f"/m/{name}"], "base_model": name, "filters": [name]}))
    assert cfg.parents.base == name
    assert list(cfg.parents.models) == [name, f"/m/{name}"]
    assert list(cfg.space.filters) == [name]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("org/m@v1", "org/m@v1"),
        ("org/base+org/lora@v2", "org/lora@v2"),
        ({"model": "org/m"}, "org/m"),
        ({"model": {"path": "org/m", "revision": "v1"}}, "org/m@v1"),
        ({"model": "org/base", "lora": {"path": "org/lora"}}, "org/lora"),
    ],
)
def test_models_are_read_as_mergekit_writes_them(written, given, found):
    assert composed(written({"models": [given, "org/b"]})).parents.models[0] == found


@pytest.mark.parametrize(("source", "policy"), [("base", "base"), ("union", "union"), ("org/base", "base")])
def test_a_tokenizer_source_is_a_policy_for_vocabularies(written, source, policy):
    assert composed(written({"tokenizer_source": source})).parents.vocabulary == policy


@pytest.mark.parametrize(
    ("genome", "control"),
    [
        ({"merge_method": "ties"}, "uniform"),
        ({"merge_method": "slerp"}, "uniform"),
        ({"merge_method": "task_arithmetic"}, "lambda_grid"),
        ({"merge_method": "task_arithmetic", "normalize": True}, "uniform"),
        ({"merge_method": "ties", "normalize": False}, "lambda_grid"),
    ],
)
def test_a_grid_over_a_common_scale_is_no_control_where_the_scale_cancels(written, genome, control):
    assert f".{control}." in composed(written(genome)).control._target_


def test_a_negative_weight_of_a_loss_is_its_size(written):
    tasks = [{"name": "text", "metric": "word_perplexity,none", "weight": -2.0}, "quiz"]
    assert list(composed(written(tasks=tasks)).objective.weights) == [2.0, 1.0]


# ---------------------------------------------------------------- notes


def test_what_concerns_every_file_is_always_said(written):
    notes = said(written())
    assert all(sum(note.startswith(begin) for note in notes) == 1 for begin in ALWAYS)
    assert any("holds nothing back" in note for note in notes)
    assert {note.split(":")[0] for note in notes} <= {"taken over", "changed", "ignored", "mended"}
    assert not any("\n" in note or note.endswith(".") for note in notes)


@pytest.mark.parametrize(
    ("genome", "rest", "words"),
    [
        ({"merge_method": "task_arithmetic"}, {}, "mirror images"),
        ({"merge_method": "dare_ties"}, {}, "half of the first samples drop nothing"),
        ({"merge_method": "dare_ties"}, {}, "random masks are the same for every candidate"),
        ({"merge_method": "slerp"}, {}, "between 0.27 and 0.5"),
        ({"merge_method": "linear"}, {}, "sum to zero"),
        ({"merge_method": "linear"}, {}, "base_model outside models"),
        ({"models": ["org/base", "org/a"]}, {}, "the base among the models has no genes"),
        ({}, {"limit": 9}, "the first 9 documents"),
        ({}, {"shuffle": True}, "in each process, unseeded"),
        ({}, {"random_init": True}, "ignored: random_init"),
        (
            {},
            {"tasks": [{"name": "g", "metric": "exact_match,flexible-extract"}]},
            "the filter 'flexible-extract' of g",
        ),
        ({}, {"tasks": [{"name": "w", "metric": "word_perplexity,none"}]}, "less word_perplexity is better for w"),
        ({}, {}, "task.apply_chat_template=false"),
    ],
)
def test_a_note_is_said_where_it_applies_and_nowhere_else(written, genome, rest, words):
    assert sum(words in note for note in said(written(genome, **rest))) == 1
    bare = {"merge_method": "slerp" if genome.get("merge_method") != "slerp" else "task_arithmetic", "base_model": None}
    if bare["merge_method"] == "task_arithmetic":
        bare["base_model"] = "org/base"
    assert not any(words in note for note in said(written(bare, apply_chat_template=True)))


# ---------------------------------------------------------------- bad files


@pytest.mark.parametrize(
    ("genome", "rest", "message"),
    [
        ({"layer_granulartiy": 2}, {}, r"genome: unknown key 'layer_granulartiy'\. Did you mean 'layer_granularity'"),
        ({}, {"limits": 2}, r"unknown key 'limits'\. Did you mean 'limit'"),
        ({}, {"tasks": [{"name": "t", "metrics": "acc"}]}, r"unknown key 'metrics'\. Did you mean 'metric'"),
        ({"merge_method": "della"}, {}, r"unknown genome.merge_method 'della'.* Known: dare_ties, linear"),
        ({"models": []}, {}, r"genome has no models\. Add 'models:'"),
        ({}, {"tasks": []}, r"has no tasks\. Add 'tasks:'"),
        ({"base_model": None}, {}, r"genome has no base_model, and ties merges differences from one"),
        ({"smooth": "yes"}, {}, r"smooth is 'yes'; wanted true or false"),
        ({"layer_granularity": 1.5}, {}, r"layer_granularity is 1.5; wanted a whole number"),
        ({}, {"limit": True}, r"limit is True; wanted a whole number"),
        ({}, {"limit": 0}, r"limit is 0; wanted 1 or more"),
        ({}, {"num_fewshot": -1}, r"num_fewshot is -1; wanted 0 or more"),
        ({"models": ["org/x+org/lora"]}, {}, r"org/x\+org/lora is an adapter on another model than base_model"),
        ({"models": ["a+b+c"]}, {}, r"has 'a\+b\+c'; wanted a folder or hub id"),
        ({"models": [3]}, {}, r"has 3; wanted a folder or hub id"),
        ({"tokenizer_source": "org/c"}, {}, r"tokenizer_source is 'org/c'; wanted base, union or none"),
        ({}, {"tasks": ["t", "u", "t"]}, r"tasks name 't' twice"),
        ({}, {"tasks": [{"name": "t", "weight": -1}]}, r"weight of t is -1.0, which makes its acc a penalty"),
        ({}, {"tasks": [{"name": "t", "weight": float("inf")}]}, r"weight of t is inf; wanted a finite number"),
        ({}, {"tasks": [3]}, r"tasks is 3; wanted a mapping with the keys name, weight, metric"),
    ],
)
def test_a_bad_file_is_refused_with_what_was_wanted(written, genome, rest, message):
    with pytest.raises(ConfigError, match=message):
        settings_of(written(genome, **rest))


@pytest.mark.parametrize("key", ["models", "merge_method", "genome", "tasks"])
def test_what_mergekit_evolve_needs_is_asked_for(written, key):
    with pytest.raises(ConfigError, match=f"has no {key}. Add '{key}:'"):
        settings_of(written(without=[key]))


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*nowhere.yml"):
        settings_of(tmp_path / "nowhere.yml")
    (tmp_path / "list.yml").write_text("- a\n")
    with pytest.raises(ConfigError, match=r"list.yml is \['a'\]; wanted a mapping with the keys genome, tasks"):
        settings_of(tmp_path / "list.yml")


# ---------------------------------------------------------------- a search


def test_a_file_of_mergekit_evolve_is_searched(written, pico, task_folder, tmp_path, capsys):
    genome = {"models": [str(pico["a"]), str(pico["b"])], "base_model": str(pico["base"]), "filters": ["mlp"]}
    tasks = [{"name": "letters", "metric": "exact_match,none", "weight": 2}, "sums"]
    overrides, _ = settings_of(written(genome, tasks=tasks, limit=6, apply_chat_template=False))
    more = [f"task.include_path={task_folder}", "control=none", "threads=1", "device=cpu", f"run={tmp_path / 'run'}"]
    assert main(["search", *overrides, *more, "budget.evaluations=8"]) == 0
    shown = capsys.readouterr().out
    assert "finished, 8 evaluations in search" in shown.replace("\n", "")
    assert "space MergekitSpace" in shown
    assert (tmp_path / "run" / "report.md").is_file()
