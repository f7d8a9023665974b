"""What the processes of one webserver tell each other of themselves: memory that they share, made before the forks.

Each cell is eight bytes wide and written by one process, so no lock is needed.
"""

from __future__ import annotations

import mmap
import time

_CELLS = 8
_TURNS, _TURNED_AT, _PROOFS, _PROVED_AT, _TAKEN, _OPEN = range(6)


class Board:
    """`seats[0]` is the supervisor's, or that of a webserver of one process."""

    def __init__(self, seats: int) -> None:
        memory = memoryview(mmap.mmap(-1, seats * _CELLS * 8))
        self._numbers, self._times = memory.cast("Q"), memory.cast("d")
        self.seats = [Seat(self._numbers, self._times, index * _CELLS) for index in range(seats)]


class Seat:
    """Of one process at a time. Moments are on the monotonic clock; what is counted goes on with its successor."""

    def __init__(self, numbers: memoryview[int], times: memoryview[float], start: int) -> None:
        self._numbers, self._times, self._start = numbers, times, start

    def begin(self) -> None:
        """A new process sits down."""
        for cell in (_TAKEN, _OPEN):
            self._numbers[self._start + cell] = 0
        for cell in (_TURNED_AT, _PROVED_AT):
            self._times[self._start + cell] = 0.0

    def turn(self, connections_taken: int = 0, connections_open: int = 0) -> None:
        """Its main loop goes round."""
        self._numbers[self._start + _OPEN] = connections_open
        self._numbers[self._start + _TAKEN] = connections_taken
        self._times[self._start + _TURNED_AT] = time.monotonic()
        self._numbers[self._start + _TURNS] += 1

    def prove(self) -> None:
        """It could have answered a request."""
        self._times[self._start + _PROVED_AT] = time.monotonic()
        self._numbers[self._start + _PROOFS] += 1

    @property
    def turns(self) -> int:
        return self._numbers[self._start + _TURNS]

    @property
    def proofs(self) -> int:
        return self._numbers[self._start + _PROOFS]

    @property
    def turned_at(self) -> float:
        """0: not yet."""
        return self._times[self._start + _TURNED_AT]

    @property
    def proved_at(self) -> float:
        """0: not yet."""
        return self._times[self._start + _PROVED_AT]

    @property
    def connections(self) -> tuple[int, int]:
        """How many it was given and has taken, and how many are open."""
        return self._numbers[self._start + _TAKEN], self._numbers[self._start + _OPEN]


class Rounds:
    """Counts how often all of some processes have moved on: what the webserver as a whole has proven."""

    def __init__(self, supervisor: Seat, workers: list[Seat]) -> None:
        self._supervisor = supervisor
        self._workers = workers
        self._seen = self._now()
        self.count = 0
        self.at = time.time()
        """Unix time of the last one."""

    def look(self) -> bool:
        """Whether each has proven itself since the last round."""
        now = self._now()
        if any(new == old for new, old in zip(now, self._seen, strict=True)):
            return False
        self._seen = now
        self.count += 1
        self.at = time.time()
        return True

    def _now(self) -> list[int]:
        return [self._supervisor.turns, *(worker.proofs for worker in self._workers)]
