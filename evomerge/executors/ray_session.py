"""A Ray cluster: joined where one runs, else started on this machine alone; the one file that imports ray."""

from __future__ import annotations

import math
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from evomerge.errors import ConfigError

OLDEST = (2, 40)  # earlier ones were never tried
STORE = 100 * 2**20  # bytes of shared memory for what Ray passes around: an evaluator, which has no weights
KNOCKING = 5.0  # seconds for an address to answer; Ray itself would try for minutes

#: Of a Ray of our own: it reports to nobody, hides no GPUs from workers that claim none, and listens on loopback
#: (Ray takes an address given as 127.0.0.1 for the machine's own; only this switch, read at its import, does not).
ALONE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


@dataclass(frozen=True)
class Session:
    """A cluster that this process is a driver of. own_node: the id of the node whose files the driver sees."""

    ray: Any
    started: bool = False
    own_node: str | None = None
    notes: tuple[str, ...] = ()

    def leave(self) -> None:
        """End the cluster if it was started here; others go on without us."""
        if self.started:
            self.ray.shutdown()


def check_version() -> None:
    """Raises ConfigError if Ray is missing or too old. Imports nothing: Ray reads settings at its import."""
    wanted = ".".join(map(str, OLDEST))
    try:
        found = version("ray")
    except PackageNotFoundError as e:
        raise ConfigError(f"executor=ray_cluster needs Ray {wanted} or later: pip install 'evomerge[ray]'") from e
    if tuple(int(n) for n in re.findall(r"\d+", found)[:2]) < OLDEST:
        raise ConfigError(f"Ray is {found}; wanted {wanted} or later: pip install 'evomerge[ray]'")


def start(cpus: float) -> Session:
    """A Ray of this machine with room for so many CPUs, more than it has if need be; one that runs here serves too."""
    imported_before = "ray" in sys.modules
    with _environment(ALONE):
        import ray

        if ray.is_initialized():
            return _session(ray)
        with _own_signals():
            ray.init(
                address="local",
                num_cpus=max(math.ceil(cpus), os.cpu_count() or 1),
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
                object_store_memory=STORE,
            )
    address = str(ray.get_runtime_context().gcs_address).rpartition(":")[0]
    note = f"Ray listens on {address}, not on loopback alone, for it had been imported before it was started"
    return _session(ray, started=True, notes=(note,) if imported_before and address != "127.0.0.1" else ())


def join(address: str) -> Session:
    """A running cluster. Raises ConfigError if none answers, or it does not take this driver."""
    _knock(os.environ.get("RAY_ADDRESS", "") if address == "auto" else address)
    import ray

    if ray.is_initialized():
        return _session(ray, shared=not address.startswith("ray://"))
    try:
        with _own_signals():
            ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as e:
        raise ConfigError(
            f"no Ray cluster could be joined at executor.address={address}: {e}. Wanted one of the same versions of "
            "Ray and Python (`ray status` on its head shows that it runs) and, where Ray asks for it, the cluster's "
            "token in RAY_AUTH_TOKEN or ~/.ray/auth_token; null starts a Ray of its own on this machine."
        ) from e
    return _session(ray, shared=not address.startswith("ray://"))


def current_node() -> str:
    """The id of the node that this process runs on; inside a cluster only."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def _session(ray: Any, *, started: bool = False, shared: bool = True, notes: tuple[str, ...] = ()) -> Session:
    """shared: the driver's node is this machine; through ray:// it is the cluster's head."""
    node = ray.get_runtime_context().get_node_id() if shared else None
    return Session(ray, started, node, notes)


def _knock(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        if address:
            raise ConfigError(
                f"executor.address is {address!r}; wanted null, auto, HOST:PORT (6379 unless told otherwise) or "
                "ray://HOST:PORT (10001)."
            )
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCKING).close()
    except OSError as e:
        raise ConfigError(
            f"nothing answers at executor.address={address} ({e}). Start a cluster there (`ray start --head`), check "
            "host, port and firewall, or set null for a Ray of its own on this machine."
        ) from e


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Settings that a child inherits; what the user has set stays."""
    new = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray makes SIGTERM end the driver at once; what it means is decided by the search, which has a row to finish."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
