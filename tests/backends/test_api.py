"""Candidates behind a completions endpoint: a real model on loopback answers for them, and sometimes fails."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from evomerge.backends.api import Api
from evomerge.backends.completions import Refused, Server, Unavailable
from evomerge.backends.hf import HFBackend
from evomerge.cli import main
from evomerge.errors import ConfigError, MergeError, SearchFailed, TaskError
from evomerge.journal import rows
from evomerge.models.family import Family, open_family
from evomerge.spaces.references import references, uniform
from evomerge.types import Blend, Recipe
from tests.backends.asking import ODD, ask, choices, distance, examples
from tests.backends.completions_server import (
    CompletionsServer,
    Handler,
    Refusal,
    dying,
    failing,
    running,
    slow,
)
from tests.models_pico import make_pico
from tests.task_folder import make_tasks

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # PEFT's, of tied embeddings
CPU = torch.device("cpu")
LONGEST = 300  # tokens: some requests below are longer
SCORED = [*choices(1, items=3), *ODD, ask("loglikelihood", "z" * 400, " far too long a context")]
ROLLING = [ask("loglikelihood_rolling", text) for text in ("read from its beginning", "x" * 450)]
WRITTEN = [
    *(ask("generate_until", examples(k) + "Question:", {"until": ["\n"], "max_gen_toks": 12}) for k in range(2)),
    ask("generate_until", " ".join(map(str, range(150))), {"until": "q", "max_gen_toks": 120, "do_sample": False}),
    ask("generate_until", "<s>its own beginning", {"until": [], "max_tokens": 4}),
]
ASKED = [*SCORED[:4], *WRITTEN, *ROLLING, *SCORED[4:]]  # of several kinds, mixed
FEW = choices(0, items=1)[:3]


def adapter(base: Path, folder: Path, *, seed: int, **options: object) -> Path:
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), peft.LoraConfig(lora_alpha=4, **options))
    generator = torch.Generator().manual_seed(seed)
    for name, weight in sorted(model.named_parameters()):
        if "lora_" in name:
            weight.data.copy_(0.2 * torch.randn(weight.shape, generator=generator))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapters(base_folder, tmp_path_factory) -> list[str]:
    root = tmp_path_factory.mktemp("adapters")
    one = adapter(base_folder, root / "one", seed=1, r=2, target_modules=["q_proj", "up_proj"])
    two = adapter(base_folder, root / "two", seed=2, r=3, target_modules=["q_proj", "v_proj", "down_proj"])
    return [str(one), str(two)]


@pytest.fixture(scope="module")
def family(base_folder, adapters) -> Family:
    return open_family(adapters, str(base_folder))


@pytest.fixture(scope="module")
def recipes(family) -> dict[str, Recipe]:
    pool = family.pool()

    def merged(method: str, **knobs: object) -> Recipe:
        return uniform(pool, pool.digests, Blend(method, knobs), 0, "float32")

    return {
        **references(pool, seed=0, dtype="float32"),
        "apart": merged("task_arithmetic", weight=(0.8, -0.5)),
        "ties": merged("ties", weight=(0.7, 0.5), density=0.4),
        "halved": merged("linear", weight=(0.2, 0.3), normalize=False),
    }


@pytest.fixture(scope="module")
def shared_server(base_folder) -> Iterator[CompletionsServer]:
    with running(base_folder) as server:
        yield server


@pytest.fixture
def server(shared_server) -> Iterator[CompletionsServer]:
    """Healthy, and healthy again afterwards."""
    shared_server.asked.clear()
    shared_server.loaded.clear()
    yield shared_server
    shared_server.fault = lambda path, body: None
    shared_server.key, shared_server.applies, shared_server.limit = None, True, 1024


def api(server: CompletionsServer, **settings: object) -> Api:
    return Api(**{"base_url": server.url, "max_length": LONGEST, "backoff": 0.01, "retries": 3, **settings})


@pytest.fixture
def opened(server, family) -> Iterator[Api]:
    backend = api(server)
    backend.open(family, CPU, "float32")
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def local(family) -> HFBackend:
    backend = HFBackend(batch_size=8, max_length=LONGEST)
    backend.open(family, CPU, "float32")
    return backend


def compare(found: list, wanted: list) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert type(one) is type(other)
        if isinstance(one, tuple):
            assert one[0] == pytest.approx(other[0], rel=2e-6, abs=2e-5) and one[1] == other[1]
        elif isinstance(one, float):
            assert one == pytest.approx(other, rel=2e-6)
        else:
            assert one == other


@pytest.mark.parametrize("name", ["base", "parent:one", "average", "apart"])
def test_every_answer_is_that_of_the_merged_weights_in_this_process(opened, local, recipes, name):
    opened.write(recipes[name])
    local.write(recipes[name])
    compare(opened.answer(ASKED), local.answer(ASKED))


def test_a_merge_that_is_no_sum_is_served_as_near_as_its_rank_allows_and_told(server, opened, local, family, recipes):
    local.write(recipes["ties"])
    wanted = local.answer(SCORED)
    opened.write(recipes["ties"])
    assert distance(opened.answer(SCORED), wanted) > 0.01
    assert any("relative error up to 0." in note for note in opened.notes)
    whole = api(server, rank=48)
    whole.open(family, CPU, "float32")
    whole.write(recipes["ties"])
    compare(whole.answer(SCORED), wanted)
    whole.close()


def test_answers_do_not_depend_on_batches_and_threads(opened, server, family, recipes):
    alone = api(server, batch_size=1, concurrency=7)
    alone.open(family, CPU, "float32")
    for backend in (opened, alone):
        backend.write(recipes["average"])
    assert alone.answer(ASKED) == opened.answer(ASKED)
    alone.close()


def test_each_candidate_has_a_new_name_and_the_last_one_leaves_nothing_behind(server, opened, recipes):
    for name in ("base", "average", "average"):
        opened.write(recipes[name])
        assert len(server.models) == 2
    assert len(set(server.loaded)) == server.asked.count("/v1/load_lora_adapter") == 5  # two of the handshake
    folders = set(server.loaded.values())
    assert len({folder.parent for folder in folders}) == 1 and sum(folder.exists() for folder in folders) == 1
    opened.close()
    assert set(server.models) == {"base"} and not any(folder.parent.exists() for folder in folders)


def test_a_recipe_that_is_no_adapter_is_the_candidates_own_failure(opened, recipes):
    with pytest.raises(MergeError, match="which no adapter touches"):
        opened.write(recipes["halved"])
    opened.write(recipes["average"])  # and the next one is none the worse
    assert len(opened.answer(FEW)) == len(FEW)


def test_full_checkpoints_are_refused_before_the_server_is_met(server, base_folder, expert_folder):
    with pytest.raises(ConfigError, match="full checkpoint"):
        api(server).open(open_family([str(expert_folder)], str(base_folder)), CPU, "float32")
    assert not server.asked


def test_a_check_asks_the_server_once_and_pays_nothing(server, family, base_folder, expert_folder):
    api(server).check(family)
    assert server.asked == ["/v1/models"]
    with pytest.raises(ConfigError, match="full checkpoint"):
        api(server).check(open_family([str(expert_folder)], str(base_folder)))
    with pytest.raises(ConfigError, match="unknown model 'other'"):
        api(server, model="other").check(family)


@pytest.mark.parametrize("more", [{}, {"temperature": 0.0}])
def test_sampling_without_a_temperature_is_refused_as_transformers_does(opened, local, recipes, more):
    request = ask("generate_until", "a", {"until": [], "max_gen_toks": 2, "do_sample": True, **more})
    with pytest.raises(ValueError, match="temperature"):
        local.answer([request])
    opened.write(recipes["base"])
    with pytest.raises(TaskError, match=r"do_sample: true and temperature: .* wanted one above 0"):
        opened.answer([request])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"base_url": None}, "base_url is null; wanted the root of a server"),
        ({"base_url": "ftp://host/v1"}, "wanted http"),
        ({"base_url": "http://:80/v1"}, "wanted http"),
        ({"base_url": "http://host:port/v1"}, "wanted http"),
        ({"base_url": "http://me:secret@host/v1"}, "environment variable OPENAI_API_KEY"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"retries": -1}, "retries is -1"),
        ({"max_length": 1}, "max_length is 1; wanted a whole number from 2, or null"),
        ({"rank": 0}, "rank is 0"),
        ({"timeout": 0.0}, "timeout is 0.0; wanted seconds above 0"),
        ({"backoff": -1.0}, "backoff is -1.0"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(settings, told):
    with pytest.raises(ConfigError, match=told) as raised:
        Api(**{"base_url": "http://127.0.0.1:1/v1", **settings})
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("given", ["http://h:1", "http://h:1/", "http://h:1/v1/", "http://h:1/v1/completions"])
def test_the_root_is_found_however_it_is_spelt(given):
    assert pickle.loads(pickle.dumps(Api(base_url=given)))._server.url == "http://h:1/v1"


def test_without_a_server_it_says_how_one_is_started(family):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(ConfigError, match=r"vllm serve .* --enable-lora"):
            Api(base_url=f"http://127.0.0.1:{held.getsockname()[1]}/v1").check(family)


@pytest.mark.parametrize(
    ("change", "settings", "told"),
    [
        ({}, {"model": "bsae"}, "unknown model 'bsae'. Did you mean 'base'"),
        ({"key": "right"}, {}, "401: Unauthorized"),
        ({"applies": False}, {}, "it ignores adapters"),
        ({"limit": 200}, {}, "max_length is 300, and base is served with 200"),
        ({"fault": failing(99, 404, "/v1/load_lora_adapter")}, {}, "VLLM_ALLOW_RUNTIME_LORA_UPDATING"),
        ({"fault": failing(99, 501)}, {}, "cannot score a prompt as 'base'"),
    ],
)
def test_a_server_that_cannot_serve_is_found_out_before_anything_is_paid(
    server, family, monkeypatch, change, settings, told
):
    monkeypatch.setenv("OPENAI_API_KEY", "wrong")
    for name, value in change.items():
        setattr(server, name, value)
    with pytest.raises(ConfigError, match=told) as raised:
        api(server, **settings).open(family, CPU, "float32")
    assert "wrong" not in str(raised.value)


def test_a_server_of_another_base_is_found_out_by_its_tokens(base_folder, family, tmp_path):
    with running(make_pico(tmp_path / "other", seed=5)) as other:
        other.tokenizer.decode = lambda tokens, **_: "<another>"
        with pytest.raises(ConfigError, match=r"reads token .* as '<another>'"):
            api(other).open(family, CPU, "float32")


def test_an_answer_without_echo_is_no_answer(server, opened, recipes):
    opened.write(recipes["base"])
    whole = server.complete
    server.complete = lambda body: whole({**body, "echo": False, "stop": []})
    try:
        with pytest.raises(Unavailable, match="echo and logprobs"):
            opened.answer(FEW)
    finally:
        del server.complete


def test_completions_that_are_missing_are_noticed(server, opened, recipes):
    opened.write(recipes["base"])
    whole = server.complete
    server.complete = lambda body: {"choices": whole(body)["choices"][1:]}
    try:
        with pytest.raises(Unavailable, match="not what the OpenAI API says"):
            opened.answer(FEW)
    finally:
        del server.complete


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_failure_that_passes_changes_nothing(server, opened, recipes, status):
    opened.write(recipes["average"])
    wanted = opened.answer(FEW)
    server.fault = failing(3, status)
    assert opened.answer(FEW) == wanted


def test_a_failure_that_stays_ends_the_search_and_no_candidate(server, opened, recipes):
    opened.write(recipes["average"])
    server.fault = dying(0)
    with pytest.raises(SearchFailed, match=r"asked 4 times.*the journal keeps what was paid"):
        opened.answer(FEW)
    with pytest.raises(SearchFailed):
        opened.write(recipes["base"])
    server.fault = failing(99, 500)  # for the base too
    with pytest.raises(SearchFailed, match="500: the engine has hiccups"):
        opened.answer(FEW)


def test_what_breaks_the_server_for_one_candidate_alone_is_its_own_failure(server, opened, recipes):
    def fault(path, body):
        if path == "/v1/completions" and body["model"] != "base":
            raise Refusal(500, "Out of range float values are not JSON compliant")

    opened.write(recipes["average"])
    server.fault = fault
    with pytest.raises(MergeError, match="and not with its base"):
        opened.answer(FEW)
    server.fault = failing(1, 400, "/v1/load_lora_adapter")
    with pytest.raises(MergeError, match="the server refuses the merged adapter"):
        opened.write(recipes["base"])


def test_a_slow_server_is_given_up_in_time(server, family, recipes):
    backend = api(server, timeout=0.4, retries=0)
    backend.open(family, CPU, "float32")
    backend.write(recipes["base"])
    server.fault = slow(1.5)
    with pytest.raises(SearchFailed, match="timed out"):
        backend.answer(FEW)


def test_an_interrupt_waits_for_no_answer(server, family, recipes):
    backend = api(server, batch_size=1, concurrency=2)
    backend.open(family, CPU, "float32")
    backend.write(recipes["base"])
    server.fault = slow(5.0)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        backend.answer(FEW)
    backend.close()
    assert time.monotonic() - began < 2
    asked = len(server.asked)
    time.sleep(0.2)
    assert len(server.asked) == asked, "nobody asks on"


def test_an_interrupt_waits_for_no_repetition(server, family, recipes):
    backend = api(server, backoff=30.0)
    backend.open(family, CPU, "float32")
    backend.write(recipes["base"])
    server.fault = failing(99)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        backend.answer(FEW)
    before = server.asked.count("/v1/completions")
    backend._server.left.set()  # whoever else waits to ask again
    with pytest.raises(Unavailable):
        backend._server.complete("base", [[0, 1]])
    assert server.asked.count("/v1/completions") == before + 1


def test_a_server_started_anew_is_given_the_adapter_again(server, opened, recipes):
    opened.write(recipes["average"])
    wanted = opened.answer(FEW)
    for name in [name for name in server.models if name != "base"]:
        del server.models[name]
    assert opened.answer(FEW) == wanted


def test_an_adapter_whose_loading_was_not_answered_is_not_loaded_twice(server, opened, recipes):
    lost = iter([True])
    whole = server.load

    def load(body):
        answer = whole(body)
        if next(lost, False):
            raise ConnectionAbortedError
        return answer

    server.load = load
    try:
        opened.write(recipes["average"])
    finally:
        del server.load
    assert len(opened.answer(FEW)) == len(FEW)


def test_a_redirect_is_an_error_for_the_key_would_travel(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setattr(Handler, "do_GET", lambda handler: _moved(handler))
    with pytest.raises(ConfigError, match="redirects elsewhere"):
        Server(server.url).models()


def _moved(handler: Handler) -> None:
    handler.close_connection = True
    handler.send_response(302)
    handler.send_header("Location", "http://127.0.0.1:1/v1/models")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def test_a_request_that_is_refused_is_not_repeated(server):
    with pytest.raises(Refused, match="404: Not Found"):
        Server(server.url, backoff=0.0).post("nowhere")
    assert server.asked == ["/v1/nowhere"]


def test_an_answer_that_cannot_fit_is_an_error_of_the_settings(opened, recipes):
    opened.write(recipes["base"])
    for request in (
        ask("loglikelihood", "a", "b" * (LONGEST + 1)),
        ask("generate_until", "a", {"until": [], "max_gen_toks": LONGEST}),
    ):
        with pytest.raises(TaskError, match=r"backend\.max_length"):
            opened.answer([request])


def test_a_nan_is_the_candidates_own_failure(server, opened, recipes):
    opened.write(recipes["average"])
    with torch.no_grad():
        server.models[next(name for name in server.models if name != "base")].model.norm.weight.fill_(torch.nan)
    with pytest.raises(MergeError, match="NaN"):
        opened.answer(FEW)


def test_the_folder_of_adapters_is_as_open_as_the_one_it_is_in(server, family, tmp_path):
    (tmp_path / "common").mkdir()
    (tmp_path / "common").chmod(0o755)
    for folder, mode in ((tmp_path / "new", 0o700), (tmp_path / "common", 0o755)):
        backend = api(server, adapters=str(folder))
        backend.open(family, CPU, "float32")
        [own] = folder.iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(own.stat().st_mode) == mode
        backend.close()
        assert not list(folder.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"backend\.adapters"):
        api(server, adapters=str(tmp_path / "file")).open(family, CPU, "float32")


@pytest.mark.slow
def test_a_search_over_a_server_that_dies_in_between_resumes_to_the_same_journal(
    server, base_folder, adapters, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "only-in-the-environment")
    tasks = make_tasks(tmp_path / "tasks", n=8)
    command = [
        *("search", f"parents.base={base_folder}", f"parents.models=[{','.join(adapters)}]", "task.names=[sums]"),
        *(f"task.include_path={tasks}", "control=none", "finalists=1", "threads=1", "device=cpu"),
        *("backend=api", f"backend.base_url={server.url}", "backend.retries=1", "backend.backoff=0.01"),
        *("budget.evaluations=4", "optimizer=sobol"),
    ]
    assert main([*command, f"run={tmp_path / 'whole'}"]) == 0
    server.fault = dying(18)
    assert main([*command, f"run={tmp_path / 'cut'}"]) == 4
    assert "the journal keeps what was paid" in capsys.readouterr().err
    paid = [row for row in rows(tmp_path / "cut") if row["row"] == "evaluation"]
    assert paid and not any(row["error"] for row in paid)
    server.fault = lambda path, body: None
    assert main([*command, f"run={tmp_path / 'cut'}"]) == 0
    assert canonical(tmp_path / "cut") == canonical(tmp_path / "whole")
    written = [path.read_text() for path in tmp_path.glob("*/*") if path.suffix in (".jsonl", ".json", ".yaml", ".md")]
    assert written and not any("only-in-the-environment" in text for text in written)


def canonical(folder: Path) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for row in rows(folder))
