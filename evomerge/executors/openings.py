"""Which workers are being opened: when each is due, how long it has taken, and how often in a row it has failed."""

from __future__ import annotations

import math
from collections import Counter

OPENINGS = 3  # tries in a row after which a worker is no longer hoped for
NOTICE = 300.0  # seconds without any worker ready before that is told


def pause(failures: int) -> float:
    """Seconds to wait before a worker is opened again that could not be opened so many times in a row."""
    return min(60.0, 0.5 * 2.0 ** (failures - 1)) if failures else 0.0


class Openings:
    """Of workers 0 to size-1, all due at once. Times are seconds of one clock; patience: what an opening may take."""

    def __init__(self, size: int, patience: float | None, now: float):
        self._size, self._began = size, now
        self._patience = math.inf if patience is None else patience
        self._due = dict.fromkeys(range(size), now)
        self._since: dict[int, float] = {}
        self._failures = Counter[int]()
        self._silent = True  # nobody was ready yet, and nothing was told of it

    def __contains__(self, worker: int) -> bool:
        """Whether it is being opened now."""
        return worker in self._since

    def take(self, now: float) -> list[int]:
        """Who is due; from now on they are being opened."""
        due = [worker for worker, at in self._due.items() if at <= now]
        for worker in due:
            del self._due[worker]
            self._since[worker] = now
        return due

    def ready(self, worker: int) -> None:
        self._since.pop(worker, None)
        del self._failures[worker]
        self._silent = False

    def ended(self, worker: int, now: float) -> int:
        """It died, and is due again: after a pause if it was being opened. Returns how often in a row that failed."""
        self._failures[worker] += self._since.pop(worker, None) is not None
        self._due[worker] = now + pause(self._failures[worker])
        return self._failures[worker]

    def late(self, now: float) -> list[int]:
        """Whose opening has taken too long; each is told once."""
        late = [worker for worker, since in self._since.items() if now - since >= self._patience]
        self._since.update(dict.fromkeys(late, math.inf))
        return late

    def hopeless(self) -> bool:
        """Nobody serves, and nobody is opened who has not failed often. A first opening that lasts is hope."""
        return all(self._failures[worker] >= OPENINGS for worker in range(self._size))

    def overdue(self, now: float) -> bool:
        """True once: nobody was ready for a while."""
        told = self._silent and now - self._began >= NOTICE
        self._silent = self._silent and not told
        return told

    def next(self, now: float) -> float:
        """Seconds until someone is due or late; infinite if nobody ever will be."""
        late = [since + self._patience for since in self._since.values()]
        return max(0.0, min([*self._due.values(), *late], default=math.inf) - now)
