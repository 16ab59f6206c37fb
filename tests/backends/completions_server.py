"""A small completions server on loopback: a transformers model, adapters merged into it by PEFT, faults on demand."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


class Refusal(Exception):
    """Status and reason of an answer that is an error."""


class CompletionsServer(ThreadingHTTPServer):
    """Answers as vLLM does, each prompt in a forward pass of its own: the same whoever else is asking.

    `fault(path, body)`: called before each answer; it may raise Refusal, sleep, or `cut` the line. `asked`: paths in
    order. `loaded`: what each adapter's folder was called.
    """

    daemon_threads = True

    def __init__(self, base: Path, *, port: int = 0, key: str | None = None, limit: int = 1024) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.base_model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        self.models: dict[str, Any] = {"base": self.base_model}
        self.loaded: dict[str, Path] = {}
        self.key, self.limit = key, limit
        self.applies = True  # a server that takes any name for its one model does not
        self.asked: list[str] = []
        self.fault: Callable[[str, Any], None] = lambda path, body: None
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that has given up is no event."""

    def cards(self, _: Any = None) -> Any:
        own = {"id": "base", "parent": None, "max_model_len": self.limit}
        return {"data": [own, *({"id": name, "parent": "base"} for name in self.models if name != "base")]}

    def load(self, body: Any) -> str:
        name, path = body["lora_name"], Path(body["lora_path"])
        if name in self.models:
            raise Refusal(400, f"The lora adapter '{name}' has already been loaded.")
        if not (path / "adapter_config.json").is_file():
            raise Refusal(404, f"No adapter found for {path}")
        if self.applies:
            self.models[name] = PeftModel.from_pretrained(copy.deepcopy(self.base_model), path).merge_and_unload()
        else:
            self.models[name] = self.base_model
        self.loaded[name] = path
        return f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, body: Any) -> str:
        if self.models.pop(body["lora_name"], None) is None:
            raise Refusal(404, f"The lora adapter '{body['lora_name']}' cannot be found.")
        return "Success"

    @torch.inference_mode()
    def complete(self, body: Any) -> Any:
        if body["model"] not in self.models:
            raise Refusal(404, f"The model '{body['model']}' does not exist.")
        model = self.models[body["model"]]
        choices = [{"index": k, **self._choice(model, prompt, body)} for k, prompt in enumerate(body["prompt"])]
        return {"choices": choices[::-1]}  # in another order than asked

    def _choice(self, model: Any, prompt: list[int], body: Any) -> dict[str, Any]:
        if len(prompt) + body["max_tokens"] > self.limit:
            raise Refusal(400, f"This model's maximum context length is {self.limit} tokens.")
        if body.get("echo"):
            return self._echoed(model, prompt)
        ids = torch.tensor([prompt])
        tokens = model.generate(ids, do_sample=False, max_new_tokens=body["max_tokens"])[0].tolist()
        text = self.tokenizer.decode(tokens[len(prompt) :], skip_special_tokens=True)
        for stop in body["stop"]:
            text = text.split(stop)[0]
        return {"text": text, "logprobs": None}

    def _echoed(self, model: Any, prompt: list[int]) -> dict[str, Any]:
        """The prompt, one more token, and what was thought of them all."""
        found = model(torch.tensor([prompt])).logits[0].log_softmax(-1)  # (tokens, vocabulary)
        tokens = [*prompt, int(found[-1].argmax())]
        texts = [self.tokenizer.decode([token]) for token in tokens]
        own = [float(found[k, token]) for k, token in enumerate(tokens[1:])]
        top = [(self.tokenizer.decode([int(row.argmax())]), float(row.max())) for row in found]
        both = [{text: logprob, best[0]: best[1]} for text, logprob, best in zip(texts[1:], own, top, strict=True)]
        logprobs = {"tokens": texts, "token_logprobs": [None, *own], "top_logprobs": [None, *both]}
        return {"text": "".join(texts), "logprobs": logprobs}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: CompletionsServer

    def do_GET(self) -> None:
        self._serve({"/v1/models": self.server.cards}, None)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = {
            "/v1/completions": self.server.complete,
            "/v1/load_lora_adapter": self.server.load,
            "/v1/unload_lora_adapter": self.server.unload,
        }
        self._serve(known, body)

    def _serve(self, known: dict[str, Callable[[Any], Any]], body: Any) -> None:
        self.close_connection = True
        self.server.asked.append(self.path)
        try:
            if self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
                raise Refusal(401, "Unauthorized")
            self.server.fault(self.path, body)
            if self.path not in known:
                raise Refusal(404, "Not Found")
            with self.server.lock:
                answer = known[self.path](body)
        except Refusal as e:
            status, reason = e.args
            self._send(status, json.dumps({"error": {"message": reason, "code": status}}))
            return
        except ConnectionAbortedError:
            self.connection.close()
            return
        self._send(200, answer if isinstance(answer, str) else json.dumps(answer))

    def _send(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Nothing: tests read `asked`."""


@contextmanager
def running(base: Path, **settings: Any) -> Iterator[CompletionsServer]:
    with CompletionsServer(base, **settings) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def failing(times: int, status: int = 500, path: str = "/v1/completions") -> Callable[[str, Any], None]:
    """A fault that passes after so many answers."""
    left = iter(range(times))

    def fault(asked: str, _: Any) -> None:
        if asked == path and next(left, None) is not None:
            raise Refusal(status, "the engine has hiccups")

    return fault


def dying(after: int) -> Callable[[str, Any], None]:
    """A fault that never passes: after so many completions, every line is cut."""
    seen: list[str] = []

    def fault(asked: str, _: Any) -> None:
        seen.append(asked)
        if seen.count("/v1/completions") > after:
            raise ConnectionAbortedError

    return fault


def slow(seconds: float) -> Callable[[str, Any], None]:
    return lambda path, body: time.sleep(seconds)
