"""What a worker knows of its attempts: keys, fences, the queue, who is to be told. Pure bookkeeping, no processes."""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from opskit.core.runner.wire import Key, ProtocolError, as_key

WAITING, PLACED, ENDED = "waiting", "placed", "ended"
_dumps = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


@dataclass(slots=True, eq=False)
class Attempt:
    """One attempt from the frame that brought it until its result is acknowledged."""

    key: Key
    dag_id: str
    fileloc: str
    priority: int
    reuse: bool
    slotless: bool
    """It waits for an event, and occupies no slot."""
    log_path: str
    data: bytes
    """The Attempt as JSON."""
    version_hash: str = ""
    """Of the DAG, when it was dispatched."""
    release: str = ""
    """Of the DAG folder, from which that version was loaded; empty: a plain folder."""
    order: int = 0
    state: str = WAITING
    number: int = 0
    """What its zygote calls it."""
    pid: int | None = None
    started_at: str | None = None
    told_started: bool = False
    kill_reason: str | None = None
    result: bytes = b""
    ended_clock: float = 0.0
    stored: bool = False
    """Its result lies in attempt_result."""

    def __lt__(self, other: Attempt) -> bool:
        return (-self.priority, self.order) < (-other.priority, other.order)


@dataclass(slots=True)
class _Fence:
    epoch: int
    owner: int | None
    """Number of the connection that set it."""


@dataclass(slots=True)
class Ledger:
    """All attempts of one worker. A connection is known by a number."""

    _attempts: dict[Key, Attempt] = field(default_factory=dict)
    _by_dag: dict[str, set[Key]] = field(default_factory=dict)
    _fences: dict[str, _Fence] = field(default_factory=dict)
    _queue: list[Attempt] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=itertools.count)

    def __len__(self) -> int:
        return len(self._attempts)

    def __iter__(self) -> Iterator[Attempt]:
        return iter(list(self._attempts.values()))

    def get(self, key: Key) -> Attempt | None:
        return self._attempts.get(key)

    def fence(self, dag_id: str, epoch: int, connection: int) -> tuple[int, list[Attempt]]:
        """Set the fence. The epoch that is in force now, and the attempts of the DAG.

        An older epoch than the one in force changes nothing: its sender sees the newer one, and no attempts.
        """
        fence = self._fences.get(dag_id)
        if fence is not None and epoch < fence.epoch:
            return fence.epoch, []
        self._fences[dag_id] = _Fence(epoch, connection)
        return epoch, self._of(dag_id)

    def _of(self, dag_id: str) -> list[Attempt]:
        return [self._attempts[key] for key in self._by_dag.get(dag_id, ())]

    def owner(self, dag_id: str) -> int | None:
        """The connection that is told about this DAG."""
        fence = self._fences.get(dag_id)
        return None if fence is None else fence.owner

    def disconnected(self, connection: int) -> None:
        """The fences of a connection stay in force; nobody is told until another one takes over."""
        for fence in self._fences.values():
            if fence.owner == connection:
                fence.owner = None

    def admit(self, message: dict[str, Any], connection: int) -> tuple[Attempt | None, Key, str]:
        """Take an Attempt as it came over the wire: (attempt, key, ""), or (None, key, why it is refused).

        ProtocolError for a message without the fields that it needs.
        """
        try:
            key = as_key(message["key"])
            dag_id = message["dag_id"]
            epoch = message["epoch"]
            if key in self._attempts:
                return None, key, "known"
            fence = self._fences.get(dag_id)
            if fence is None:
                self._fences[dag_id] = _Fence(epoch, connection)
            elif epoch < fence.epoch:
                return None, key, "fenced"
            elif epoch > fence.epoch:
                self._fences[dag_id] = _Fence(epoch, connection)
            attempt = Attempt(
                key=key,
                dag_id=dag_id,
                fileloc=message["fileloc"],
                priority=message.get("priority") or 0,
                reuse=message.get("isolation") == "reuse" and message.get("kind", "task") == "task",
                slotless=message.get("kind") == "trigger",
                log_path=message["log_path"],
                data=_dumps(message).encode("utf-8", "surrogatepass"),
                version_hash=message.get("version_hash") or "",
                release=message.get("release") or "",
                order=next(self._order),
            )
        except (KeyError, TypeError) as error:
            raise ProtocolError(f"an attempt without {error}") from error
        self._attempts[key] = attempt
        self._by_dag.setdefault(dag_id, set()).add(key)
        return attempt, key, ""

    def enqueue(self, attempt: Attempt) -> None:
        attempt.state = WAITING
        heapq.heappush(self._queue, attempt)

    def next_waiting(self) -> Attempt | None:
        """Take the attempt with the highest priority, the longest waiting among equals, from the queue."""
        while self._queue:
            attempt = heapq.heappop(self._queue)
            if attempt.state == WAITING:
                return attempt
        return None

    @property
    def has_waiting(self) -> bool:
        return bool(self._queue)

    def waiting(self) -> list[Attempt]:
        return [attempt for attempt in self._attempts.values() if attempt.state == WAITING]

    def end(self, attempt: Attempt, result: bytes, clock: float) -> bool:
        """Keep a result until it is acknowledged; False when the attempt has ended before."""
        if attempt.state == ENDED:
            return False
        attempt.state = ENDED
        attempt.result = result
        attempt.ended_clock = clock
        attempt.data = b""
        return True

    def acknowledge(self, keys: Iterable[Any]) -> None:
        """Forget results that are durable. A key that has not ended, or is not known, is left alone."""
        for raw in keys:
            key = as_key(raw)
            attempt = self._attempts.get(key)
            if attempt is None or attempt.state != ENDED:
                continue
            del self._attempts[key]
            of_dag = self._by_dag[attempt.dag_id]
            of_dag.discard(key)
            if not of_dag:
                del self._by_dag[attempt.dag_id]

    def unacknowledged(self) -> list[Attempt]:
        return [attempt for attempt in self._attempts.values() if attempt.state == ENDED]
