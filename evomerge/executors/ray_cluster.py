"""Workers as actors of a Ray cluster, on one machine or many; a lost one is replaced, wherever there is room."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from evomerge.errors import ConfigError, EvomergeError
from evomerge.executors import ray_session
from evomerge.executors.crew import Fault, Message
from evomerge.executors.jobs import Job
from evomerge.executors.limits import Limits
from evomerge.executors.pool import Pool
from evomerge.executors.ray_actor import Actor, Place, versions
from evomerge.executors.ray_claims import Claim, check_settings, claim, of_one_device, places, resources
from evomerge.executors.ray_seat import Seat, last_words
from evomerge.executors.ray_session import Session
from evomerge.executors.relocation import packed
from evomerge.executors.shares import lone


def ray_cluster(
    workers: int | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    address: str | None = None,
    parents_dir: str | None = None,
    retries: int = 2,
    strikes: int = 3,
    timeout: float | None = None,
    start_timeout: float | None = 1800.0,
) -> Pool:
    """The executor `ray_cluster`; see conf/executor/ray_cluster.yaml. Raises ConfigError for values out of range."""
    crew = RayCrew(workers, num_cpus, num_gpus, address, parents_dir)
    return Pool(crew, Limits(retries, strikes, timeout, start_timeout))


class RayCrew:
    """A crew of actors. They are not detached: they end with their driver, even where that is killed."""

    def __init__(
        self,
        workers: int | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        address: str | None = None,
        parents_dir: str | None = None,
    ):
        check_settings(workers, num_cpus, num_gpus)
        self._workers, self._cpus, self._gpus = workers, num_cpus, num_gpus
        self._address, self._parents_dir = address, parents_dir
        self.size = workers or 1
        self.notes: tuple[str, ...] = ()
        self._session: Session | None = None
        self._seats: list[Seat] = []
        self._said = deque[Message]()

    # ------------------------------------------------------------ beginning and end

    def check(self, evaluator: Any) -> None:
        """Joins the cluster, or starts it, for only then is known what it has."""
        ray_session.check_version()
        each, least = claim(evaluator, self._cpus, self._gpus), self._workers or 1
        if self._session is None:
            self._session = self._joined(least * each.cpus)
        room = places(self._ray.nodes(), each)
        if room < least:
            has = self._ray.cluster_resources()
            self.close()
            raise ConfigError(
                f"executor.workers={least} want {each.times(least)}, and the cluster has "
                f"{resources(has.get('CPU', 0), has.get('GPU', 0))}, room for {room} of them. Lower executor.workers, "
                "executor.num_cpus or executor.num_gpus, or add nodes."
            )
        self.size = self._workers or room
        self.notes = (*self._session.notes, *self._lone(each))

    def start(self, evaluator: Any) -> None:
        self.check(evaluator)
        ray, each = self._ray, claim(evaluator, self._cpus, self._gpus)
        self._each = each
        # references are kept: what nobody refers to is dropped from the store, and successors need it
        self._evaluator = ray.put(_pickled(ray, of_one_device(evaluator)))
        family = getattr(evaluator, "family", None)
        self._luggage = None if family is None else ray.put(_pickled(ray, packed(family)))
        self._surveys: dict[str, Any] = {}  # by node: a reference to the family that its files make up
        options = {"num_cpus": each.cpus, "num_gpus": each.gpus, "max_restarts": 0, "max_task_retries": 0}
        actors = ray.remote(**options)(Actor)
        self._seats = [Seat(ray, actors) for _ in range(self.size)]

    def close(self) -> None:
        for seat in self._seats:
            seat.end()
        self._seats, self._evaluator, self._luggage, self._surveys = [], None, None, {}
        self._said.clear()
        session, self._session = self._session, None
        if session:
            session.leave()

    def _lone(self, each: Claim) -> tuple[str, ...]:
        by_threads = self._workers is None and self._cpus is None and not each.gpus
        return lone(self.size, each.threads, int(self._ray.cluster_resources().get("CPU", 0))) if by_threads else ()

    def _joined(self, cpus: float) -> Session:
        return ray_session.start(cpus) if self._address is None else ray_session.join(self._address)

    @property
    def _ray(self) -> Any:
        assert self._session is not None, "check or start come first"
        return self._session.ray

    # ------------------------------------------------------------ what a pool asks

    def open(self, worker: int) -> None:
        self._seats[worker].open()

    def opening(self, worker: int) -> str:
        if place := self._seats[worker].place:
            return f"its actor on {place.host} is loading the model"
        has, free = self._ray.cluster_resources(), self._ray.available_resources()
        return (
            f"no place for it: it wants {self._each}, and of the cluster's "
            f"{resources(has.get('CPU', 0), has.get('GPU', 0))} there are free "
            f"{resources(free.get('CPU', 0), free.get('GPU', 0))}; others may have to finish, or nodes to be added"
        )

    def host(self, worker: int) -> str:
        place = self._seats[worker].place
        return place.host if place else "no place yet"

    def alive(self, worker: int) -> bool:
        if why := self._seats[worker].silence():
            self._lost(worker, why)
        return not why

    def send(self, worker: int, job: Job) -> None:
        self._seats[worker].give(job)

    def wait(self, seconds: float) -> Sequence[Message]:
        answering = self._answering(0.0 if self._said else seconds)
        while answering:
            for worker in answering:
                self._answered(worker)
            answering = self._answering(0.0)  # the next calls of the same workers
        said = list(self._said)
        self._said.clear()
        return said

    def kill(self, worker: int) -> None:
        seat = self._seats[worker]
        if seat.actor is not None:  # else it has said "died"
            self._lost(worker, "killed by the driver" if seat.place else self.opening(worker))

    def _answering(self, seconds: float) -> list[int]:
        """Whose oldest calls are answered; waits for the first so long at most."""
        heads = {seat.calls[0][1]: worker for worker, seat in enumerate(self._seats) if seat.calls}
        if not heads:
            time.sleep(seconds)
            return []
        self._ray.wait(list(heads), timeout=seconds)
        done, _ = self._ray.wait(list(heads), num_returns=len(heads), timeout=0)
        return [heads[reference] for reference in done]

    # ------------------------------------------------------------ what actors say

    def _answered(self, worker: int) -> None:
        seat, ray = self._seats[worker], self._ray
        purpose, reference = seat.calls.popleft()
        try:
            answer = ray.get(reference)
        except ray.exceptions.RayError as e:
            self._failed(worker, purpose, str(e))
            return
        if purpose == "greet":
            self._greeted(worker, answer)
        elif purpose != "begin":
            for kind, payload in answer:
                self._heard(worker, Message(worker, kind, payload))

    def _greeted(self, worker: int, place: Place) -> None:
        seat, ours = self._seats[worker], versions()
        seat.place = place
        if odd := [name for name in ours if place.versions[name] != ours[name]]:
            told = ", ".join(f"{name} {place.versions[name]} ({ours[name]} at the driver)" for name in odd)
            self._stop(worker, ConfigError(f"node {place.host} has {told}. Install the driver's versions there."))
        else:
            family = self._surveyed(seat, place)
            seat.calls.append(("open", seat.actor.open.remote(self._evaluator, self._each.threads, family)))

    def _surveyed(self, seat: Seat, place: Place) -> Any:
        """What the first actor of a node finds of its files; None on the driver's own, which sees the same ones."""
        assert self._session is not None
        if self._luggage is None or (place.node == self._session.own_node and self._parents_dir is None):
            return None
        if place.node not in self._surveys:
            self._surveys[place.node] = seat.actor.survey.remote(self._luggage, self._parents_dir)
        return self._surveys[place.node]

    def _heard(self, worker: int, message: Message) -> None:
        seat = self._seats[worker]
        if message.kind == "died":  # it could not open, and lives
            self._lost(worker, message.payload)
        else:
            if message.kind in ("done", "full", "sick", "error"):
                seat.calls.clear()  # the rungs that a judge spared
            self._said.append(message)

    # ------------------------------------------------------------ what goes wrong

    def _failed(self, worker: int, purpose: str, why: str) -> None:
        place = self._seats[worker].place
        if place and purpose == "open":
            self._surveys.pop(place.node, None)  # it may be the surveyor that was lost
        if missing := re.findall(r"ModuleNotFoundError: (.*)", why):
            fault = ConfigError(
                f"the cluster cannot run a worker: {missing[-1]}. Install the driver's versions of evomerge and of "
                "what it needs on every node, or ship them with Ray's runtime_env."
            )
            self._stop(worker, fault)
        else:
            self._lost(worker, last_words(why, place))

    def _lost(self, worker: int, why: str) -> None:
        self._seats[worker].end()
        self._said.append(Message(worker, "died", why))

    def _stop(self, worker: int, error: EvomergeError) -> None:
        self._said.append(Message(worker, "error", Fault.of(error)))


def _pickled(ray: Any, what: Any) -> bytes:
    try:
        return bytes(ray.cloudpickle.dumps(what))
    except Exception as e:  # whatever a user's own class raises
        raise ConfigError(
            f"what is to be evaluated cannot be sent to another process ({type(e).__name__}: {e}). Leave open files, "
            "locks and live models out of code of your own; or use executor=local."
        ) from e
