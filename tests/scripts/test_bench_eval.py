"""scripts/bench_eval.py on the embedded zoo."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
KEYS = {
    "setting",
    "ours_seconds",
    "lmeval_seconds",
    "ours_tokens",
    "lmeval_tokens",
    "overhead_share",
    "largest_difference",
}


@pytest.fixture(scope="module")
def script() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield import_module("bench_eval")
    for name in [m for m in sys.modules if m == "bench_eval" or m.split(".")[0] == "benchmarks"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def rows(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    file = tmp_path_factory.mktemp("rows") / "rows.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)  # runs pip and git, 0.6 s a call
        patch.setattr(sys, "argv", ["bench_eval.py", "--items", "8", "--repeats", "1", "--json", str(file)])
        script.main()
    return {row["setting"]: row for row in json.loads(file.read_text())}


def test_each_task_is_asked_without_and_with_examples(rows: dict[str, dict[str, Any]]):
    assert list(rows) == [
        f"{task} {shots}" for task in ("pico_add", "pico_rev") for shots in ("0-shot", "5-shot", "5-shot, same for all")
    ]
    assert all(row.keys() >= KEYS and row["items"] == 8 for row in rows.values())


def test_the_parts_of_a_candidate_are_no_more_than_the_whole(rows: dict[str, dict[str, Any]]):
    for row in rows.values():
        assert 0 < row["ours_model_seconds"] + row["write_seconds"] < row["ours_seconds"]
        assert 0 < row["lmeval_model_seconds"] < row["lmeval_seconds"]
        outside = row["ours_seconds"] - row["ours_model_seconds"] - row["write_seconds"]
        assert row["overhead_share"] == pytest.approx(outside / row["ours_seconds"])


def test_five_shots_take_a_third_of_lm_evals_tokens(rows: dict[str, dict[str, Any]]):
    same = rows["pico_add 5-shot, same for all"]
    assert 3 * same["ours_tokens"] <= same["lmeval_tokens"]
    assert all(row["ours_tokens"] <= row["lmeval_tokens"] for row in rows.values())


def test_answers_are_those_of_lm_evals_loop(rows: dict[str, dict[str, Any]]):
    assert all(row["largest_difference"] < 1e-3 for row in rows.values())


def test_a_models_own_methods_are_put_back(script: ModuleType):
    asked = script.argparse.Namespace(
        model=script.ZOO / "base", batch_size=2, max_length=None, device="cpu", dtype="float32"
    )
    backend, _ = script.opened(asked)
    own = backend.lm.model.forward
    clock = script.Clock(backend)
    assert backend.lm.model.forward != own
    clock.stop()
    assert backend.lm.model.forward == own
