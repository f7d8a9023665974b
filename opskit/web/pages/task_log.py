"""The log of an attempt: a bounded piece for a page, a stream while it grows, the whole file, and the archive."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from markupsafe import Markup

from opskit.core.dag import states
from opskit.core.metastore import dags, task_instances
from opskit.core.metastore.runs import Run
from opskit.core.metastore.task_instances import TaskInstance
from opskit.errors import GuardRefused, LockHeld, NotFound, OpskitError, UsageError
from opskit.telemetry import task_logs
from opskit.web import archived_logs, gate
from opskit.web.faults import SignInNeeded
from opskit.web.identity import READ
from opskit.web.live import watcher_of
from opskit.web.pages import log_lines, of_dag, of_run
from opskit.web.store import Store, TheStore
from opskit.web.topics import Topic
from opskit.web.turns import Streamed

router = APIRouter()
PIECE_BYTES = 96 * 1024
"""Of a log on one page."""
_MOST_HTML = 150_000
_STREAM_BYTES = 256 * 1024
_FILE_BYTES = 1 << 20
_POLL_SECONDS = 0.4
_CHECK_SECONDS = 60
"""Between two looks whether the person may still read."""
_MOST_STREAMS = 200
_streams = 0
MAY_READ = Depends(of_dag.reader("DAG Runs", "Task Instances", "Task Logs"))
TryNumber = Annotated[int, Query(ge=1, le=1_000_000)]
MapIndex = Annotated[int, Query(ge=-1)]


@dataclass(frozen=True, slots=True)
class LogView:
    """What task/log.html shows."""

    attempts: list[int]
    attempt: int
    html: Markup | str = ""
    start: int = 0
    end: int = 0
    size: int = 0
    is_there: bool = False
    is_growing: bool = False
    is_archived: bool = False
    level: str = ""
    problem: str = ""

    @property
    def is_whole(self) -> bool:
        return self.start == 0 and self.end == self.size


def view(store: Store, instance: TaskInstance, attempt: int | None, offset: int | None, archived: bool) -> LogView:
    """The end of the newest attempt's log, or the part that was asked for."""
    folder = store.config.logs_folder
    whose = (instance.dag_id, instance.run_id, instance.task_id, instance.map_index)
    there = task_logs.list_attempts(folder, *whose)
    known = sorted({*there, *([instance.try_number] if instance.try_number else [])})
    number = attempt or max(known, default=1)
    if archived:
        return _from_archive(store, instance, number, known)
    growing = not archived_logs.is_over(instance, number)
    start = -PIECE_BYTES if offset is None else offset
    try:
        piece = _bounded(folder, task_logs.log_path(*whose, number), start)
    except NotFound:
        return LogView(known, number, is_growing=growing and bool(instance.try_number or instance.state in states.HELD))
    html, level = log_lines.as_html(piece.text)
    at_end = piece.end == piece.size
    return LogView(known, number, html, piece.start, piece.end, piece.size, True, growing and at_end, False, level)


def _bounded(folder: Any, path: str, start: int) -> task_logs.Piece:
    """A piece whose HTML is not too large either: escaping may make it longer."""
    limit = PIECE_BYTES
    while True:
        piece = task_logs.read_piece(folder, path, start=max(start, -limit) if start < 0 else start, limit=limit)
        if len(log_lines.as_html(piece.text)[0].encode(errors="replace")) <= _MOST_HTML or limit < 4096:
            return piece
        limit //= 2


@router.get("/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/log/stream", dependencies=[MAY_READ])
async def stream(
    request: Request,
    store: TheStore,
    dag_id: str,
    run_id: str,
    task_id: str,
    try_number: TryNumber,
    map_index: MapIndex = -1,
    offset: Annotated[int, Query(ge=0)] = 0,
    level: str = "",
) -> StreamingResponse:
    """Server-sent events: `lines` with HTML (id: the offset after them), `end` when the attempt is over."""
    resumed = request.headers.get("last-event-id", "")
    if resumed.isascii() and resumed.isdigit() and len(resumed) < 16:
        offset = int(resumed)
    instance = await run_in_threadpool(_instance, store, dag_id, run_id, task_id, map_index)
    if level not in ("", "is-debug", "is-warning", "is-error"):
        raise UsageError("level: there is no such level")
    if _streams >= _MOST_STREAMS:
        raise LockHeld("too many logs are followed at once", hint="reload the page to see what is new")
    events = _events(request, store, instance, try_number, offset, level)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


