"""The methods against values that mergekit computed; where they are from says `meta` in tests/golden/methods.json."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from evomerge.methods import METHODS
from evomerge.methods.masks import Region, entire
from evomerge.methods.sparsify import trim

CASES = json.loads((Path(__file__).parents[1] / "golden" / "methods.json").read_text())["cases"]
COUNTS = {
    "linear": 4,
    "slerp": 6,
    "task_arithmetic": 3,
    "ties": 9,
    "dare_linear": 2,
    "dare_ties": 2,
    "passthrough": 2,
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
by_id = {"ids": lambda case: case["id"]}


@dataclass(frozen=True)
class Injected:
    """A Window over the whole tensor whose uniforms keep exactly what the masks (P, *shape) say, at any density."""

    shape: tuple[int, ...]
    masks: torch.Tensor | None = None

    def index(self) -> torch.Tensor:
        return Region(self.shape, entire(self.shape)).index()

    def uniforms(self) -> torch.Tensor:
        return torch.where(self.masks == 1, 0.0, 1 - 2**-24)


def knobs_of(case: dict[str, Any]) -> dict[str, Any]:
    """mergekit's parameters under our names, its defaults written out."""
    params = dict(case["params"])
    knobs = {"scale" if name == "lambda" else name: value for name, value in params.items()}
    if case["name"] in ("ties", "dare_linear", "dare_ties"):
        knobs["rescale"] = "l1" if params.get("rescale", case["name"] != "ties") else "none"
    if case["name"] == "passthrough" and knobs:
        (knobs["scale"],) = params["scale"]
    return {name: tuple(value) if isinstance(value, list) else value for name, value in knobs.items()}


def inputs_of(case: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor | None, Injected]:
    """The method's values, the base they are added to (deltas only) and the window. slerp gets its base first."""
    method = METHODS[case["name"]]
    tensors = {name: torch.tensor(x).to(DTYPES[case["dtype"]]).float() for name, x in case["inputs"].items()}
    base = tensors[case["base"]] if case["base"] else None
    parents = [tensors[name] for name in case["order"] if name != case["base"]]
    masks = torch.tensor([case["masks"][name] for name in case["order"][1:]]) if "masks" in case else None
    window = Injected(tuple(parents[0].shape), masks)
    if method.needs_base:
        return torch.stack(parents) - base, base, window
    return torch.stack(([] if base is None else [base]) + parents), None, window


def merged(case: dict[str, Any]) -> torch.Tensor:
    method, knobs = METHODS[case["name"]], knobs_of(case)
    values, base, window = inputs_of(case)
    stats = method.prepare(values, window=window, **knobs) if method.prepare else None
    result = method.fn(values, window=window, stats=stats, **knobs)
    assert result.dtype == torch.float32
    return (result if base is None else base + result).to(DTYPES[case["out_dtype"]]).float()


def expected(case: dict[str, Any]) -> torch.Tensor:
    text = json.dumps(case["expected"]).replace('"inf"', "Infinity").replace('"-inf"', "-Infinity")
    return torch.tensor(json.loads(text))


def test_no_case_is_missing():
    assert Counter(case["name"] for case in CASES) == COUNTS
    assert len({case["id"] for case in CASES}) == len(CASES) == 28
    assert [case["id"] for case in CASES if not case.get("exact", True)] == ["ties/magnitude_ties"]


@pytest.mark.parametrize("case", [c for c in CASES if c.get("exact", True)], **by_id)
def test_agrees_with_mergekit(case):
    torch.testing.assert_close(merged(case), expected(case), atol=case["atol"], rtol=0)


def test_equal_magnitudes_keep_as_many_as_mergekit_and_the_first_ones():
    (case,) = (c for c in CASES if c["id"] == "ties/magnitude_ties")
    values, _, window = inputs_of(case)
    stats = METHODS["ties"].prepare(values, window=window, **knobs_of(case))
    assert [x.tolist() for x in trim(values, stats.cuts, window)] == [[[1, 1, 0, 0]], [[2, -2, 0, 0]]]
    assert merged(case).tolist() == [[1.5, -2.0, 0.0, 0.0]]  # both trim to the first two; -1 is outvoted
