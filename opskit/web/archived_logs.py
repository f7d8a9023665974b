"""Logs that clean-up has archived, in a folder or in S3: read by `opskit logs show`, as a process of its own."""

from __future__ import annotations

import codecs
import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator

from opskit.core.dag import states
from opskit.core.metastore.task_instances import TaskInstance
from opskit.errors import LockHeld, NotFound, RemoteError
from opskit.web.store import Store

PIECE_BYTES = 1 << 20
_SECONDS = 60
"""For all of a log."""
_AT_ONCE = threading.BoundedSemaphore(3)
_WAIT_SECONDS = 15


def is_kept(store: Store) -> bool:
    """Whether there is an archive of logs."""
    return bool(store.config.get("logs", "archive_to"))


def is_over(instance: TaskInstance, attempt: int) -> bool:
    """Whether nothing more will be written into the log of this attempt."""
    if instance.try_number != attempt:
        return instance.try_number > attempt or instance.state in states.FINISHED
    return instance.state not in (*states.HELD, states.SCHEDULED, states.UP_FOR_RESCHEDULE, states.RESTARTING, None)


def read(store: Store, instance: TaskInstance, attempt: int) -> Generator[bytes, None, None]:
    """Its bytes, in pieces. NotFound when there is none; LockHeld when too many are read at once; RemoteError for all
    else."""
    if not is_kept(store):
        raise NotFound("there is no archive of logs: logs.archive_to names none")
    if not _AT_ONCE.acquire(timeout=_WAIT_SECONDS):
        raise LockHeld("several archived logs are being read already", hint="ask again in a moment")
    try:
        yield from _shown(store, instance, attempt)
    finally:
        _AT_ONCE.release()


def piece(store: Store, instance: TaskInstance, attempt: int, offset: int, limit: int) -> tuple[str, int]:
    """At most `limit` bytes as text, and the offset after them: a character is never cut. Raises as `read`."""
    place, found = 0, bytearray()
    pieces = read(store, instance, attempt)
    try:
        for one in pieces:
            found += one[max(0, offset - place) :]
            place += len(one)
            if len(found) >= limit:
                break
    finally:
        pieces.close()
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    text = decoder.decode(bytes(found[:limit]), final=len(found) < limit)
    return text, offset + min(limit, len(found)) - len(decoder.getstate()[0])


def _shown(store: Store, instance: TaskInstance, attempt: int) -> Generator[bytes, None, None]:
    command = [sys.executable, "-m", "opskit", "logs", "show"]
    command += ["--try", str(attempt), "--map-index", str(instance.map_index), "--"]
    command += [instance.dag_id, instance.task_id, instance.run_id]
    environment = {**os.environ, "OPSKIT_HOME": str(store.config.home)}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        until = time.monotonic() + _SECONDS
        try:
            while data := process.stdout.read1(PIECE_BYTES):  # type: ignore[attr-defined]
                yield data
                if time.monotonic() > until:
                    raise RemoteError("reading the archived log took too long", hint="use: opskit logs show")
            said = process.stderr.read().decode(errors="backslashreplace").strip()
            code = process.wait(_SECONDS)
        finally:
            if process.poll() is None:
                process.kill()
    if code == 2:
        raise NotFound(f"there is no log of attempt {attempt}, neither in the log folder nor in the archive")
    if code:
        raise RemoteError(said.splitlines()[-1][:500] if said else f"opskit logs show ended with {code}")
