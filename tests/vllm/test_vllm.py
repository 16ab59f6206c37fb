"""The vLLM backend on tiny random llamas: the HF backend's answers, in one process and over two ranks, and faults."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from evomerge.backends import vllm_worker
from evomerge.backends.hf import HFBackend
from evomerge.backends.vllm import VLLMBackend
from evomerge.backends.vllm_engine import Engine
from evomerge.backends.vllm_install import CPU_HEADS
from evomerge.errors import ConfigError, MergeError, SearchFailed, TaskError
from evomerge.models.family import Family, open_family
from evomerge.types import Blend
from tests.vllm.models import BLENDS, ask, make_family, make_model, merged, questions

CPU = torch.device("cpu")
LENGTH = 400
#: Of a log-likelihood in float32, relative: 6e-7 was the largest seen.
NOISE = 5e-6


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family(tmp_path_factory.mktemp("tied"))


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family(tmp_path_factory.mktemp("untied"), tie=False)


@pytest.fixture(scope="module")
def backend(family: Family) -> Iterator[VLLMBackend]:
    backend = VLLMBackend(max_length=LENGTH)
    backend.open(family, CPU, "float32")
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def hf(family: Family) -> HFBackend:
    return opened_hf(family)


def opened_hf(family: Family) -> HFBackend:
    backend = HFBackend(max_length=LENGTH)
    backend.open(family, CPU, "float32")
    return backend


def assert_alike(found: list, wanted: list) -> None:
    """Texts and greedy flags equal, log-likelihoods up to NOISE."""
    assert [a for a in found if isinstance(a, str)] == [a for a in wanted if isinstance(a, str)]
    assert [a[1] for a in found if isinstance(a, tuple)] == [a[1] for a in wanted if isinstance(a, tuple)]
    numbers = [
        [a[0] if isinstance(a, tuple) else a for a in some if not isinstance(a, str)] for some in (found, wanted)
    ]
    np.testing.assert_allclose(*numbers, rtol=NOISE)


@pytest.mark.parametrize("kind", BLENDS)
def test_answers_are_those_of_the_hf_backend(backend: VLLMBackend, hf: HFBackend, family: Family, kind: str):
    """Short prompts and prompts of more than two cache blocks, prompts cut on the left, all kinds of questions."""
    for one in (backend, hf):
        one.write(merged(family, BLENDS[kind]))
    assert_alike(backend.answer(questions()), hf.answer(questions()))


def test_a_recipe_written_again_answers_to_the_last_bit(backend: VLLMBackend, family: Family):
    answers = []
    for kind in ("linear", "ties", "linear", "ties"):
        backend.write(merged(family, BLENDS[kind]))
        answers.append(backend.answer(questions()))
    assert answers[0] == answers[2] != answers[1] == answers[3]


def test_a_recipe_that_overflows_fails_and_the_engine_stays_usable(backend, family):
    backend.write(merged(family, BLENDS["linear"]))
    before = backend.answer(questions())
    with pytest.raises(MergeError, match="NaN or infinite"):
        backend.write(merged(family, Blend("linear", {"weight": (3e38, 3e38), "normalize": False})))
    backend.write(merged(family, BLENDS["linear"]))
    assert backend.answer(questions()) == before


def test_answers_do_not_depend_on_how_many_are_asked_at_once(backend: VLLMBackend, family: Family):
    backend.write(merged(family, BLENDS["linear"]))
    whole = backend.answer(questions())
    backend.batch_size = 3
    try:
        assert_alike(backend.answer(questions()), whole)
    finally:
        backend.batch_size = 16


def test_a_backend_travels_as_its_settings(backend: VLLMBackend):
    parcel = pickle.dumps(backend)
    again = pickle.loads(parcel)
    assert len(parcel) < 500
    assert (again.max_length, again.batch_size, again.carrier) == (LENGTH, 16, "build")
    with pytest.raises(ConfigError, match=r"holds no engine; call open"):
        again.answer(questions())


def test_what_needs_distributions_is_told_where_to_go(backend: VLLMBackend):
    with pytest.raises(ConfigError, match="backend=hf"):
        _ = backend.lm


def test_ways_of_generating_that_vllm_lacks_are_refused(backend: VLLMBackend):
    beams = ask("generate_until", "one", {"until": ["\n"], "max_gen_toks": 3, "num_beams": 4})
    with pytest.raises(ConfigError, match="'num_beams', which vLLM does not"):
        backend.answer([beams])
    with pytest.raises(TaskError, match=r"temperature: .*; wanted one above 0"):
        backend.answer([ask("generate_until", "one", {"until": [], "max_gen_toks": 3, "do_sample": True})])


def test_the_chat_template_is_the_tokenizers(backend: VLLMBackend):
    assert backend.apply_chat_template([{"role": "user", "content": "hi"}]) == "<|user|>hi\n<|assistant|>"


def test_a_head_that_keeps_a_packed_copy_of_old_weights_is_found_at_the_start(family, monkeypatch):
    monkeypatch.setattr(vllm_worker.MergingWorker, "_evomerge_tied", lambda self: None)
    with pytest.raises(ConfigError, match="'lm_head' computes with old weights"):
        VLLMBackend(max_length=LENGTH).open(family, CPU, "float32")


def test_a_prefix_cache_that_is_not_emptied_is_found_at_the_start(family, monkeypatch):
    monkeypatch.setattr(Engine, "forget", lambda self: None)
    with pytest.raises(ConfigError, match="answered from an old prefix cache"):
        VLLMBackend(max_length=LENGTH).open(family, CPU, "float32")


def test_heads_that_the_kernels_do_not_know_are_refused(tmp_path: Path):
    folder = make_model(tmp_path / "narrow", seed=0, heads=16)
    with pytest.raises(ConfigError, match=r"heads of width 8; vLLM's CPU kernels know 32, 64"):
        VLLMBackend().check(open_family([str(folder)], str(folder)))


def test_the_kernels_know_the_heads_that_are_written_down():
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    assert tuple(CPUAttentionBackend.get_supported_head_sizes()) == CPU_HEADS


def test_an_engine_whose_start_is_interrupted_leaves_no_process(family: Family, monkeypatch):
    ranks = []

    def interrupted(self: Engine, method: str, *args: object) -> None:
        ranks.extend(p for p in psutil.Process().children(recursive=True) if p.name().startswith("VLLM"))
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "call", interrupted)
    with pytest.raises(KeyboardInterrupt):
        VLLMBackend(max_length=LENGTH, processes=True).open(family, CPU, "float32")
    assert ranks and not psutil.wait_procs(ranks, timeout=10)[1]


def test_a_length_beyond_the_models_is_refused(family: Family):
    with pytest.raises(ConfigError, match=r"vLLM does not start"):
        VLLMBackend(max_length=4096).open(family, CPU, "float32")


def test_a_search_on_another_device_is_refused(family: Family):
    with pytest.raises(ConfigError, match=r"runs on 'cpu' and the search on 'cuda'"):
        VLLMBackend().open(family, torch.device("cuda"), "float32")


def test_two_ranks_build_their_own_slices_and_answer_alike_until_one_is_killed(untied: Family):
    backend, hf = VLLMBackend(max_length=LENGTH, tensor_parallel=2), opened_hf(untied)
    backend.open(untied, CPU, "float32")
    try:
        for blend in (BLENDS["ties"], BLENDS["dare_ties"]):
            for one in (backend, hf):
                one.write(merged(untied, blend))
            assert_alike(backend.answer(questions()), hf.answer(questions()))
        whole = sum(np.prod(shape) for shape in untied.shapes.values())
        vectors = sum(shape[0] for shape in untied.shapes.values() if len(shape) == 1)
        assert sum(backend.built) == whole + vectors  # each rank has all of the norms, and half of the rest
        assert max(backend.built) < 0.55 * whole
        ranks = [p for p in psutil.Process().children(recursive=True) if p.name().startswith("VLLM")]
        assert len(ranks) == 2
        ranks[1].kill()
        for _ in range(2):
            with pytest.raises(SearchFailed, match="vLLM's engine has ended"):
                backend.answer(questions())
    finally:
        backend.close()
    assert not psutil.wait_procs(ranks, timeout=10)[1]


def test_through_files_from_a_process_of_its_own_that_dies_with_its_driver(tmp_path: Path, family: Family, hf):
    """In a driver of its own: the engine's process must not outlive it."""
    hf.write(merged(family, BLENDS["ties"]))
    here = Path(__file__).resolve()
    command = [
        sys.executable,
        str(here.parent / "driver.py"),
        str(family.base_folder.parent),
        str(tmp_path / "answers"),
    ]
    driver = subprocess.Popen(command, cwd=here.parents[2], env={**os.environ, "PYTHONPATH": str(here.parents[2])})
    try:
        while not (tmp_path / "answers").exists():
            assert driver.poll() is None, "the driver ended by itself"
            time.sleep(0.2)
        note, answers = pickle.loads((tmp_path / "answers").read_bytes())
        assert "written to a folder of memory and read back" in note
        assert_alike(answers, hf.answer(questions()))
        engine = psutil.Process(driver.pid).children(recursive=True)
        assert any(p.name().startswith("VLLM") for p in engine)
    finally:
        driver.kill()
        driver.wait()
    assert not psutil.wait_procs(engine, timeout=30)[1]
