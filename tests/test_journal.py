"""The journal: what is found again, what stands in for what, and what is refused."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from evomerge.errors import JournalError
from evomerge.journal import PHASES, SCHEMA, Journal, differences, events, rows
from evomerge.rows import Commit
from evomerge.types import Evaluation, ItemScores, Result, Work
from tests.sphere import recipe

ITEMS = {"t": ("i1", "i2")}


@pytest.fixture
def journal(tmp_path):
    made = Journal(tmp_path)
    yield made
    made.close()


def work(ident=0, phase="search", x=0.5, items=ITEMS, **changes):
    return replace(Work(ident, phase, recipe((x,)), items, genome=(x,) if isinstance(ident, int) else None), **changes)


def evaluation(of, value=1.0, **changes):
    scores = tuple(ItemScores(t, ids, np.full(len(ids), value)) for t, ids in of.items.items())
    made = Evaluation(of.id, of.phase, of.recipe.digest, of.items, scores, of.genome, of.rung, batch_size=8)
    return replace(made, **changes)


def original(journal, work):
    return journal.original(work, work.items)


def told(*results):
    return Commit(tuple(results), tuple(() for _ in results), tuple(() for _ in results))


def reopened(journal):
    journal.close()
    return Journal(journal.folder)


def values(found):
    return [[s.values.tolist() for s in e.scores] for e in found]


# ---------------------------------------------------------------- evaluations


def test_what_was_added_is_found_again_now_and_after_reopening(journal):
    one, other = work(0, x=0.1), work(1, x=0.2)
    assert journal.missing([one, other]) == [one, other]
    journal.add(evaluation(one, 0.1 + 0.2))
    assert journal.missing([one, other]) == [other]
    again = reopened(journal)
    assert again.missing([one, other]) == [other]
    assert values(again.view([one])) == [[[0.1 + 0.2] * 2]]
    again.close()


def test_a_candidate_that_decodes_to_another_recipe_is_refused(journal):
    journal.add(evaluation(work(3, x=0.1)))
    with pytest.raises(JournalError, match=r"search 3 .* another recipe"):
        journal.missing([replace(work(3, x=0.1), recipe=recipe((0.2,)))])


@pytest.mark.parametrize("changes", [{"phase": "control"}, {"ident": 1}, {"rung": 1}])
def test_another_phase_id_or_rung_is_other_work(journal, changes):
    journal.add(evaluation(work()))
    assert journal.rungs(work(**changes)) == []


def test_a_finalist_of_the_same_name_but_another_recipe_is_other_work(journal):
    journal.add(evaluation(work("mean", "test", x=0.1)))
    assert journal.rungs(work("mean", "test", x=0.1))
    assert not journal.rungs(work("mean", "test", x=0.2))


@pytest.mark.parametrize("phase", ["search", "control"])
def test_a_candidate_whose_genome_differs_in_one_bit_is_refused(journal, phase):
    journal.add(evaluation(work(3, phase)))
    other = work(3, phase, genome=(float(np.nextafter(0.5, 1)),))
    with pytest.raises(JournalError, match=rf"replay of {phase} 3 in .* asked another genome than the journal holds"):
        journal.missing([other])


def test_a_candidate_whose_recipe_differs_is_refused_by_its_genome_and_not_paid_again(journal):
    journal.add(evaluation(work(3, x=0.5)))
    with pytest.raises(JournalError, match="asked another genome"):
        journal.missing([work(3, x=0.6)])


def test_views_are_in_the_order_of_the_works_and_not_of_the_file(journal):
    works = [work(i, x=i / 10) for i in range(4)]
    for one in (works[2], works[0], works[3], works[1]):
        journal.add(evaluation(one, one.id))
    assert values(journal.view(works)) == [[[i, i]] for i in range(4)]


# ---------------------------------------------------------------- rungs

CHUNKS = ({"t": ("i1",)}, {"t": ("i2",)}, {"u": ("j",)})
RACED = {"items": {"t": ("i1", "i2"), "u": ("j",)}, "chunks": CHUNKS, "rung": 6}


def rung_of(of, place, value=1.0, **changes):
    one = replace(of, items=of.rungs[place], rung=of.rung + place)
    return evaluation(one, value, **{"last": place == len(of.rungs) - 1, **changes})


def test_work_stays_missing_until_its_last_rung_with_what_it_has_answered(journal):
    raced = work(**RACED)
    for place in range(3):
        (left,) = journal.missing([raced])
        assert [s[0].items for s in left.answered] == [tuple(*c.values()) for c in CHUNKS[:place]]
        journal.add(rung_of(raced, place, place))
    assert journal.missing([raced]) == []
    assert [s.values.tolist() for s in journal.view([raced])[0].scores] == [[0.0, 1.0], [2.0]]


def test_a_candidate_that_was_stopped_is_asked_no_more(journal):
    raced = work(**RACED)
    journal.add(rung_of(raced, 0, last=True))
    assert journal.missing([raced]) == []
    assert journal.view([raced])[0].items == {"t": ("i1",)}


def test_rungs_of_another_draw_are_other_work(journal):
    journal.add(rung_of(work(**RACED), 0, last=True))
    assert journal.missing([work(**{**RACED, "rung": 9})])


def test_what_was_paid_leaves_aliases_out(journal):
    raced, twin = work(**RACED), work(1, **{**RACED, "rung": 0})
    journal.add(rung_of(raced, 0))
    journal.add(rung_of(raced, 1, last=True))
    journal.add(rung_of(twin, 0, scores=(), alias_of="search:0", last=True))
    assert (journal.paid(raced), journal.paid(twin)) == (2, 0)
    assert values(journal.view([twin])) == [[[1.0]]]


# ---------------------------------------------------------------- aliases


def test_an_alias_carries_the_scores_of_its_original_after_reopening_too(journal):
    original, twin = work(0), work(1)
    journal.add(evaluation(original, 7.0))
    journal.add(evaluation(twin, scores=(), alias_of="search:0"))
    assert values(journal.view([twin, original])) == [[[7.0, 7.0]]] * 2
    again = reopened(journal)
    assert values(again.view([twin])) == [[[7.0, 7.0]]]
    assert [r["scores"] for r in rows(again.folder)] == [{"t": [7.0, 7.0]}, {}]
    again.close()


def test_an_alias_of_a_failure_is_a_failure(journal):
    journal.add(evaluation(work(0), scores=(), error_code="merge"))
    journal.add(evaluation(work(1), scores=(), error_code="merge", alias_of="search:0"))
    assert [e.error_code for e in journal.view([work(1)])] == ["merge"]


@pytest.mark.parametrize("paid", PHASES)
@pytest.mark.parametrize("asked", PHASES)
def test_originals_are_of_the_same_or_an_earlier_phase(journal, paid, asked):
    journal.add(evaluation(work("x", paid)))
    found = original(journal, work("y", asked))
    assert (found is not None) == (PHASES.index(paid) <= PHASES.index(asked))


def test_the_earliest_phase_is_the_original_whatever_the_order_on_file(journal):
    journal.add(evaluation(work("x", "test"), 2.0))
    journal.add(evaluation(work("r", "references"), 1.0))
    assert original(journal, work("y", "test")).phase == "references"


def test_equal_items_in_another_order_are_equal_and_others_are_not(journal):
    journal.add(evaluation(work(0, items={"t": ("i1", "i2"), "u": ("j",)})))
    assert original(journal, work(1, items={"u": ("j",), "t": ("i2", "i1")})) is not None
    assert original(journal, work(1, items={"t": ("i1", "i2")})) is None
    assert original(journal, work(1, items={"t": ("i1", "i3"), "u": ("j",)})) is None


def test_another_recipe_is_no_original_and_neither_is_an_alias(journal):
    journal.add(evaluation(work(0, x=0.5), scores=(), alias_of="references:base"))
    assert original(journal, work(1, x=0.5)) is None
    journal.add(evaluation(work(2, x=0.6)))
    assert original(journal, work(1, x=0.5)) is None


# ---------------------------------------------------------------- commits and stops


def test_what_was_told_is_told_again_after_reopening(journal):
    commit = told(Result(0, (0.1 + 0.2,)), Result(1, (-0.0,), error_code="merge"))
    assert journal.committed("search", 0) is None
    journal.commit("search", 0, commit)
    again = reopened(journal)
    assert again.committed("search", 0) == commit == journal.committed("search", 0)
    assert str(again.committed("search", 0).results[1].fitness[0]) == "-0.0"
    assert again.committed("search", 1) is None
    assert again.committed("control", 0) is None
    again.close()


def test_the_newest_outcome_of_a_phase_is_not_repeated(journal):
    journal.stop("search", reason="evaluations", evaluations=8)
    journal.stop("search", reason="evaluations", evaluations=8)
    again = reopened(journal)
    again.stop("search", reason="evaluations", evaluations=8)
    again.stop("search", reason="evaluations", evaluations=16)
    again.stop("control", reason="evaluations", evaluations=10)
    again.stop("search", reason="evaluations", evaluations=16)
    again.stop("search", reason="evaluations", evaluations=8)
    assert [r["evaluations"] for r in rows(again.folder)] == [8, 16, 10, 8]
    again.close()


def test_nothing_that_is_not_a_number_gets_into_the_journal(journal):
    journal.add(evaluation(work(0, x=0.1)))
    with pytest.raises(ValueError):
        journal.add(evaluation(work(1, x=0.2), float("nan")))
    with pytest.raises(ValueError):
        journal.commit("search", 0, told(Result(0, (float("inf"),))))
    assert not journal.rungs(work(1, x=0.2))
    assert journal.committed("search", 0) is None
    assert len(rows(journal.folder)) == 1


# ---------------------------------------------------------------- identity


def test_the_header_is_written_once(journal):
    journal.begin({"seed": 1}, {"cma": "4.5.0"}, ["a note"])
    again = reopened(journal)
    again.begin({"seed": 1}, {"cma": "4.5.0"})
    header = {
        "row": "header",
        "schema": SCHEMA,
        "identity": {"seed": 1},
        "versions": {"cma": "4.5.0"},
        "notes": ["a note"],
    }
    assert rows(again.folder) == [header]
    assert again.header == header
    again.close()


def test_an_identity_of_tuples_is_the_one_of_lists_that_json_gives_back(journal):
    journal.begin({"items": {"t": ("a", "b")}}, {})
    again = reopened(journal)
    again.begin({"items": {"t": ("a", "b")}}, {})
    again.close()


def test_another_identity_is_refused_with_every_difference_and_what_to_do(journal):
    journal.begin({"seed": 1, "space": {"method": "ties", "groups": 2}, "same": 3}, {})
    again = reopened(journal)
    with pytest.raises(JournalError) as refused:
        again.begin({"seed": 2, "space": {"method": "ties", "groups": 4}, "same": 3}, {})
    text = str(refused.value)
    assert "seed was 1, now 2; space.groups was 2, now 4" in text
    assert "method" not in text and "same" not in text
    assert "new folder (run=DIR)" in text and "--force" in text
    again.close()


def test_other_library_versions_are_noted_and_not_refused(journal):
    journal.begin({"seed": 1}, {"cma": "4.5.0", "numpy": "2.4"})
    again = reopened(journal)
    again.begin({"seed": 1}, {"cma": "4.6.0", "numpy": "2.4"})
    again.close()
    assert [e["text"] for e in events(again.folder) if e["event"] == "version"] == ["cma was '4.5.0', now '4.6.0'"]
    assert len(rows(again.folder)) == 1


def test_a_journal_of_another_schema_is_refused(tmp_path):
    (tmp_path / "journal.jsonl").write_text('{"row":"header","schema":0,"identity":{},"versions":{},"notes":[]}\n')
    for _ in range(2):  # refused again, not locked out by the first try
        with pytest.raises(JournalError, match=f"has journal schema 0, this evomerge reads {SCHEMA}"):
            Journal(tmp_path)


def test_a_journal_of_another_schema_is_not_reported_either(tmp_path, capsys):
    from evomerge.cli import main

    row = '{"row":"evaluation","phase":"references","id":"base"}\n'
    (tmp_path / "journal.jsonl").write_text(
        '{"row":"header","schema":1,"identity":{},"versions":{},"notes":[]}\n' + row
    )
    assert main(["report", str(tmp_path)]) == 3
    assert f"has journal schema 1, this evomerge reads {SCHEMA}" in capsys.readouterr().err


def test_a_row_of_unknown_kind_is_refused(tmp_path):
    (tmp_path / "journal.jsonl").write_text('{"row":"confession"}\n')
    with pytest.raises(JournalError, match="row of unknown kind 'confession'"):
        Journal(tmp_path)


def test_differences_are_leaves_with_their_paths():
    old = {"a": 1, "b": {"c": [1, 2], "d": {"e": "x"}}, "gone": True}
    new = {"a": 1, "b": {"c": [1, 3], "d": {"e": "y"}}, "new": 0.5}
    assert differences(old, new) == [
        "b.c was [1, 2], now [1, 3]",
        "b.d.e was 'x', now 'y'",
        "gone was True, now None",
        "new was None, now 0.5",
    ]
    assert differences({"a": {"b": 1}}, {"a": 2}) == ["a was {'b': 1}, now 2"]
    assert differences(old, json.loads(json.dumps(old))) == []


# ---------------------------------------------------------------- files


def test_events_are_beside_the_journal_and_change_nothing_in_it(journal):
    journal.begin({}, {})
    before = (journal.folder / "journal.jsonl").read_bytes()
    journal.event("attempt", phase="search", id=3)
    journal.event("evaluated", elapsed=1.5)
    assert (journal.folder / "journal.jsonl").read_bytes() == before
    attempt, evaluated = events(journal.folder)
    assert (attempt["event"], attempt["phase"], attempt["id"], attempt["pid"]) == ("attempt", "search", 3, os.getpid())
    assert evaluated["time"] >= attempt["time"] > 1.7e9


def test_seconds_are_the_most_that_earlier_processes_wrote_down(journal):
    assert journal.seconds() == 0.0
    for elapsed in (1.5, 7.25, 0.0):
        journal.event("evaluated", phase="search", elapsed=elapsed)
    journal.event("evaluated", phase="control", elapsed=99.0)
    again = reopened(journal)
    assert again.seconds() == 7.25, "of the search"
    again.stop("search", reason="seconds", seconds=9.0)
    assert again.seconds() == 9.0, "a limit that ended it was reached"
    again.close()


def test_a_second_writer_is_refused_and_reading_is_not(journal):
    journal.add(evaluation(work()))
    with pytest.raises(JournalError, match=f"is being written by .*{os.getpid()}"):
        Journal(journal.folder)
    assert len(rows(journal.folder)) == 1


def test_a_torn_last_row_is_paid_again(journal):
    works = [work(i, x=i / 10) for i in range(2)]
    for one in works:
        journal.add(evaluation(one))
    journal.close()
    path = journal.folder / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    assert len(rows(journal.folder)) == 1
    again = Journal(journal.folder)
    assert again.missing(works) == works[1:]
    again.close()


def test_a_folder_that_is_no_run_is_refused_for_reading(tmp_path):
    with pytest.raises(JournalError, match=r"is not a run: it has no journal.jsonl. Give the folder a search wrote"):
        rows(tmp_path)
    assert events(tmp_path) == []


def test_every_row_is_watched_from_before_it_is_written_until_it_is_on_disk(tmp_path):
    steps = []
    journal = Journal(tmp_path, watch=lambda step, /, **facts: steps.append(step))
    journal.begin({}, {})
    journal.add(evaluation(work()))
    journal.event("attempt")
    journal.close()
    assert steps == ["write", "written", "synced"] * 2
