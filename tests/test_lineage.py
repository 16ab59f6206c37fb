"""Warm starts from files and runs: what the space can say is taken, what it cannot is told."""

from __future__ import annotations

import shutil

import pytest

from evomerge.errors import ConfigError, JournalError
from evomerge.journal import Journal
from evomerge.lineage import warm_starts
from evomerge.picks import pick
from evomerge.recipe_io import to_yaml
from evomerge.warm import Listed
from tests.sphere import SphereSpace, plan, recipe, run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    run(folder)
    return folder


def test_a_run_gives_its_finalists_but_its_references_the_winner_first(finished, tmp_path):
    found, notes = warm_starts([str(finished)], tmp_path, False, SphereSpace())
    digests = [r.digest for r in found]
    assert digests[0] == pick(finished)[0].digest
    assert len(digests) == len(set(digests)) >= 4
    assert recipe((1.0, 0.0, 0.0, 0.0)).digest not in digests
    assert notes == []


def test_the_same_folders_give_the_same_recipes_each_once(finished, tmp_path):
    once, _ = warm_starts([str(finished)], tmp_path, False, SphereSpace())
    twice, _ = warm_starts([str(finished), str(finished)], tmp_path, False, SphereSpace())
    assert once == twice


def test_what_the_space_cannot_say_is_left_out_and_told(finished, tmp_path):
    class One(SphereSpace):
        def encode(self, recipe):
            return super().encode(recipe) if recipe.digest == pick(finished)[0].digest else None

    found, (note,) = warm_starts([str(finished)], tmp_path, False, One())
    assert [r.digest for r in found] == [pick(finished)[0].digest]
    assert "recipes lie outside this space" in note


def test_a_start_that_the_space_cannot_say_at_all_is_refused(finished, tmp_path):
    class Mute(SphereSpace):
        def encode(self, recipe):
            return None

    with pytest.raises(ConfigError, match="this space cannot express any of its"):
        warm_starts([str(finished)], tmp_path, False, Mute())


def test_what_is_not_there_or_has_no_winner_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"which is not there\. Give recipe files or folders of finished runs"):
        warm_starts([str(tmp_path / "nowhere")], tmp_path, False, SphereSpace())
    journal = Journal(tmp_path / "begun")
    journal.begin({}, {})
    journal.close()
    with pytest.raises(JournalError, match=r"a run without a winner yet\. Finish it: evomerge resume"):
        warm_starts([str(tmp_path / "begun")], tmp_path, False, SphereSpace())


def test_a_file_that_is_no_recipe_is_refused(tmp_path):
    (tmp_path / "some.yaml").write_text("nothing: here\n")
    with pytest.raises(Exception, match="is no recipe"):
        warm_starts([str(tmp_path / "some.yaml")], tmp_path, False, SphereSpace())


def test_a_recipe_whose_parents_are_gone_is_told(tmp_path):
    (tmp_path / "some.yaml").write_text(to_yaml(recipe((0.1,)), {"parent": "/no/such/model"}))
    with pytest.raises(Exception, match="/no/such/model"):
        warm_starts([str(tmp_path / "some.yaml")], tmp_path, False, SphereSpace())


@pytest.mark.parametrize("given", ["outputs/first", None, [3], {"a": 1}])
def test_other_than_a_list_of_paths_is_refused(given, tmp_path):
    with pytest.raises(ConfigError, match=r"warm_start is .*; wanted a list of recipe files and run folders"):
        warm_starts(given, tmp_path, False, SphereSpace())


def test_a_run_that_has_begun_keeps_what_it_began_from_whatever_has_become_of_it(finished, tmp_path):
    source, folder = shutil.copytree(finished, tmp_path / "source"), tmp_path / "run"
    found, _ = warm_starts([str(source)], folder, False, SphereSpace())
    run(folder, warm=found)
    shutil.rmtree(source)
    assert warm_starts([str(source)], folder, False, SphereSpace()) == (found, [])


def test_a_run_that_found_nothing_of_its_own_is_no_start(tmp_path):
    made = plan()
    only = {"make_optimizer": lambda starts: Listed([made.space.encode(made.references["base"])])}
    run(tmp_path / "run", make_control=None, **only)
    with pytest.raises(ConfigError, match="found nothing beside its references"):
        warm_starts([str(tmp_path / "run")], tmp_path, False, SphereSpace())
