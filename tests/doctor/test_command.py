"""`evomerge doctor` as a user types it: what is printed where, and the exit codes."""

from __future__ import annotations

import json

import pytest

from evomerge.cli import main
from evomerge.commands import doctor
from evomerge.doctor import steps


def test_a_healthy_search_exits_with_0_and_ends_in_a_verdict(command, tmp_path, capsys):
    assert main(["doctor", *command[1:], f"run={tmp_path / 'run'}", "--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok ") and lines[-1] == "all well"


def test_a_problem_exits_with_2_and_is_named(command, tmp_path, capsys):
    assert main(["doctor", *command[1:], "parents.models=[/nowhere]", "--quick"]) == 2
    told = capsys.readouterr().out
    assert [line for line in told.splitlines() if line.startswith("problem") and "/nowhere" in line]
    assert told.rstrip().endswith("see the lines with 'problem'")


def test_json_is_all_of_it_and_nothing_else(command, tmp_path, capsys):
    assert main(["doctor", *command[1:], f"run={tmp_path / 'run'}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda c: pytest.fail(f"{c} in JSON"))
    assert found["works"] and found["memory"]["placement"] == "device"
    assert found["seconds"]["total"]["low"] <= found["seconds"]["total"]["high"]
    assert {f["level"] for f in found["findings"]} <= {"ok", "note", "problem"}


def test_json_of_a_problem_is_json_too(command, capsys):
    assert main(["doctor", *command[1:], "parents.models=[/nowhere]", "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert not found["works"] and found["memory"] is None


def test_a_profile_without_parents_is_a_table_of_known_models(capsys):
    assert main(["doctor", "--profile", "24gb"]) == 0
    told = capsys.readouterr().out
    assert "7B on 24gb: fits with backend.batch_size=4" in told and "70B on 24gb: does not fit" in told


def test_a_profile_of_several_devices_deals_them_out(capsys):
    assert main(["doctor", "--profile", "8x80gb"]) == 0
    told = capsys.readouterr().out
    assert "7B on 8x80gb: 8 workers of a device each, " in told and "workers on the machine" in told
    assert "70B on 8x80gb: 2 workers of 4 devices (backend.device_map=balanced) each, " in told


def test_a_profile_with_parents_is_theirs(command, tmp_path, capsys):
    assert main(["doctor", *command[1:], f"run={tmp_path / 'run'}", "--profile", "24gb"]) == 0
    told = capsys.readouterr().out
    assert "24.0 GB" in told and "70B" not in told


def test_a_selftest_prints_json_and_exits_with_1_if_a_step_fails(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(steps.COPIED, "cpu", 2**20)
    arguments = ["doctor", "--selftest", *command[1:], f"run={tmp_path / 'run'}"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["passed"]
    monkeypatch.setattr(steps, "masks", lambda device: 1 / 0)
    assert main(arguments) == 1
    told = capsys.readouterr()
    assert not json.loads(told.out)["passed"] and "masks: FAILED: ZeroDivisionError" in told.err


def test_help_has_an_example_that_can_be_typed(capsys):
    assert doctor.main(["--help"]) == 0
    assert "evomerge doctor --profile 24gb" in capsys.readouterr().out


def test_a_word_that_is_no_setting_is_refused(capsys):
    assert main(["doctor", "--fast"]) == 2
    assert "--fast" in capsys.readouterr().err