async def _events(
    request: Request, store: Store, instance: TaskInstance, attempt: int, offset: int, level: str
) -> AsyncIterator[str]:
    global _streams
    folder = store.config.logs_folder
    whose = (instance.dag_id, instance.run_id, instance.task_id, instance.map_index)
    path = task_logs.log_path(*whose, attempt)
    watcher = watcher_of(request.app)
    listener = watcher.listen(Topic("ti", tuple(map(str, whose))))
    beat = check_at = time.monotonic()
    check_at += _CHECK_SECONDS
    _streams += 1
    try:
        yield "retry: 2000\n\n"
        over = False
        while not listener.over:
            if time.monotonic() >= check_at:
                if not await run_in_threadpool(_still_may, request, store, instance.dag_id):
                    return
                check_at = time.monotonic() + _CHECK_SECONDS
            listener.changed.clear()
            # Asked first: what was written before the end is then read after it.
            try:
                over = archived_logs.is_over(await run_in_threadpool(_instance, store, *whose), attempt)
            except OpskitError as error:
                if isinstance(error, NotFound):
                    over = True  # the run is deleted
            asked = time.monotonic()
            while True:
                piece = await run_in_threadpool(_next, folder, path, offset, over)
                if piece is not None and piece.end > offset:
                    html, level = log_lines.as_html(piece.text, level)
                    data = json.dumps({"html": str(html), "end": piece.end, "size": piece.size}, ensure_ascii=True)
                    yield f"event: lines\nid: {piece.end}\ndata: {data}\n\n"
                    offset = piece.end
                    beat = time.monotonic()
                    if piece.end < piece.size:
                        continue
                if over or listener.over or listener.changed.is_set() or time.monotonic() - asked > 5:
                    break
                if time.monotonic() - beat > 15:
                    yield ": beat\n\n"
                    beat = time.monotonic()
                await asyncio.sleep(_POLL_SECONDS)
            if over:
                yield "event: end\ndata: the attempt is over\n\n"
                return
    finally:
        _streams -= 1
        watcher.leave(listener)


def _still_may(request: Request, store: Store, dag_id: str) -> bool:
    try:
        gate.identified(request, store).require(READ, "Task Logs", dag_id)
    except (SignInNeeded, GuardRefused):
        return False
    except OpskitError:
        pass  # the metastore is away: nobody knows
    return True


def _next(folder: Any, path: str, offset: int, over: bool) -> task_logs.Piece | None:
    try:
        return task_logs.read_piece(folder, path, start=offset, limit=_STREAM_BYTES, grows=not over)
    except NotFound:
        return None  # not begun yet


def _instance(store: Store, dag_id: str, run_id: str, task_id: str, map_index: int) -> TaskInstance:
    with store.reading() as connection:
        run = _run(connection, dag_id, run_id)
        return task_instances.get_task_instance(connection, dag_id, run.run_id, task_id, map_index)


def _run(connection: Any, dag_id: str, run_id: str) -> Run:
    dags.get_dag(connection, dag_id)
    return of_run.find(connection, dag_id, run_id)


@router.get("/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/log/file", dependencies=[MAY_READ])
def file(
    store: TheStore,
    dag_id: str,
    run_id: str,
    task_id: str,
    try_number: TryNumber,
    map_index: MapIndex = -1,
    archived: bool = False,
) -> Streamed:
    """The whole log as a text file; `archived`: from the archive."""
    instance = _instance(store, dag_id, run_id, task_id, map_index)
    whose = (dag_id, instance.run_id, task_id, map_index)
    if archived:
        pieces = archived_logs.read(store, instance, try_number)
        first = next(pieces, b"")  # what is wrong is said before the answer begins

        def content() -> Iterator[bytes]:
            yield first
            yield from pieces

        body = content()
    else:
        path = task_logs.log_path(*whose, try_number)
        task_logs.read_piece(store.config.logs_folder, path, start=0, limit=1)  # NotFound before the answer begins
        body = _file(store, path)
    safe = "".join(one if one.isascii() and (one.isalnum() or one in "._-") else "_" for one in task_id)[:100]
    mapped = f".{map_index}" if map_index >= 0 else ""
    headers = {
        "Content-Disposition": f'attachment; filename="{safe}{mapped}.attempt-{try_number}.log"',
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    return Streamed(body, media_type="text/plain; charset=utf-8", headers=headers)


def _file(store: Store, path: str) -> Iterator[bytes]:
    offset = 0
    while True:
        text, after = task_logs.read(store.config.logs_folder, path, offset=offset, limit=_FILE_BYTES)
        if after == offset:
            return
        offset = after
        yield text.encode(errors="backslashreplace")


def _from_archive(store: Store, instance: TaskInstance, attempt: int, known: list[int]) -> LogView:
    """The end of an archived log, as much as a page holds."""
    size, tail = 0, b""
    try:
        for piece in archived_logs.read(store, instance, attempt):
            size += len(piece)
            tail = (tail + piece)[-PIECE_BYTES:]
    except OpskitError as error:
        return LogView(known, attempt, is_archived=True, problem=error.message)
    start = size - len(tail)
    if start:
        first = tail.find(b"\n") + 1
        start, tail = start + first, tail[first:]
    html, level = log_lines.as_html(tail.decode(errors="backslashreplace"))
    if len(html) > 2 * _MOST_HTML:
        html, level = log_lines.as_html(tail[-PIECE_BYTES // 4 :].decode(errors="backslashreplace"))
        start = size - PIECE_BYTES // 4
    return LogView(known, attempt, html, start, size, size, True, False, True, level)
