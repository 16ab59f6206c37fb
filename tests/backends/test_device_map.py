"""A live model in pieces: written where each tensor lies, it answers as one in one piece does."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import dispatch_model
from accelerate.hooks import attach_align_device_hook_on_blocks
from lm_eval.api.instance import Instance

from evomerge import build
from evomerge.backends.hf import HFBackend
from evomerge.errors import ConfigError
from evomerge.models import blank, device_map
from evomerge.models.family import Family, open_family
from evomerge.spaces.references import references
from evomerge.spaces.weights import WeightsSpace
from evomerge.types import Recipe

CPU = torch.device("cpu")
PIECES = {
    "model.embed_tokens": "cpu",
    "model.layers.0": "cpu",
    "model.layers.1": "cpu",
    "model.norm": "cpu",
    "model.rotary_emb": "cpu",
    "lm_head": "cpu",
}


def ask(kind: str, *arguments: object) -> Instance:
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


REQUESTS = [
    *(ask("loglikelihood", "one two three and", f" {word}") for word in ("four", "five", "six")),
    ask("loglikelihood_rolling", "a longer text that stands alone"),
    ask("generate_until", "two and", {"until": ["\n"], "max_gen_toks": 5, "do_sample": False}),
]


@pytest.fixture(scope="module")
def family(base_folder: Path, expert_folder: Path) -> Family:
    return open_family([str(expert_folder)], str(base_folder))


@pytest.fixture(scope="module")
def recipe(family: Family) -> Recipe:
    space = WeightsSpace(family.pool(), method="ties", seed=3)
    return space.decode([0.4] * space.size)


@pytest.fixture(scope="module")
def whole(family: Family, recipe: Recipe) -> tuple[list[Any], list[Any]]:
    """Answers of the base and of a candidate, from a model in one piece."""
    backend = HFBackend(batch_size=4)
    backend.open(family, CPU, "float32")
    before = backend.answer(REQUESTS)
    backend.write(recipe)
    return before, backend.answer(REQUESTS)


def hooked(folder: Path) -> Any:
    """In pieces, every module with a hook that moves its inputs."""
    model, _ = blank.live_model(folder, CPU, "float32")
    return dispatch_model(model, device_map=PIECES, force_hooks=True, skip_keys=model._skip_keys_device_placement)


def waiting(folder: Path) -> Any:
    """The last block, norm and head wait on the host, as beside a GPU that is too small."""
    model, _ = blank.live_model(folder, CPU, "float32")
    away = {name: name in ("model.layers.1", "model.norm") for name in PIECES}
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attach_align_device_hook_on_blocks(model, execution_device=dict(PIECES), offload=away, weights_map=weights)
    model.tie_weights()
    return model


@pytest.mark.parametrize("pieces", [hooked, waiting])
def test_a_candidate_written_into_pieces_answers_as_in_one_piece(pieces, family, recipe, whole):
    model = pieces(family.base_folder)
    assert any(hasattr(module, "_hf_hook") for module in model.modules())
    backend = HFBackend(batch_size=4).wrap(model, blank.live_model(family.base_folder, CPU, "float32")[1])
    targets = blank.targets(model, family.shapes)
    assert not any(t.is_meta for t in targets.values()) and set(targets) == set(family.shapes)
    assert backend.answer(REQUESTS) == whole[0]
    rewrite(backend, recipe, family, targets)
    assert backend.answer(REQUESTS) == whole[1] != whole[0]
    rewrite(backend, references(family.pool(), seed=0, dtype="float32")["base"], family, targets)
    assert backend.answer(REQUESTS) == whole[0]


def rewrite(backend, recipe, family, targets):
    """As the backend writes what it has opened itself."""
    if backend.lm.shared:
        backend.lm.shared.prefixes.forget()
    build.write(recipe, family, targets)


def test_weights_that_wait_are_shown_empty_and_found_where_they_wait(family):
    model = waiting(family.base_folder)
    shown, found = model.state_dict(), blank.live_tensors(model)
    assert [n for n, t in shown.items() if t.is_meta] == [
        n for n in shown if "layers.1." in n or n == "model.norm.weight"
    ]
    blank.verify(model, family.shapes, family.model.read)
    assert set(found) == set(shown)


def test_a_map_over_one_device_opens_as_no_map(family, recipe, whole):
    backend = HFBackend(batch_size=4, device_map={**PIECES, "model.layers": "cpu"})
    backend.open(family, CPU, "float32")
    backend.write(recipe)
    assert backend.answer(REQUESTS) == whole[1]


def test_where_there_is_one_device_nothing_is_spread(family, whole):
    for setting in ("auto", "balanced"):
        backend = HFBackend(batch_size=4, device_map=setting, max_memory={"cpu": "1GiB"})
        backend.open(family, CPU, "float32")
        assert backend.answer(REQUESTS) == whole[0]


@pytest.mark.parametrize("setting", ["auto", "balanced"])
def test_the_limit_of_the_only_device_holds_or_is_refused(family, setting):
    with pytest.raises(ConfigError, match=r"allows 1e-06 GB on cpu, the only device"):
        HFBackend(device_map=setting, max_memory={"cpu": 1000}).open(family, CPU, "float32")


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"device_map": "balanced", "max_memory": {0: "1GiB"}}, "max_memory names cuda:0, and there is no GPU here"),
        ({"device_map": {"": 0}}, "device_map names cuda:0, and there is no GPU here"),
        ({"device_map": {"": "cpu", "model.layer.1": "cpu"}}, "Did you mean 'model.layers.1'"),
    ],
)
def test_a_map_that_fits_no_device_here_is_refused_by_a_check(family, monkeypatch, settings, words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=words):
        HFBackend(**settings).check(family)


def test_on_a_machine_with_gpus_a_search_on_the_cpu_is_not_spread_over_them(family, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    settle = partial(device_map.settle, family.base_folder, torch.float32, device=CPU)
    with pytest.raises(ConfigError, match="balanced spreads the live model over GPUs, and device=cpu"):
        settle("balanced", {0: "1GiB", 1: "1GiB"})
    with pytest.raises(ConfigError, match="limits 0, 1 and the whole model would lie on cpu"):
        settle("auto", {0: "1GiB", 1: "1GiB"})
    assert settle("auto", {0: "1GiB", "cpu": "1GiB"}) is None


def test_a_limit_for_another_device_than_the_searchs_is_refused(family, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ConfigError, match="limits 1 and the whole model would lie on 0"):
        device_map.settle(family.base_folder, torch.float32, "balanced", {1: "1GiB"}, device=torch.device("cuda"))


def test_settings_travel_with_a_pickled_backend():
    settings = {"device_map": "auto", "max_memory": {0: "2GiB", "cpu": "1GiB"}}
    again = pickle.loads(pickle.dumps(HFBackend(**settings)))
    assert (again.device_map, again.max_memory) == tuple(settings.values())


# ---------------------------------------------------------------- which module lies where


@pytest.fixture(scope="module")
def empty(base_folder: Path) -> Any:
    model = blank.empty_model(base_folder)
    model.tie_weights()
    return model


def held(model: Any, found: device_map.DeviceMap) -> dict[int | str, int]:
    sizes: dict[int | str, int] = {}
    for name, tensor in model.named_parameters():
        device = device_map.device_of(found, name)
        sizes[device] = sizes.get(device, 0) + tensor.numel() * 4
    return sizes


def test_a_balanced_map_is_even_up_to_a_block_and_cuts_no_block(empty):
    size = device_map.size(empty, torch.float32)
    found = device_map.split(empty, {0: size, 1: size}, torch.float32)
    device_map.check(empty, found)
    block = sum(p.numel() * 4 for p in empty.model.layers[0].parameters())
    assert set(held(empty, found)) == {0, 1}
    assert max(held(empty, found).values()) <= size / 2 + block
    for k in range(len(empty.model.layers)):
        assert isinstance(device_map.device_of(found, f"model.layers.{k}"), int)


def test_what_finds_no_device_may_wait_on_the_host(empty):
    size = device_map.size(empty, torch.float32)
    found = device_map.split(empty, {0: size * 9 // 10, "cpu": 2 * size}, torch.float32)
    device_map.check(empty, found)
    assert set(found.values()) == {0, "cpu"} and device_map.device_of(found, "model.embed_tokens") == 0


def test_a_model_larger_than_all_devices_is_refused_with_what_is_missing(empty):
    size = device_map.size(empty, torch.float32)
    with pytest.raises(ConfigError, match=r"GB of them find none. Use more devices.*cpu: 100GiB"):
        device_map.split(empty, {0: size // 3, 1: size // 3}, torch.float32)


@pytest.mark.parametrize(
    "found, words",
    [
        ({"model.layers": 0, "lm_head": 0}, "has no place for 'model.embed_tokens.weight'"),
        ({"": 0, "model.layer.1": 1}, "Did you mean 'model.layers.1'"),
        ({"": 0, "model.layers.1": "disk"}, "'model.layers.1' on disk, where a candidate cannot be written"),
        ({"": 0, "model.embed_tokens": "cpu", "lm_head": "cpu"}, "leaves 'model.embed_tokens' on the cpu"),
        ({"": 0, "lm_head": 1}, "'lm_head', which is tied to it, on 1"),
    ],
)
def test_a_map_that_leaves_something_without_a_place_is_refused(empty, found, words):
    with pytest.raises(ConfigError, match=words):
        device_map.check(empty, found)


def test_a_device_that_is_not_here_is_named_before_a_weight_is_read(family):
    with pytest.raises(ConfigError, match="cuda:97"):
        HFBackend(device_map={"": 97}).open(family, CPU, "float32")


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"device_map": "autos"}, "Did you mean 'auto'"),
        ({"max_memory": {0: "2GiB"}}, "limits are for device_map=auto or balanced"),
        ({"device_map": "auto", "max_memory": {0: "much"}}, "Wanted sizes such as 20GiB"),
        ({"device_map": "auto", "max_memory": {"gpu0": "2GiB"}}, "'gpu0'; wanted the numbers of GPUs"),
        ({"device_map": "auto", "max_memory": {0: "2GiB", "disk": "2GiB"}}, "names 'disk'"),
    ],
)
def test_settings_that_place_nothing_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        HFBackend(**settings)


# ---------------------------------------------------------------- two devices


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices on this machine")
def test_over_two_devices_a_candidate_answers_as_on_one(family, recipe):
    answers = []
    for setting in (None, "balanced"):
        backend = HFBackend(batch_size=4, device_map=setting)
        backend.open(family, torch.device("cuda"), "float32")
        backend.write(recipe)
        answers.append(backend.answer(REQUESTS))
        devices = {t.device.index for t in backend._targets.values()}
        assert devices == ({0} if setting is None else {0, 1})
    assert answers[0] == answers[1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_with_blocks_that_wait_on_the_host_a_candidate_answers_as_on_one_device(family, recipe):
    answers = []
    for setting in (None, {"": 0, "model.layers.1": "cpu"}):
        backend = HFBackend(batch_size=4, device_map=setting)
        backend.open(family, torch.device("cuda"), "float32")
        backend.write(recipe)
        answers.append(backend.answer(REQUESTS))
    assert [a for a in answers[0] if isinstance(a, str)] == [a for a in answers[1] if isinstance(a, str)]
    numbers = [[a[0] if isinstance(a, tuple) else a for a in found if not isinstance(a, str)] for found in answers]
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-4)  # blocks built on the CPU round otherwise
