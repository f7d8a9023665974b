"""Runs attempts on the worker of this OPSKIT_HOME, over its Unix socket: LocalExecutor and SequentialExecutor."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from opskit.core.executors import contract
from opskit.core.runner import wire

logger = logging.getLogger(__name__)

_RECONNECT_SECONDS = 0.25
_COMPLAIN_SECONDS = 5.0
_SILENCE_SECONDS = 20.0
"""The worker beats every 2 s; one that is silent for so long is frozen, and its connection is given up."""


class LocalExecutor:
    def __init__(self, run_folder: Path, scheduler_id: str) -> None:
        self._run_folder = run_folder
        self._scheduler_id = scheduler_id
        self._connection: wire.FrameConnection | None = None
        self._worker_id: str | None = None
        self._slots = 0
        self._next_try = 0.0
        self._heard = 0.0
        self._complain_at = time.monotonic() + _COMPLAIN_SECONDS

    @property
    def worker_id(self) -> str | None:
        return self._worker_id

    @property
    def slots(self) -> int:
        return self._slots if self._worker_id is not None else 0

    def fileno(self) -> int:
        return -1 if self._connection is None else self._connection.fileno()

    def wants_write(self) -> bool:
        return self._connection is not None and self._connection.wants_write

    def events(self, now: datetime) -> list[contract.Event]:
        if self._connection is None and not self._connect():
            return []
        assert self._connection is not None
        events: list[contract.Event] = []
        try:
            for frame in self._connection.receive():
                self._heard = time.monotonic()
                event = self._event(frame)
                if event is not None:
                    events.append(event)
        except (wire.ConnectionClosed, wire.ProtocolError) as error:
            events.extend(self._lose(str(error)))
        if self._connection is not None and time.monotonic() - self._heard > _SILENCE_SECONDS:
            events.extend(self._lose(f"silent for {_SILENCE_SECONDS:g} s"))
        return events

    def _connect(self) -> bool:
        clock = time.monotonic()
        if clock < self._next_try:
            return False
        self._next_try = clock + _RECONNECT_SECONDS
        self._connection = wire.connect(self._run_folder, self._scheduler_id)
        if self._connection is None:
            if clock >= self._complain_at:
                logger.warning("no worker runs here: task instances wait until `opskit worker` is started")
                self._complain_at = math.inf
            return False
        self._heard = clock
        return True

    def _lose(self, why: str) -> list[contract.Event]:
        worker, self._worker_id = self._worker_id, None
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._next_try = time.monotonic() + _RECONNECT_SECONDS
        self._complain_at = time.monotonic() + _COMPLAIN_SECONDS
        logger.debug("worker connection: %s", why)
        return [] if worker is None else [contract.WorkerGone(worker)]

    def _event(self, frame: dict[str, Any]) -> contract.Event | None:
        match frame.get("t"):
            case "result":
                key = wire.as_key(frame["key"])
                return contract.Ended(key, frame["dag_id"], contract.parse_result(frame))
            case "started":
                return contract.Started(wire.as_key(frame["key"]), frame["pid"], datetime.fromisoformat(frame["at"]))
            case "held":
                keys = frozenset(wire.as_key(key) for key in frame["keys"])
                return contract.Held(frame["dag_id"], frame["epoch"], keys, frame.get("ask", 0))
            case "welcome":
                if frame["protocol"] != wire.PROTOCOL:
                    raise wire.ProtocolError(f"the worker speaks protocol {frame['protocol']}, not {wire.PROTOCOL}")
                self._worker_id = frame["worker"]
                self._slots = frame["slots"]
                return contract.WorkerJoined(frame["worker"], frame["hostname"], frame["pid"], frame["slots"])
            case "refused":
                return contract.Refused(wire.as_key(frame["key"]), frame["reason"])
        return None  # beat, and what a newer worker may say

    # Commands are queued here and sent by `flush`. Without a connection they are void: a new one begins with fences.

    def _put(self, frame: dict[str, Any]) -> None:
        if self._connection is not None and self._worker_id is not None:
            self._connection.put(frame)

    def fence(self, dag_id: str, epoch: int, ask: int = 0) -> None:
        self._put({"t": "fence", "dag_id": dag_id, "epoch": epoch, "ask": ask})

    def dispatch(self, attempts: Sequence[dict[str, Any]]) -> None:
        self._put({"t": "run", "attempts": list(attempts)})

    def acknowledge(self, keys: Iterable[contract.AttemptKey]) -> None:
        acknowledged = list(keys)
        if acknowledged:
            self._put({"t": "ack", "keys": acknowledged})

    def kill(self, keys: Iterable[contract.AttemptKey], reason: str) -> None:
        unwanted = list(keys)
        if unwanted:
            self._put({"t": "kill", "keys": unwanted, "reason": reason})

    def flush(self) -> None:
        if self._connection is None:
            return
        try:
            self._connection.flush()
        except wire.ConnectionClosed:
            pass  # the next look at its events finds the end, after what it still had to say

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._worker_id = None
