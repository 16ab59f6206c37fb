"""Client of a server with the OpenAI completions API: JSON over HTTP, patient with failures that pass."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPException
from typing import Any, TypeAlias
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from evomerge.errors import ConfigError, SearchFailed

KEY = "OPENAI_API_KEY"  # the only place a key is taken from; it is sent to the server and written nowhere
LONGEST = 60.0  # seconds between two attempts
LOOPBACK = ("localhost", "127.0.0.1", "::1")
PASSING = (408, 425, 429)  # of the 4xx: asked again later, they may be served

#: One completion, as the API has it: text, and logprobs or None.
Choice: TypeAlias = Mapping[str, Any]


class Unavailable(SearchFailed):
    """The server gave no sound answer, however often it was asked. `status`: its last error's, None without one."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Refused(Exception):
    """The server will not serve this request (4xx), and would not if it were asked again."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status, self.reason = status, reason

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}"


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """None: a redirect is an error, for the key would travel to wherever it leads."""


def address(base_url: str | None) -> str:
    """The API's root without a slash at its end, /v1 where no path is given. Raises ConfigError if it is none."""
    if base_url is None:
        raise ConfigError(
            "backend.base_url is null; wanted the root of a server with the OpenAI completions API that holds the base "
            "and serves adapters, such as http://127.0.0.1:8000/v1."
        )
    try:
        parts = urlsplit(base_url)
        sound = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        sound = False
    if not sound:
        raise ConfigError(f"backend.base_url is {base_url!r}; wanted http(s)://HOST:PORT/v1.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError(
            "backend.base_url holds more than scheme, host and path, and settings are written down with every run. "
            f"Give http(s)://HOST:PORT/v1, and a key by the environment variable {KEY}."
        )
    path = parts.path.rstrip("/").removesuffix("/completions")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


@dataclass(frozen=True)
class Server:
    """A server at rest: each call opens a connection of its own, so threads may share it.

    timeout: seconds without a byte. A call that fails for a passing reason (no connection, no answer in time, 5xx,
    408, 425, 429) is repeated `retries` times, `backoff` seconds later and twice as long each time; not once `left` is
    set: nobody waits for the answer any more.
    """

    url: str
    timeout: float = 300.0
    retries: int = 5
    backoff: float = 1.0
    left: threading.Event = field(default_factory=threading.Event, compare=False, repr=False)

    def models(self) -> dict[str, Mapping[str, Any]]:
        """What is served, by name. Raises Unavailable, Refused, ConfigError (401, 403, a redirect)."""
        found = self._call("models")
        try:
            return {card["id"]: card for card in found["data"]}
        except (TypeError, KeyError) as e:
            raise self._unsound("models", found) from e

    def post(self, path: str, **body: Any) -> Any:
        """The answer as JSON, or as text if it is none. Raises as `models` does."""
        return self._call(path, body)

    def complete(self, model: str, prompts: Sequence[Sequence[int]], **settings: Any) -> list[Choice]:
        """One completion for each prompt of token ids, in their order. Raises as `models` does."""
        found = self.post("completions", model=model, prompt=[list(p) for p in prompts], **settings)
        try:
            choices = {c["index"]: {"text": c["text"], "logprobs": c.get("logprobs")} for c in found["choices"]}
            return [choices[k] for k in range(len(prompts))]  # servers may finish them in any order
        except (TypeError, KeyError) as e:
            raise self._unsound("completions", found) from e

    def _call(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        last = Unavailable("")
        for attempt in range(self.retries + 1):
            if attempt and self.left.wait(min(LONGEST, self.backoff * 2 ** (attempt - 1))):
                break
            try:
                return self._once(path, body)
            except Unavailable as e:
                last = e
        raise Unavailable(
            f"{self.url}/{path} {last}; asked {self.retries + 1} times. Look at the server's log, start it again, and "
            "repeat the command: the journal keeps what was paid.",
            last.status,
        )

    def _once(self, path: str, body: Mapping[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        try:
            with self._opener.open(Request(f"{self.url}/{path}", data, headers), timeout=self.timeout) as response:
                return _parsed(response.read())
        except HTTPError as e:
            with e:
                raise self._failure(e.code, _reason(e.read())) from None
        except (OSError, HTTPException) as e:  # refused, reset, closed in mid-answer, too late
            raise Unavailable(f"does not answer ({_cause(e)})") from e

    def _failure(self, status: int, reason: str) -> Exception:
        if status in (401, 403):
            return ConfigError(f"{self.url} wants another key ({status}: {reason}). Set the variable {KEY}.")
        if 300 <= status < 400:
            return ConfigError(f"{self.url} redirects elsewhere. Set backend.base_url to where it leads.")
        if status >= 500 or status in PASSING:
            return Unavailable(f"fails ({status}: {reason})", status)
        return Refused(status, reason)

    def _unsound(self, path: str, answer: Any) -> Unavailable:
        return Unavailable(
            f"{self.url}/{path} answers {str(answer)[:200]!r}, which is not what the OpenAI API says. Wanted a server "
            "with its completions."
        )

    @cached_property
    def _opener(self) -> OpenerDirector:
        near = urlsplit(self.url).hostname in LOOPBACK
        return build_opener(_NoRedirect, *([ProxyHandler({})] if near else []))  # a proxy cannot reach this machine


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.decode(errors="replace")


def _reason(text: bytes) -> str:
    """What an error's body says: {"error": {"message": ...}}, {"detail": ...} or plain text."""
    found = _parsed(text)
    if isinstance(found, Mapping):
        inner = found.get("error", found.get("detail", found))
        found = inner.get("message", inner) if isinstance(inner, Mapping) else inner
    return " ".join(str(found).split())[:400] or "no reason given"


def _cause(error: Exception) -> str:
    return str(getattr(error, "reason", error)) or type(error).__name__
