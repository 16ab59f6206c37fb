"""The methods against values that mergekit computed; where they are from says `meta` in tests/golden/methods.json."""

from __future__ import annotations

import json
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from evomerge.errors import EvomergeError
from evomerge.methods import METHODS
from evomerge.methods.entries import Entries
from evomerge.methods.masks import below, columns, entry_word, mask_key, shared_word
from evomerge.types import Blend
from tests.engine.held import BASE, NAME, Held, written

CASES = json.loads((Path(__file__).parents[1] / "golden" / "methods.json").read_text())["cases"]
COUNTS = {
    "linear": 4,
    "slerp": 6,
    "nuslerp": 7,
    "multislerp": 4,
    "karcher": 3,
    "task_arithmetic": 3,
    "ties": 9,
    "dare_linear": 2,
    "dare_ties": 2,
    "della": 3,
    "della_linear": 1,
    "breadcrumbs": 3,
    "breadcrumbs_ties": 1,
    "sce": 4,
    "ram": 1,
    "ramplus_tl": 3,
    "model_stock": 5,
    "nearswap": 2,
    "arcee_fusion": 2,
    "passthrough": 2,
}
RESCALED = ("dare_linear", "dare_ties", "della", "della_linear")  # by mergekit, unless told otherwise
NO_VALUE = ["linear/zero_weight_sum", "della/epsilon_out_of_range"]  # refused by us: infinite or refused by mergekit
LAWFUL = ["della/row_length_1"]  # refused by mergekit, and meaningful
TIED = ["ties/magnitude_ties"]  # which of equal entries stay is not specified
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def some(ids: list[str]) -> Any:
    cases = [case for case in CASES if case["id"] in ids]
    return pytest.mark.parametrize("case", cases, ids=[case["id"] for case in cases])


def blend_of(case: dict[str, Any]) -> Blend:
    """mergekit's parameters under our names, its defaults written out."""
    name, params = case["name"], dict(case["params"])
    knobs = {"scale" if key == "lambda" else key: value for key, value in params.items()}
    if METHODS[name].knob("rescale"):
        knobs["rescale"] = "l1" if params.get("rescale", name in RESCALED) else "none"
    if METHODS[name].knob("differences"):
        knobs["differences"] = case["base"] is not None
    if "epsilon" in knobs and name.startswith("della"):
        pairs = zip(knobs.pop("epsilon"), knobs["density"], strict=True)
        knobs["epsilon_frac"] = [epsilon / min(density, 1 - density) for epsilon, density in pairs]
    if name == "sce":
        knobs["guard"] = "absolute"
    if name == "passthrough" and knobs:
        (knobs["scale"],) = params["scale"]
    return Blend(name, {key: tuple(value) if isinstance(value, list) else value for key, value in knobs.items()})


def merged(case: dict[str, Any]) -> torch.Tensor:
    """slerp takes its base as the first of two parents."""
    tensors = {name: torch.tensor(x).to(DTYPES[case["dtype"]]) for name, x in case["inputs"].items()}
    order = [name for name in case["order"] if name != case["base"]]
    if case["name"] == "slerp":
        order = ["ground", *order]
        tensors["ground"] = tensors[case["base"]]
    names = [named(case, name) for name in order]
    family = Held(
        {BASE: tensors.get("base", tensors[order[0]]), **{n: tensors[o] for n, o in zip(names, order, strict=True)}}
    )
    return written(family, blend_of(case), DTYPES[case.get("out_dtype", case["dtype"])], parents=names).float()


def named(case: dict[str, Any], parent: str) -> str:
    """A digest under which our masks are those of the case: random numbers depend on digests, so one is looked for."""
    if "masks" not in case:
        return parent
    wanted = torch.tensor(case["masks"][parent]) == 1
    place = case["order"].index(parent) - 1
    limit = torch.full(wanted.shape, case["params"]["density"][place])
    if "keep_probabilities" in case:
        limit = torch.tensor(case["keep_probabilities"][parent])
    words = torch.tensor([below(p) for p in limit.flatten().tolist()])
    return next(
        f"{parent}{i}" for i in count() if torch.equal(drawn(f"{parent}{i}", limit.shape) < words, wanted.flatten())
    )


def drawn(digest: str, shape: torch.Size) -> torch.Tensor:
    keys = (mask_key(0, "", NAME), mask_key(0, digest, NAME))
    entries = Entries.of(torch.zeros(1, *shape), keys)
    rows = entries.words()[:, 0]
    return entry_word(shared_word(columns(entries.device), rows[0]), rows[1])[: entries.n]


def expected(case: dict[str, Any]) -> torch.Tensor:
    text = json.dumps(case["expected"]).replace('"inf"', "Infinity").replace('"-inf"', "-Infinity")
    return torch.tensor(json.loads(text))


def test_no_case_is_missing():
    assert Counter(case["name"] for case in CASES) == COUNTS
    assert set(COUNTS) == set(METHODS)
    assert len({case["id"] for case in CASES}) == len(CASES) == 67
    assert [case["id"] for case in CASES if not case.get("exact", True)] == TIED
    assert sorted(case["id"] for case in CASES if "raises" in case) == sorted([NO_VALUE[1], *LAWFUL])


@some([case["id"] for case in CASES if case["id"] not in (*NO_VALUE, *LAWFUL, *TIED)])
def test_agrees_with_mergekit(case):
    torch.testing.assert_close(merged(case), expected(case), atol=case["atol"], rtol=0)


@some(NO_VALUE)
def test_what_has_no_value_is_refused(case):
    with pytest.raises(EvomergeError):
        merged(case)


@some(LAWFUL)
def test_rows_of_one_entry_are_dropped_with_the_density_itself(case):
    """Where mergekit's rank is 0 / 0 the method is DARE with the same election."""
    knobs = blend_of(case).knobs
    plain = Blend("dare_ties", {**{k: v for k, v in knobs.items() if k != "epsilon_frac"}, "normalize": True})
    family = Held({name: torch.tensor(values) for name, values in case["inputs"].items()})
    assert torch.equal(merged(case), written(family, plain))


@some(TIED)
def test_of_equal_magnitudes_as_many_stay_as_in_mergekit(case):
    for parent in ("A", "B"):
        tensors = {BASE: torch.tensor(case["inputs"]["base"]), parent: torch.tensor(case["inputs"][parent])}
        blend = Blend("ties", {"weight": 1.0, "density": 0.5, "normalize": True})
        assert int(written(Held(tensors), blend).count_nonzero()) == 2
