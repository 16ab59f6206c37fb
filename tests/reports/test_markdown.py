"""report.md: the verdict first, tables that Markdown reads as tables."""

from __future__ import annotations

import pytest

from evomerge.reports.markdown import markdown
from evomerge.reports.read import read
from tests.reports.made_runs import IDENTITY, cut_after, listed, run_as
from tests.sphere import plan, recipe


def tables(text):
    """Blocks of lines that start with a bar."""
    blocks = [[line for line in block.splitlines() if line.startswith("|")] for block in text.split("\n\n")]
    return [block for block in blocks if block]


def cells(line):
    return line.replace("\\|", "").count("|") - 1


def test_the_verdict_is_the_heading(whole):
    report = read(whole)
    assert markdown(report).splitlines()[0] == f"# {report.verdict}"


def test_every_table_has_a_rule_and_rows_of_one_length(whole):
    found = tables(markdown(read(whole)))
    assert len(found) == 3
    for table in found:
        assert set(table[1]) <= set("|-: ")
        assert len({cells(line) for line in table}) == 1


def test_warnings_and_the_next_step_are_told(whole):
    report = read(whole)
    text = markdown(report)
    assert all(f"- {warning}" in text for warning in report.warnings)
    assert text.endswith(report.follow_on + "\n")


def test_the_winners_curse_is_told_in_a_sentence(tmp_path):
    lucky = listed([1.25], rule=lambda w, t, x, n: [x + 0.25 * (w.phase == "search")] * n)
    run_as(tmp_path, IDENTITY, **lucky)
    assert (
        "Mean score of candidate 0: search 1.500, selection 1.250, test 1.250: optimism +0.250 "
        "(references, which nothing chose: +0.000)." in markdown(read(tmp_path))
    )


def test_names_with_bars_and_stars_do_not_break_the_tables(tmp_path):
    named = plan().references | {"parent:x|y*": recipe((0.2, 0.0, 0.0, 0.0))}
    run_as(tmp_path, IDENTITY, references=named, **listed([1.25]))
    text = markdown(read(tmp_path))
    assert "parent x\\|y\\*" in text
    assert all(len({cells(line) for line in table}) == 1 for table in tables(text))


@pytest.mark.parametrize("k", [0, 1, 3, 9, 14, 31, 40, 45, 50])
def test_an_unfinished_run_has_a_text_too(tmp_path, whole, k):
    assert markdown(read(cut_after(whole, k, tmp_path / "cut"))).startswith("# No verdict yet")
