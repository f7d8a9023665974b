"""How an attempt asks the metastore: through the worker's gateway, which holds the connection for all of them."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opskit import errors
from opskit.core.dag.connection import Connection
from opskit.core.dag.runtime import EventRow, RunInfo
from opskit.core.dag.secret_names import secret_values
from opskit.core.runner import wire
from opskit.system.wake import short_path
from opskit.telemetry.masking import masker

logger = logging.getLogger(__name__)

_LONGEST_PAUSE_SECONDS = 1.0
_COMPLAIN_AFTER_SECONDS = 5.0


class GatewayStore:
    """A RuntimeStore. Connects when it is first asked; waits while the gateway or the metastore is away."""

    def __init__(self, socket_path: str, mask: Callable[[list[str]], None] | None = masker.add) -> None:
        self._path = Path(socket_path)
        self._mask = mask
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._owner = 0

    def get_xcoms(
        self, dag_id: str, run_id: str, task_ids: list[str] | None, key: str, map_index: int | None = None
    ) -> list[tuple[str, int, Any]]:
        found: list[tuple[str, int, Any]] = self._call("get_xcoms", dag_id, run_id, task_ids, key, map_index)
        return found

    def set_xcom(self, dag_id: str, run_id: str, task_id: str, map_index: int, key: str, value: Any) -> None:
        self._call("set_xcom", dag_id, run_id, task_id, map_index, key, value)

    def get_variable(self, key: str) -> str | None:
        value: str | None = self._call("get_variable", key)
        if value and self._mask is not None:
            self._mask(secret_values(key, value) or _secrets_inside(value))
        return value

    def set_variable(self, key: str, value: str, description: str | None = None) -> None:
        if self._mask is not None:
            self._mask(secret_values(key, value))
        self._call("set_variable", key, value, description)

    def delete_variable(self, key: str) -> bool:
        return bool(self._call("delete_variable", key))

    def get_connection(self, conn_id: str) -> Connection | None:
        found: Connection | None = self._call("get_connection", conn_id)
        if found is not None and self._mask is not None:
            self._mask(found.secrets())
        return found

    def get_run(self, dag_id: str, run_id: str | None = None, logical_date: datetime | None = None) -> RunInfo | None:
        found: RunInfo | None = self._call("get_run", dag_id, run_id, logical_date)
        return found

    def previous_run(self, dag_id: str, before: datetime, state: str | None = None) -> RunInfo | None:
        found: RunInfo | None = self._call("previous_run", dag_id, before, state)
        return found

    def count_runs(self, dag_id: str, states: list[str], logical_dates: list[datetime]) -> int:
        return int(self._call("count_runs", dag_id, states, logical_dates))

    def task_states(self, dag_id: str, run_id: str) -> dict[tuple[str, int], str | None]:
        found: dict[tuple[str, int], str | None] = self._call("task_states", dag_id, run_id)
        return found

    def find_asset(self, name: str | None = None, uri: str | None = None) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._call("find_asset", name, uri)
        return found

    def asset_events(self, **question: Any) -> list[EventRow]:
        found: list[EventRow] = self._call("asset_events", **question)
        return found

    def triggering_asset_events(self, dag_id: str, run_id: str) -> list[EventRow]:
        found: list[EventRow] = self._call("triggering_asset_events", dag_id, run_id)
        return found

    def get_state(self, scope: list[Any], key: str) -> Any:
        return self._call("get_state", scope, key)

    def set_state(self, scope: list[Any], key: str, value: Any, expires_at: datetime | None = None) -> None:
        self._call("set_state", scope, key, value, expires_at)

    def delete_state(self, scope: list[Any], key: str | None) -> None:
        self._call("delete_state", scope, key)

    def find_dag(self, dag_id: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._call("find_dag", dag_id)
        return found

    def trigger_dag_run(
        self,
        dag_id: str,
        *,
        run_id: str | None = None,
        logical_date: datetime | None = None,
        conf: dict[str, Any] | None = None,
        reset_existing: bool = False,
    ) -> RunInfo:
        # Named here, so that a question that must be asked again (the gateway was killed) means the same run.
        logical_date = logical_date or datetime.now(UTC)
        run_id = run_id or f"manual__{logical_date.isoformat()}"
        named = {"run_id": run_id, "logical_date": logical_date, "conf": conf, "reset_existing": reset_existing}
        run: RunInfo
        try:
            run = self._call("trigger_dag_run", dag_id, **named)
        except _AskedTwice as twice:
            existing = self.get_run(dag_id, run_id)
            if existing is None:
                raise twice.error from None
            run = existing
        return run

    def _call(self, name: str, /, *arguments: Any, **named: Any) -> Any:
        request = wire.encode({"call": name, "args": encode(list(arguments)), "named": encode(named)})
        pause, waited, repeated, complained = 0.02, 0.0, False, False
        with self._lock:
            while True:
                try:
                    answer = self._ask(request)
                    break
                except (OSError, wire.ConnectionClosed) as error:
                    self._disconnect()
                    repeated = True
                    if waited >= _COMPLAIN_AFTER_SECONDS and not complained:
                        complained = True
                        logger.warning("waiting for the gateway of the worker to answer %s: %s", name, error)
                    time.sleep(pause)
                    waited += pause
                    pause = min(_LONGEST_PAUSE_SECONDS, pause * 2)
        if "error" in answer:
            failure = _error(*answer["error"])
            if repeated and name == "trigger_dag_run" and isinstance(failure, errors.UsageError):
                raise _AskedTwice(failure)
            raise failure
        return decode(answer["value"])

    def _ask(self, request: bytes) -> wire.Frame:
        if self._socket is None or self._owner != os.getpid():
            self._connect()
        assert self._socket is not None
        self._socket.sendall(request)
        reader = wire.FrameReader()
        while True:
            data = self._socket.recv(256 * 1024)
            if not data:
                raise wire.ConnectionClosed("the gateway closed the connection")
            for frame in reader.feed(data):
                return frame

    def _connect(self) -> None:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            with short_path(self._path) as path:
                connected.connect(path)
        except BaseException:
            connected.close()
            raise
        # A copy that a forked process inherited is its parent's conversation.
        self._socket, self._owner = connected, os.getpid()

    def _disconnect(self) -> None:
        if self._socket is not None and self._owner == os.getpid():
            self._socket.close()
        self._socket = None

    def close(self) -> None:
        self._disconnect()


class _AskedTwice(Exception):
    """The question was asked again, and the answer may come from its first time."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _secrets_inside(value: str) -> list[str]:
    if not value.lstrip().startswith(("{", "[")):
        return []
    try:
        return secret_values(None, json.loads(value))
    except ValueError:
        return []


