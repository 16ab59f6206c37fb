"""Adapters served together by vLLM answer as the models they mean."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from evomerge.backends import scratch
from evomerge.backends.hf import HFBackend
from evomerge.backends.vllm_lora import VLLMLora
from evomerge.errors import ConfigError
from evomerge.models.family import Family, open_family
from tests.backends.adapted import added, answers_of, blended, logliks, make_adapter, texts
from tests.vllm.models import make_model, questions

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]  # PEFT's, and those that vLLM brings
CPU = torch.device("cpu")
WEIGHTS = [(1.0, 0.0), (0.5, 0.5), (-0.7, 1.3)]


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """Adapters of unequal ranks over unequal modules of a tied base."""
    root = tmp_path_factory.mktemp("vllm_lora")
    base = make_model(root / "base", seed=0)
    one = make_adapter(base, root / "one", seed=1, spread=0.1, r=4, target_modules=["q_proj", "v_proj", "down_proj"])
    two = make_adapter(base, root / "two", seed=2, spread=0.1, r=6, target_modules="all-linear")
    return open_family([str(one), str(two)], str(base))


@pytest.fixture(scope="module")
def backend(family: Family) -> Iterator[VLLMLora]:
    live = VLLMLora(batch_size=16, max_length=500, together=4)
    live.open(family, CPU, "float32")
    yield live
    live.close()


@pytest.fixture(scope="module")
def recipes(family: Family) -> dict[int, Any]:
    return {slot: added(family, *weights) for slot, weights in enumerate(WEIGHTS)}


@pytest.fixture(scope="module")
def wanted(family: Family, recipes: dict[int, Any]) -> dict[int, list[Any]]:
    """Of each candidate's merged weights, by the HF backend."""
    built, found = HFBackend(batch_size=8, max_length=500), {}
    built.open(family, CPU, "float32")
    for slot, recipe in recipes.items():
        built.write(recipe)
        found[slot] = built.answer(questions())
    return found


def assert_alike(found: list[Any], wanted: list[Any]) -> None:
    assert logliks(found) == pytest.approx(logliks(wanted), rel=1e-5)
    assert texts(found) == texts(wanted)


def test_each_slot_answers_as_its_merged_weights(
    backend: VLLMLora, recipes: dict[int, Any], wanted: dict[int, list[Any]]
):
    found = answers_of(backend, recipes, questions())
    for slot in recipes:
        assert_alike(found[slot], wanted[slot])
    assert len({str(logliks(answers)) for answers in found.values()}) == len(recipes)


def test_a_slot_that_was_another_candidates_serves_its_new_one(
    backend: VLLMLora, recipes: dict[int, Any], wanted: dict[int, list[Any]]
):
    """Long prompts would show a cache of the old one, and an equal number the old one itself."""
    for order in ((0, 1), (1, 0), (2, 1), (0, 2)):
        found = answers_of(backend, {3: recipes[order[0]], 0: recipes[order[1]]}, questions())
        assert_alike(found[3], wanted[order[0]])
        assert_alike(found[0], wanted[order[1]])


def test_loglikelihoods_have_the_same_bits_whoever_else_is_there(backend: VLLMLora, recipes: dict[int, Any]):
    scored = [q for q in questions() if q.request_type != "generate_until"]
    everyone = answers_of(backend, recipes, scored)
    for present in ({1}, {0, 2}):
        found = answers_of(backend, {slot: recipes[slot] for slot in present}, scored)
        assert all(found[slot] == everyone[slot] for slot in present)


def test_one_candidate_is_served_in_slot_0_or_alone(
    backend: VLLMLora, recipes: dict[int, Any], wanted: dict[int, list[Any]]
):
    for write in (backend.write, backend.write_alone):
        write(recipes[1])
        assert_alike(backend.answer(questions()), wanted[1])


def test_adapters_and_their_files_are_gone_when_others_are_served(backend: VLLMLora, recipes: dict[int, Any]):
    root = backend._files._root
    for _ in range(3):
        backend.write_together(recipes)
        numbers = {request.lora_int_id for request in (*backend._empty, *backend._crowd.adapters)}
        assert {int(folder.name) for folder in root.iterdir()} == numbers
        assert [set(held) for held in backend._crowd.engine.call("list_loras")] == [numbers]


def test_methods_that_do_more_than_add_are_refused(backend: VLLMLora, family: Family):
    with pytest.raises(ConfigError, match=r"backend=vllm_lora serves .* by 'ties'"):
        backend.write(blended(family, "ties"))


def test_an_engine_that_does_not_start_leaves_no_files(family: Family, monkeypatch):
    made, new_folder = [], scratch.new_folder
    monkeypatch.setattr(scratch, "new_folder", lambda where: made.append(new_folder(where)) or made[-1])
    with pytest.raises(ConfigError, match=r"runs on 'cpu' and the search on 'cuda'"):
        VLLMLora().open(family, torch.device("cuda"), "float32")
    assert len(made) == 1 and not made[0].exists()


def test_embeddings_are_refused_before_an_engine_starts(family: Family, tmp_path: Path):
    options = {"target_modules": ["q_proj", "embed_tokens", "lm_head"], "ensure_weight_tying": True}
    one = make_adapter(family.base_folder, tmp_path / "one", seed=1, **options)
    with pytest.raises(ConfigError, match=r"no linear layer inside a block .* Set backend=hf_lora"):
        VLLMLora().open(open_family([str(one)], str(family.base_folder)), CPU, "float32")


def test_a_backend_travels_without_its_engine(backend: VLLMLora, recipes: dict[int, Any]):
    again = pickle.loads(pickle.dumps(backend))
    assert (again.batch_size, again.max_length, again.together) == (16, 500, 4)
    with pytest.raises(ConfigError, match="holds no engine"):
        again.write(recipes[0])
