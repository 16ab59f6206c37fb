"""Reading run folders: finished, cut anywhere, extended, failed, with aliases and pairs."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from evomerge.budget import Budget
from evomerge.errors import JournalError, SearchFailed
from evomerge.journal import rows
from evomerge.reports.grids import cost_grid
from evomerge.reports.read import as_json, read
from evomerge.reports.verdict import verdict, warnings
from evomerge.types import Metric
from tests.reports.made_runs import IDENTITY, Ruled, cut_after, listed, run_as
from tests.sphere import SphereEvaluator, SphereSpace, plan, recipe, run


def lines(folder):
    return len((folder / "journal.jsonl").read_bytes().splitlines())


def says(report, words):
    return any(words in warning for warning in report.warnings)


def coin(work, task, first, n):
    """Right or wrong by a hash: no recipe is better than another."""
    seed = int(hashlib.sha256(f"{work.recipe.digest}{task}{work.phase}".encode()).hexdigest()[:8], 16)
    return np.random.default_rng(seed).random(n) < 0.5


def lucky(work, task, first, n):
    """The first weight, and a quarter more for candidates while they are searched."""
    return np.full(n, first + 0.25 * (work.phase == "search"))


# ---------------------------------------------------------------- a finished run


def test_a_finished_run_names_its_finalists_in_words(whole):
    labels = [s.label for s in read(whole).standings]
    assert labels[:4] == ["base", "parent a", "plain average", "control 1 (best of 5)"]
    assert labels[-1] == "optimizer mean"
    assert all(label.startswith("candidate ") for label in labels[4:-1])


def test_scores_are_the_means_of_the_journalled_items(whole):
    report = read(whole)
    for row in rows(whole):
        if row["row"] == "evaluation" and row["phase"] in ("selection", "test"):
            found = report.standing(row["id"]).scores[row["phase"]]
            assert {t: e.value for t, e in found.items()} == {t: np.mean(v) for t, v in row["scores"].items()}


def test_the_winner_is_compared_with_references_and_control_on_both_splits(whole):
    pairs = {(d.split, d.rival) for d in read(whole).differences}
    rivals = ("base", "parent:a", "average", "control:1")
    assert pairs == {(split, rival) for split in ("test", "selection") for rival in rivals}


def test_costs_count_rows_items_and_the_seconds_of_events(whole):
    report = read(whole)
    assert [(c.phase, c.evaluations, c.items) for c in report.costs] == [
        ("references", 3, 36),
        ("search", 24, 288),
        ("control", 5, 60),
        ("selection", 8, 96),
        ("test", 8, 96),
    ]
    assert all(0 < c.seconds < 10 for c in report.costs)


def test_a_poor_header_leaves_tasks_and_parents_to_the_rows(whole):
    report = read(whole)
    assert [(t.name, t.metric) for t in report.tasks] == [(t, Metric("score", True)) for t in ("alpha", "beta")]
    assert report.tasks[0].counts == {"search": 6, "selection": 6, "test": 6}
    assert (list(report.parents), report.base is None) == (["a"], False)


def test_a_finished_run_says_so_and_how_to_extend_it(whole):
    report = read(whole)
    assert (report.finished, report.state, report.stop_reason) == (
        True,
        "finished, 24 evaluations in search",
        "evaluations",
    )
    assert "larger budget" in report.follow_on


def test_a_report_read_twice_says_the_same(whole):
    assert read(whole) == read(whole)


def test_the_json_is_plain_and_has_null_for_what_json_cannot_say(whole):
    report = read(whole)
    odd = replace(report, optimism=replace(report.optimism, drift=math.nan))
    plain = json.loads(json.dumps(as_json(odd), allow_nan=False))
    assert plain["optimism"]["drift"] is None
    assert plain["winner"] == report.winner
    assert len(plain["standings"]) == len(report.standings)


def test_a_folder_without_a_journal_is_refused(tmp_path):
    with pytest.raises(JournalError, match="is not a run"):
        read(tmp_path)


# ---------------------------------------------------------------- verdicts by hand


def test_a_better_candidate_beats_its_best_rival_by_the_known_difference(tmp_path):
    run_as(tmp_path, IDENTITY, **listed([0.25, 1.25], control=[0.75]))
    assert read(tmp_path).verdict == "Candidate 1 beats the parent a by 0.250 [0.250, 0.250] on 12 test items."


def test_the_best_of_several_parents_is_called_so(tmp_path):
    two = plan().references | {"parent:b": recipe((0.5, 1.0, 0.0, 0.0))}
    run_as(tmp_path, IDENTITY, references=two, **listed([1.25]))
    assert read(tmp_path).verdict.startswith("Candidate 0 beats the best parent (a) by 0.250")


def test_a_winner_that_is_a_reference_means_the_search_found_nothing_better(tmp_path):
    run_as(tmp_path, IDENTITY, **listed([0.25, 0.75]))
    report = read(tmp_path)
    assert report.winner == "parent:a"
    assert report.verdict == (
        "The search found nothing better than the parent a: the parent a minus candidate 1 is "
        "+0.250 [0.250, 0.250] on 12 test items."
    )


def test_coin_tossing_recipes_are_no_evidence(tmp_path):
    run_as(tmp_path, IDENTITY, **listed([0.1, 0.2, 0.3], control=[0.4], rule=coin))
    report = read(tmp_path)
    assert "beats" not in report.verdict or report.verdict.startswith("No evidence")
    assert says(report, "includes zero")


def test_the_winners_curse_is_measured_in_the_unit_of_the_tasks(tmp_path):
    run_as(tmp_path, IDENTITY, **listed([0.25, 1.25], rule=lucky))
    o = read(tmp_path).optimism
    assert (o.search, o.selection, o.test, o.optimism, o.drift) == (1.5, 1.25, 1.25, 0.25, 0.0)


def test_a_control_as_good_as_the_winner_is_a_warning(tmp_path):
    better = {"evaluator": Ruled(lambda w, t, x, n: np.full(n, x + (w.id == "search:0" and w.phase == "selection")))}
    run_as(tmp_path, IDENTITY, **(listed([1.25], control=[1.5]) | better))
    report = read(tmp_path)
    assert report.winner == "search:0"
    assert report.verdict.startswith("Candidate 0 is worse than control 0 (best of 1): -0.250")
    assert says(report, "Control 0 (best of 1) did as well as the winner")


def test_no_warning_of_the_control_where_the_winner_beats_it(whole):
    assert not says(read(whole), "did as well")


def test_a_winner_that_fails_in_the_test_has_no_verdict(tmp_path):
    run(tmp_path, evaluator=SphereEvaluator(lambda w: "nan" if w.phase == "test" and w.id == "mean" else None))
    report = read(tmp_path)
    assert report.verdict == "No verdict: the optimizer mean was selected, but could not be scored again (nan)."
    assert {d.split for d in report.differences} == {"selection"}


# ---------------------------------------------------------------- headers


def test_a_rich_header_tells_metrics_parents_and_settings(tmp_path):
    identity = json.loads(json.dumps(IDENTITY))
    identity["tasks"][0]["metric"] = {"name": "ppl", "higher_is_better": False, "kind": "mean"}
    metrics = {"alpha": Metric("ppl", False), "beta": Metric("acc", True)}
    run_as(tmp_path, identity, metrics=metrics, **listed([0.25]))
    report = read(tmp_path)
    assert report.tasks[0].metric == Metric("ppl", False)
    assert {t: e.value for t, e in report.standing("parent:a").scores["test"].items()} == {"alpha": -1.0, "beta": 1.0}
    assert (report.base, report.parents) == ("b0", {"a": "a1"})
    assert report.settings == {"optimizer": "CmaEs", "objective": "WeightedMean", "seed": "1"}


def test_equal_parents_are_a_warning(tmp_path):
    same = IDENTITY | {"parents": {"base": "b0", "models": {"a": "a1", "c": "a1"}}}
    run_as(tmp_path, same, **listed([0.25]))
    assert says(read(tmp_path), "These are the same model: a, c.")


def test_notes_of_the_tasks_are_warnings(tmp_path, whole):
    folder = cut_after(whole, lines(whole), tmp_path / "noted")
    text = (folder / "journal.jsonl").read_text().splitlines()
    text[0] = json.dumps(json.loads(text[0]) | {"notes": ["alpha: one split only"]})
    (folder / "journal.jsonl").write_text("\n".join(text) + "\n")
    assert says(read(folder), "alpha: one split only")


def test_few_test_items_are_a_warning_with_what_they_can_show(tmp_path):
    halves = listed([1.25], rule=lambda w, t, x, n: (np.arange(n) % 2) + x)
    run_as(tmp_path, IDENTITY, **halves)
    least = 2 * math.sqrt(2) * math.sqrt(0.3 / 6)  # three items score 0 more, three 1 more
    assert says(read(tmp_path), "alpha has only 6 test items")
    assert says(read(tmp_path), f"differences below about {least:.3f} are within its noise")


# ---------------------------------------------------------------- under way


def test_a_run_cut_after_any_row_can_be_read(tmp_path, whole):
    states = []
    for k in range(lines(whole) + 1):
        report = read(cut_after(whole, k, tmp_path / str(k)))
        json.dumps(as_json(report), allow_nan=False)
        assert report.finished == (k == lines(whole))
        states.append(report.state)
    assert states[:3] == ["nothing evaluated yet"] * 2 + ["scoring the references, 1 evaluation so far"]
    assert "searching, 24 evaluations so far" in states
    assert "search done, 24 evaluations so far" in states
    assert states[-2] == "scoring the finalists on test items, 8 evaluations so far"


def test_a_search_under_way_shows_references_and_its_best_so_far(tmp_path, whole):
    folder = cut_after(whole, 4 + 9 + 5, tmp_path / "cut")  # header, references, a batch and its commit, five more
    report = read(folder)
    told = next(r for r in rows(folder) if r["row"] == "commit")["results"]
    best = sorted(told, key=lambda r: -r["fitness"][0])[:3]
    assert [s.id for s in report.standings] == ["base", "parent:a", "average", *(f"search:{r['id']}" for r in best)]
    assert report.standings[3].found.value == best[0]["fitness"][0]
    assert (report.winner, report.split, report.state) == (None, "search", "searching, 13 evaluations so far")
    assert report.verdict == "No verdict yet: searching, 13 evaluations so far."
    assert "same command again" in report.follow_on


def test_before_the_test_the_selection_is_shown(tmp_path, whole):
    k = next(i for i, r in enumerate(rows(whole)) if r["row"] == "stop" and r["phase"] == "selection")
    report = read(cut_after(whole, k + 1, tmp_path / "selected"))
    assert (report.split, report.winner, report.finished) == ("selection", "mean", False)
    assert {d.split for d in report.differences} == {"selection"}
    assert report.verdict == "No verdict yet: the optimizer mean was selected, the test is not complete."


def test_a_verdict_waits_for_the_whole_test(tmp_path):
    run_as(tmp_path / "whole", IDENTITY, **listed([1.25, 0.25]))
    kept = rows(tmp_path / "whole")
    tests = [i for i, r in enumerate(kept) if r["row"] == "evaluation" and r["phase"] == "test"]
    winner = next(i for i in tests if kept[i]["id"] == "search:0")
    report = read(cut_after(tmp_path / "whole", winner + 1, tmp_path / "cut"))
    assert winner < tests[-1] and report.difference("parent:a") is not None
    assert report.verdict == "No verdict yet: candidate 0 was selected, the test is not complete."


def test_a_cut_last_batch_is_a_warning_until_a_larger_budget_continues_it(tmp_path):
    run(tmp_path, budget=Budget(evaluations=13))
    assert read(tmp_path).cut == (5, 8)
    assert says(read(tmp_path), "cut at 5 of 8")
    run(tmp_path, budget=Budget(evaluations=16))
    assert read(tmp_path).cut is None


# ---------------------------------------------------------------- extended


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extended")
    run(folder, budget=Budget(evaluations=8))
    run(folder, budget=Budget(evaluations=24))
    return folder


def test_an_extended_run_reports_its_newest_finalists_only(extended, whole):
    assert [s.scores for s in read(extended).standings] == [s.scores for s in read(whole).standings]
    assert (read(extended).verdict, read(extended).winner) == (read(whole).verdict, read(whole).winner)


def test_opening_the_test_twice_is_a_warning(extended, whole):
    assert says(read(extended), "opened 2 times")
    assert not says(read(whole), "opened")


def test_an_extension_under_way_says_which_scores_it_shows(tmp_path, extended):
    first_end = next(i for i, r in enumerate(rows(extended)) if r["row"] == "stop" and r["phase"] == "test")
    report = read(cut_after(extended, first_end + 4, tmp_path / "cut"))
    assert (
        report.state == "searching again (an extension; scores are those of the last selection), 11 evaluations so far"
    )
    assert (report.finished, report.split) == (False, "test")


def test_a_former_mean_of_the_optimizer_does_not_lend_its_test_to_the_new_one(tmp_path, extended):
    second = [i for i, r in enumerate(rows(extended)) if r["row"] == "stop" and r["phase"] == "selection"][1]
    report = read(cut_after(extended, second + 1, tmp_path / "cut"))
    assert "test" in report.standing("base").scores
    assert set(report.standing("mean").scores) == {"selection"}


def test_an_extension_that_changes_no_finalist_is_finished_too(tmp_path):
    def walk(firsts):
        return run_as(tmp_path, IDENTITY, budget=Budget(evaluations=len(firsts)), finalists=1, **one_by_one(firsts))

    def one_by_one(firsts):
        changes = listed(firsts)
        made = changes["make_optimizer"]

        def make(starts):
            optimizer = made(starts)
            optimizer.lag, asked = 1, iter(optimizer.ask(len(firsts)))
            optimizer.ask = lambda n: [c for c in [next(asked, None)] if c]
            return optimizer

        return changes | {"make_optimizer": make}

    walk([1.25])
    walk([1.25, 0.75])
    report = read(tmp_path)
    assert (report.finished, report.state) == (True, "finished, 2 evaluations in search")


# ---------------------------------------------------------------- failures, aliases, pairs


def test_failures_are_counted_by_code(tmp_path):
    codes = {3: "nan", 5: "nan", 6: "degenerate"}
    run(tmp_path, evaluator=SphereEvaluator(lambda w: codes.get(w.id) if w.phase == "search" else None))
    report = read(tmp_path)
    assert report.failures == {"nan": 2, "degenerate": 1}
    assert says(report, f"3 of {sum(c.evaluations for c in report.costs)} evaluations failed (nan: 2, degenerate: 1).")


def test_a_search_stopped_by_failures_says_so(tmp_path):
    with pytest.raises(SearchFailed):
        run(tmp_path, evaluator=SphereEvaluator(lambda w: "nan" if w.phase == "search" else None))
    report = read(tmp_path)
    assert (report.state, report.stop_reason) == ("stopped: 8 of 8 candidates failed in phase search", "failures")
    assert "events.jsonl" in report.follow_on
    assert [s.id for s in report.standings] == ["base", "parent:a", "average"]


def test_a_winner_scored_under_another_id_has_the_scores_of_that_one(tmp_path):
    run_as(tmp_path, IDENTITY, **listed([0.25, 1.25], control=[1.25]))
    report = read(tmp_path)
    row = next(r for r in rows(tmp_path) if r["row"] == "evaluation" and r["phase"] == "control")
    assert (row["alias_of"], row["scores"]) == ("search:1", {})
    assert (report.winner, report.aliases) == ("control:0", 1)
    assert (report.optimism.search, report.optimism.test) == (pytest.approx(1.25), 1.25)
    assert next(c for c in report.costs if c.phase == "control").items == 0


def test_repeated_recipes_cost_nothing(tmp_path):
    run(tmp_path, space=SphereSpace(digits=1), budget=Budget(evaluations=60))
    report = read(tmp_path)
    search = next(c for c in report.costs if c.phase == "search")
    aliases = [r for r in rows(tmp_path) if r["row"] == "evaluation" and r["phase"] == "search" and r["alias_of"]]
    assert (search.evaluations, search.items) == (60, 12 * (60 - len(aliases)))


def test_pairs_are_seen_in_the_rows_and_scored_as_a_ratio(tmp_path):
    def pairs(work, task, first, n):
        weights = np.arange(1.0, n + 1)
        return np.stack([(first - 2) * weights, weights], axis=1)

    metrics = {t: Metric("bits", True, "pairs") for t in ("alpha", "beta")}
    run_as(tmp_path, {"seed": 1}, metrics=metrics, **listed([1.25], rule=pairs))
    report = read(tmp_path)
    assert report.tasks[0].metric.kind == "pairs"
    assert report.standing("search:0").mean("test").value == pytest.approx(-0.75)
    assert report.verdict == "Candidate 0 beats the parent a by 0.250 [0.250, 0.250] on 12 test items."


def test_retries_and_deaths_are_counted_from_the_events(tmp_path, whole):
    assert (read(whole).retries, read(whole).deaths) == (0, 0)
    folder = cut_after(whole, lines(whole), tmp_path / "retried")
    kinds = ("retry", "died", "died", "attempt")
    (folder / "events.jsonl").write_text("".join(f'{{"event": "{k}", "phase": "search", "id": 2}}\n' for k in kinds))
    found = read(folder)
    assert (found.retries, found.deaths) == (1, 2)
    assert "1 retry with a smaller batch; 2 workers died or hung over a candidate" in cost_grid(found).note


def test_verdict_and_warnings_are_functions_of_the_report_alone(whole):
    report = read(whole)
    bare = replace(report, verdict="", warnings=())
    assert (verdict(bare), warnings(bare)) == (report.verdict, report.warnings)


def test_a_finalist_that_breaks_a_constraint_is_marked_and_does_not_win(tmp_path):
    from evomerge.constraints import read as read_constraints
    from evomerge.plan import Goals
    from evomerge.reports.grids import score_grids

    made = listed([0.25, 1.25])
    limits = read_constraints({"beta": {"max": 0.6}}, plan().metrics, plan().references)
    run_as(tmp_path, IDENTITY, goals=Goals(plan().goals.objective, (), limits), **made)
    report = read(tmp_path)
    broken = {s.id: s.broken > 0 for s in report.standings}
    assert broken["search:1"] and broken["parent:a"] and not broken["average"]
    assert report.winner == "average"
    (grid,) = score_grids(report)
    assert [row[0].endswith(" !") for row in grid.rows] == list(broken.values()) and "! breaks" in grid.note


def test_where_nothing_keeps_the_constraints_a_warning_says_so(tmp_path):
    from evomerge.constraints import read as read_constraints
    from evomerge.plan import Goals

    limits = read_constraints({"beta": {"min": 9.0}}, plan().metrics, plan().references)
    run_as(tmp_path, IDENTITY, goals=Goals(plan().goals.objective, (), limits), **listed([0.25]))
    assert "No finalist keeps all constraints" in read(tmp_path).warnings[0]
