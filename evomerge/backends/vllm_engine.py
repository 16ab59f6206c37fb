"""A vLLM engine: started from plain settings, asked by token ids, and stopped."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch

from evomerge.backends.vllm_install import check_device, version
from evomerge.errors import ConfigError, SearchFailed

T = TypeVar("T")
WORKER = "evomerge.backends.vllm_worker.MergingWorker"
#: A prompt is read to its last token and one more is made: two tokens that the HF backend's window does not need.
READ_AND_MADE = 2
#: Sampling settings that have a prompt's own log-probabilities returned, one a token.
READ: Mapping[str, Any] = {
    "max_tokens": 1,
    "temperature": 0.0,
    "prompt_logprobs": 0,
    "flat_logprobs": True,
    "detokenize": False,
}
_LOOPBACK = {"VLLM_HOST_IP": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
_QUIET = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "VLLM_DO_NOT_TRACK": "1"}
_SAFE = {"VLLM_WORKER_MULTIPROC_METHOD": "spawn", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}


@dataclass(frozen=True)
class EngineSettings:
    """What an engine is started with.

    `batch_size`: sequences at once. `max_length`: tokens of a prompt with its answer, None for the model's own.
    `processes`: the engine in a process of its own; ranks of a `tensor_parallel` above 1 always are. `kv_cache_gb`:
    None for what `gpu_memory_utilization` leaves, or 1 on a CPU.
    """

    batch_size: int = 16
    max_length: int | None = None
    tensor_parallel: int = 1
    gpu_memory_utilization: float = 0.9
    kv_cache_gb: float | None = None
    enforce_eager: bool = True
    processes: bool = False
    share_prefix: bool = True

    def check(self) -> None:
        """Raises ConfigError for a value out of its range, naming it."""
        for name, wrong, wanted in (
            ("batch_size", isinstance(self.batch_size, bool) or self.batch_size < 1, "a whole number from 1"),
            ("max_length", self.max_length is not None and self.max_length < 2, "at least 2 tokens, or null"),
            ("tensor_parallel", self.tensor_parallel < 1, "a whole number from 1"),
            ("gpu_memory_utilization", not 0 < self.gpu_memory_utilization <= 1, "a share in (0, 1]"),
            ("kv_cache_gb", self.kv_cache_gb is not None and self.kv_cache_gb <= 0, "more than 0, or null"),
        ):
            if wrong:
                raise ConfigError(f"backend.{name} is {getattr(self, name)!r}; wanted {wanted}.")


class Engine:
    """A running engine. `max_length`: tokens of prompt and answer together, as the HF backend counts them."""

    def __init__(
        self, settings: EngineSettings, folder: Path, device: torch.device, dtype: str, **engine_settings: Any
    ) -> None:
        """Starts it. `engine_settings` go to vLLM's LLM (enable_lora, ...). Raises ConfigError
        for a missing or untested vLLM, a device it was not built for, and whatever it does not accept."""
        version()
        _environment(settings)
        check_device(device)
        self._batch_size = settings.batch_size
        self._ended = ""
        arguments = _arguments(settings, folder, device, dtype)
        self._llm = _started(folder, {**arguments, "worker_extension_cls": WORKER, **engine_settings})
        self._processes = _own_processes()
        try:
            self.call("evomerge_watch", os.getpid(), psutil.Process().create_time())
            self.max_length = int(self._llm.llm_engine.model_config.max_model_len) - READ_AND_MADE
            self.block_size = int(self._llm.llm_engine.vllm_config.cache_config.block_size)
        except BaseException:
            self.stop()
            raise

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Mapping[str, Any],
        *,
        at_once: int | None = None,
        lora_request: Any = None,
    ) -> list[Any]:
        """vLLM's outputs of prompts of token ids, in their order; `sampling` are the fields of SamplingParams.

        `at_once`: fewer sequences than the engine takes, after memory ran out.
        """
        from vllm import SamplingParams

        step = max(1, len(prompts) if at_once is None or at_once >= self._batch_size else at_once)
        settings: dict[str, Any] = {"use_tqdm": False, "lora_request": lora_request}
        found: list[Any] = []
        for start in range(0, len(prompts), step):
            some = [{"prompt_token_ids": list(map(int, ids))} for ids in prompts[start : start + step]]
            found += self._alive(partial(self._llm.generate, some, SamplingParams(**sampling), **settings))
        return found

    def call(self, method: str, *args: Any) -> list[Any]:
        """What each worker's method answers. Numbers, strings, bytes and lists of these travel."""
        return self._alive(lambda: list(self._llm.collective_rpc(method, args=args)))

    def add_lora(self, request: Any) -> None:
        self._alive(lambda: self._llm.llm_engine.add_lora(request))

    def forget(self) -> None:
        """Drop what was computed with earlier weights. Raises SearchFailed if vLLM refuses: answers would be stale."""
        if not self._alive(lambda: self._llm.reset_prefix_cache()):
            raise SearchFailed("vLLM did not empty its prefix cache; answers would mix two candidates' weights.")

    def stop(self) -> None:
        """Ends its processes and frees its memory; a second call does nothing."""
        if self._llm is None:
            return
        try:
            self._llm.llm_engine.engine_core.shutdown()
        finally:
            self._llm = None
            self._ended = "it was stopped"
            _kill(self._processes)
        gc.collect()
        _leave_group()

    def _alive(self, ask: Callable[[], T]) -> T:
        try:
            if not self._ended:
                return ask()
        except Exception as e:
            if not _is_dead(e):
                raise
            self._ended = f"{type(e).__name__}: {e}"
        raise SearchFailed(
            f"vLLM's engine has ended ({self._ended}). The journal keeps what was paid: resume the run with the same "
            "command. If it happens again, set VLLM_LOGGING_LEVEL=INFO and lower backend.batch_size or "
            "backend.gpu_memory_utilization."
        )


