"""Frames between scheduler and worker: a 4-byte big-endian length and a JSON object (ARCHITECTURE.md, "Wire")."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from opskit.errors import OpskitError
from opskit.system.wake import short_path

PROTOCOL = 1
LARGEST_FRAME = 64 * 1024 * 1024
_CHUNK = 256 * 1024
_dumps = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode

Frame = dict[str, Any]
Key = tuple[int, str, int, int]
"""dag_run_id, task_id, map_index, dispatch."""


class ProtocolError(OpskitError):
    """The other side sent what is no frame, or does not speak our protocol."""


class ConnectionClosed(Exception):
    """The other side is gone."""


def as_key(value: Any) -> Key:
    """A key from its JSON form. ProtocolError when it is none."""
    try:
        run, task_id, map_index, dispatch = value
    except (TypeError, ValueError):
        raise ProtocolError(f"{value!r} is no key") from None
    return run, task_id, map_index, dispatch


def payload(frame: Frame) -> bytes:
    """The JSON bytes of a frame, without the length before them."""
    return _dumps(frame).encode("utf-8", "surrogatepass")


def encode(frame: Frame) -> bytes:
    data = payload(frame)
    return len(data).to_bytes(4, "big") + data


class FrameReader:
    """Cuts a stream of bytes into frames, as they arrive."""

    def __init__(self, largest: int = LARGEST_FRAME) -> None:
        self._buffer = bytearray()
        self._largest = largest

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Frame]:
        """The frames that are complete with these bytes. ProtocolError for a frame too large, or one that is no JSON
        object."""
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= 4:
                size = int.from_bytes(buffer[start : start + 4], "big")
                if size > self._largest:
                    raise ProtocolError(f"a frame of {size} bytes, at most {self._largest} are allowed")
                end = start + 4 + size
                if len(buffer) < end:
                    break
                body = bytes(buffer[start + 4 : end])
                start = end
                try:
                    frame = json.loads(body)
                except ValueError as error:
                    raise ProtocolError(f"a frame that is no JSON: {error}") from error
                if not isinstance(frame, dict):
                    raise ProtocolError("a frame that is no JSON object")
                yield frame
        finally:
            del buffer[:start]


class FrameWriter:
    """Collects frames and sends as many as a non-blocking socket takes."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._rest = memoryview(b"")

    def add(self, frame: Frame) -> None:
        self.add_payload(payload(frame))

    def add_payload(self, data: bytes) -> None:
        """A frame whose JSON is ready."""
        self._parts.append(len(data).to_bytes(4, "big"))
        self._parts.append(data)

    @property
    def pending(self) -> bool:
        return bool(self._parts or self._rest)

    def flush(self, connection: socket.socket) -> bool:
        """Send; whether all is sent. ConnectionClosed when nobody reads any more."""
        while True:
            if not self._rest:
                if not self._parts:
                    return True
                self._rest = memoryview(b"".join(self._parts))
                self._parts.clear()
            try:
                sent = connection.send(self._rest)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                raise ConnectionClosed(str(error)) from error
            self._rest = self._rest[sent:]


class FrameConnection:
    """A non-blocking stream socket that carries frames both ways; for one's own event loop.

    Poll `fileno()` for reading, and for writing too while `wants_write` is true.
    """

    def __init__(self, connected: socket.socket, largest: int = LARGEST_FRAME) -> None:
        connected.setblocking(False)
        self.socket = connected
        self._reader = FrameReader(largest)
        self._writer = FrameWriter()

    def fileno(self) -> int:
        return self.socket.fileno()

    @property
    def wants_write(self) -> bool:
        return self._writer.pending

    def put(self, frame: Frame) -> None:
        """Queue a frame; `flush` sends it."""
        self._writer.add(frame)

    def put_payload(self, data: bytes) -> None:
        self._writer.add_payload(data)

    def flush(self) -> bool:
        """Send as much as goes now; whether all is sent. ConnectionClosed when the other side is gone."""
        return self._writer.flush(self.socket)

    def receive(self) -> list[Frame]:
        """All frames that are there now; may be none. ConnectionClosed at the end of the stream (frames that came
        before it are given first), ProtocolError for nonsense."""
        frames: list[Frame] = []
        while True:
            try:
                data = self.socket.recv(_CHUNK)
            except (BlockingIOError, InterruptedError):
                return frames
            except OSError as error:
                if frames:
                    return frames
                raise ConnectionClosed(str(error)) from error
            if not data:
                if frames:
                    return frames  # the next call finds the end again
                raise ConnectionClosed("the other side closed the connection")
            frames.extend(self._reader.feed(data))
            if len(data) < _CHUNK:
                return frames

    def close(self) -> None:
        self.socket.close()


def worker_socket(run_folder: Path) -> Path:
    """Where the worker of this OPSKIT_HOME listens."""
    return run_folder / "worker.sock"


def connect(run_folder: Path, scheduler_id: str) -> FrameConnection | None:
    """A connection to the worker of this OPSKIT_HOME with `hello` on its way; None when no worker listens.

    The worker's first frame is `welcome`.
    """
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with short_path(worker_socket(run_folder)) as path:
            connected.connect(path)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        connected.close()
        return None
    except BaseException:
        connected.close()
        raise
    connection = FrameConnection(connected)
    connection.put({"t": "hello", "scheduler": scheduler_id, "protocol": PROTOCOL})
    connection.flush()
    return connection
