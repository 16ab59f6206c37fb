"""conf/experiment/: published searches by name, ready on the embedded zoo, and run on a few of its items."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from evomerge import api, config, preparation
from evomerge.journal import rows
from evomerge.problem import gene_of, level_of

#: What each preset has on the zoo's three experts: variables, candidates of its first batch, evaluations.
PUBLISHED = {
    "sakana_ps": (6, 9, 1000),
    "mergekit_evolve": (3, 7, 100),
    "mergenetic_ga": (6, 25, 175),
    "merge3": (6, 25, 175),
    "recycle": (2, 6, 600),
    "m2n2": (12, 1, 750),
    "lfs": (112, 18, 500),
    "model_glue": (3, 3, 500),
}
#: How many candidates, with which batches: at least two and a part of one, or until the search ends by itself.
SMALL = {
    "sakana_ps": (11, ["optimizer.population=4"]),
    "mergekit_evolve": (11, ["subset.n=8", "optimizer.population=4"]),
    "mergenetic_ga": (12, ["subset.n=8", "optimizer.population=5"]),
    "merge3": (12, ["subset.n=8", "optimizer.population=5"]),
    "recycle": (11, ["parents.base=null", "optimizer.population=4"]),
    "m2n2": (12, ["parents.base=null", "optimizer.archive=4"]),
    "lfs": (12, ["subset.n=8", "optimizer.population=5"]),
    "model_glue": (3 + 9 + 9, ["parents.base=null"]),
}


@pytest.fixture(scope="module")
def few_items(tmp_path_factory) -> Path:
    """The embedded zoo's tasks with 16 validation and 4 test items each."""
    folder: Path = tmp_path_factory.mktemp("zoo") / "tasks"
    shutil.copytree(config.ZOO / "pico" / "tasks", folder)
    for path in folder.glob("data/*.jsonl"):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[: 4 if path.stem.endswith("_test") else 16]))
    return folder


@pytest.fixture(scope="module")
def search(few_items) -> Callable[..., api.Run]:
    """search(preset, folder): the preset's small run, or what is left of it."""

    def searched(name: str, folder: Path, **watching: Callable[..., None]) -> api.Run:
        evaluations, smaller = SMALL[name]
        control = config.settings([f"experiment={name}"]).control
        tasks = ["task.names=[pico_add,pico_rev]", f"task.include_path={few_items}"]
        brief = [f"control.{'points' if 'points' in control else 'batch'}=2", "finalists=1", "threads=1", "device=cpu"]
        settings = [f"experiment={name}", *smaller, *tasks, *brief, f"budget.evaluations={evaluations}"]
        return api.search(*settings, run=folder, **watching)

    return searched


@pytest.fixture(scope="module")
def finished(search, tmp_path_factory) -> Callable[[str], Path]:
    """finished(preset): the folder of its small run, made once; all lie side by side."""
    root = tmp_path_factory.mktemp("runs")

    def folder_of(name: str) -> Path:
        return (root / name) if (root / name).exists() else search(name, root / name).folder

    return folder_of


def searched_rows(folder: Path) -> list[dict]:
    return [r for r in rows(folder) if r["row"] == "evaluation" and r["phase"] == "search"]


def test_all_presets_are_tried():
    assert set(config.choices("experiment")) == set(PUBLISHED) == set(SMALL)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_is_ready_on_the_embedded_zoo_with_its_published_sizes(name, tmp_path):
    plan = preparation.prepare(config.settings([f"experiment={name}"]), tmp_path).plan
    optimizer = plan.make_optimizer(())
    assert (plan.space.size, optimizer.lag, plan.budget.evaluations) == PUBLISHED[name]


@pytest.mark.parametrize("name", SMALL)
def test_a_preset_searches_to_the_end(name, finished):
    report = api.report(finished(name))
    asked = {r["id"] for r in searched_rows(finished(name))}
    assert report.finished and report.winner and not report.failures
    assert asked == set(range(SMALL[name][0]))


@pytest.mark.parametrize(("name", "told"), [("m2n2", 6), ("lfs", 1)])
def test_a_preset_that_is_killed_and_run_again_has_the_same_journal(name, told, search, finished, tmp_path):
    class Killed(BaseException):
        pass

    left = iter(range(told))

    def die(step: str, /, **facts: object) -> None:
        if step == "told" and next(left, None) is None:
            raise Killed

    with pytest.raises(Killed):
        search(name, tmp_path / "killed", watch=die)
    assert 0 < len(searched_rows(tmp_path / "killed")) < len(searched_rows(finished(name)))
    search(name, tmp_path / "killed")
    assert sorted(map(repr, rows(tmp_path / "killed"))) == sorted(map(repr, rows(finished(name))))


@pytest.mark.parametrize("name", ["mergenetic_ga", "merge3"])
def test_genes_of_eleven_values_stay_on_their_grid(name, finished):
    genes = np.concatenate([r["genome"] for r in searched_rows(finished(name))])
    assert [gene_of(level_of(gene, 11), 11) for gene in genes] == genes.tolist()


def test_what_the_user_sets_wins_over_the_preset():
    cfg = config.settings(["experiment=sakana_ps", "space.method=ties", "budget.evaluations=7", "estimator=merit"])
    assert (cfg.space.method, cfg.budget.evaluations) == ("ties", 7)
    assert cfg.estimator._target_.endswith("Merit")
    assert cfg.space.per_parent == ["weight", "density"]
