"""What an executor must guarantee. `tests/contracts/test_executor.py` is its suite.

* An attempt that was accepted ends with one result, repeated until it is acknowledged, or its worker is lost.
* After `fence(dag_id, epoch, ask)` no attempt of that DAG with a lower epoch starts; a `Held` event with the same `ask`
  follows that names every attempt it has. What was dispatched after the fence may be missing in it.
* A key is never started twice.
* No call blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from opskit.core.runner import wire

AttemptKey = wire.Key
"""`(dag_run_id, task_id, map_index, dispatch)`"""


@dataclass(frozen=True, slots=True)
class WorkerJoined:
    """A worker can be reached; what it holds of any DAG is unknown until `fence` is answered."""

    worker_id: str
    hostname: str
    pid: int
    slots: int


@dataclass(frozen=True, slots=True)
class WorkerGone:
    """The connection to the worker is lost. Its attempts may still run."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class Held:
    dag_id: str
    epoch: int
    keys: frozenset[AttemptKey]
    ask: int = 0
    """Of the fence that it answers."""


@dataclass(frozen=True, slots=True)
class Started:
    key: AttemptKey
    pid: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Ended:
    """A *Result* of ARCHITECTURE.md, times parsed."""

    key: AttemptKey
    dag_id: str
    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    key: AttemptKey
    reason: str


Event = WorkerJoined | WorkerGone | Held | Started | Ended | Refused


class Executor(Protocol):
    @property
    def worker_id(self) -> str | None:
        """The worker that attempts go to; None while none can be reached."""
        ...

    @property
    def slots(self) -> int:
        """Attempts that it runs at once."""
        ...

    def fileno(self) -> int:
        """Readable when `events` has something; -1 while there is nothing to wait for."""
        ...

    def wants_write(self) -> bool:
        """Whether output waits for the descriptor to become writable."""
        ...

    def events(self, now: datetime) -> list[Event]:
        """Take what has happened; tries to connect again where needed."""
        ...

    def fence(self, dag_id: str, epoch: int, ask: int = 0) -> None: ...

    def dispatch(self, attempts: Sequence[dict[str, Any]]) -> None:
        """Start these *Attempts* of ARCHITECTURE.md."""
        ...

    def acknowledge(self, keys: Iterable[AttemptKey]) -> None: ...

    def kill(self, keys: Iterable[AttemptKey], reason: str) -> None: ...

    def flush(self) -> None:
        """Send what the calls above have queued."""
        ...

    def close(self) -> None: ...


def parse_result(message: dict[str, Any]) -> dict[str, Any]:
    """A *Result* as it came over the wire, with its times parsed."""
    for name in ("started_at", "ended_at", "reschedule_at"):
        if message.get(name):
            message[name] = datetime.fromisoformat(message[name])
    return message