def _error(kind: str, message: str, hint: str | None) -> Exception:
    found = getattr(errors, kind, None)
    if isinstance(found, type) and issubclass(found, errors.OpskitError):
        return found(message, hint=hint)
    return RuntimeError(f"the gateway failed: {kind}: {message}")


# JSON has no times, tuples or objects of ours: they travel as {"$kind": …}.


def encode(value: Any) -> Any:
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, datetime):
        return {"$time": value.isoformat()}
    if isinstance(value, RunInfo):
        return {"$run": {each.name: encode(getattr(value, each.name)) for each in fields(RunInfo)}}
    if isinstance(value, Connection):
        return {"$connection": [value.conn_id, value.to_dict()]}
    if isinstance(value, tuple):
        return {"$tuple": [encode(item) for item in value]}
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: encode(item) for key, item in value.items()}
        return {"$pairs": [[encode(key), encode(item)] for key, item in value.items()]}
    raise TypeError(f"a {type(value).__name__} can't be sent to the gateway")


def decode(value: Any) -> Any:
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        (kind, inner), *_ = value.items()
        if kind == "$time":
            return datetime.fromisoformat(inner)
        if kind == "$run":
            return RunInfo(**{key: decode(item) for key, item in inner.items()})
        if kind == "$connection":
            return Connection.from_dict(inner[1], inner[0])
        if kind == "$tuple":
            return tuple(decode(item) for item in inner)
        if kind == "$pairs":
            return {decode(key): decode(item) for key, item in inner}
    return {key: decode(item) for key, item in value.items()}