def _own_processes() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if _name(p).startswith("VLLM")]


def _name(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return str(process.name())
    return ""


def _kill(processes: Iterable[psutil.Process]) -> None:
    """One whose peer died waits for it for ever."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _is_dead(error: Exception) -> bool:
    from vllm.v1.engine.exceptions import EngineDeadError

    return isinstance(error, EngineDeadError) or "Executor failed" in str(error) or str(error) == "cancelled"


def _environment(settings: EngineSettings) -> None:
    """What vLLM reads from the environment, now and in its workers; what a user has set stands, but for one."""
    threads = max(1, torch.get_num_threads() // settings.tensor_parallel)
    for name, value in {**_LOOPBACK, **_QUIET, **_SAFE, "OMP_NUM_THREADS": str(threads)}.items():
        os.environ.setdefault(name, value)
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = str(int(settings.processes))


def _arguments(settings: EngineSettings, folder: Path, device: torch.device, dtype: str) -> dict[str, Any]:
    kv_cache_gb = settings.kv_cache_gb or (1.0 if device.type == "cpu" else None)
    return {
        "model": str(folder),
        "dtype": dtype,
        "max_model_len": None if settings.max_length is None else settings.max_length + READ_AND_MADE,
        "max_num_seqs": settings.batch_size,
        "tensor_parallel_size": settings.tensor_parallel,
        "distributed_executor_backend": "mp" if settings.tensor_parallel > 1 else "uni",
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        "kv_cache_memory_bytes": None if kv_cache_gb is None else int(kv_cache_gb * 2**30),
        "enforce_eager": settings.enforce_eager,
        "enable_prefix_caching": settings.share_prefix,
        "seed": 0,
    }


def _started(folder: Path, arguments: dict[str, Any]) -> Any:
    before = set(_own_processes())  # another engine's
    try:
        from vllm import LLM

        return LLM(**arguments)
    except BaseException as e:  # many kinds: an unknown architecture, too little memory, a setting out of range
        _kill(set(_own_processes()) - before)
        _leave_group()
        if not isinstance(e, Exception):
            raise
        reason = " ".join(str(e).split())[:600]
        raise ConfigError(
            f"vLLM does not start with {folder} ({type(e).__name__}: {reason}). Lower backend.max_length or "
            "backend.kv_cache_gb if memory is short; use backend=hf for models that vLLM does not know."
        ) from e


def _leave_group() -> None:
    """An engine in this process leaves torch.distributed initialised, and the next one could not start."""
    from vllm.distributed import cleanup_dist_env_and_memory

    cleanup_dist_env_and_memory()
