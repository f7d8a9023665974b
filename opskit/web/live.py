"""`/live?topic=…`: server-sent events that tell a page when to look again.

`hello` carries the Unix time since when nothing has changed, `change` a fingerprint; `end` says that the session is
over, `later` that too many listen. Comments keep the connection alive.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

from fastapi import APIRouter, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from opskit.errors import GuardRefused, OpskitError
from opskit.web import gate, topics, verbs
from opskit.web.faults import SignInNeeded
from opskit.web.gate import SignedIn
from opskit.web.store import store_of
from opskit.web.topics import Topic
from opskit.web.watcher import Watcher

router = APIRouter()

HEARTBEAT_SECONDS = 15.0
CHECK_SECONDS = 60.0
"""Between two looks whether the session still holds."""
MOST_LISTENERS = 1000
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def watcher_of(app: FastAPI) -> Watcher:
    """The one watcher of this process."""
    watcher: Watcher | None = getattr(app.state, "watcher", None)
    if watcher is None:
        jobs = verbs.of_app(app)
        watcher = app.state.watcher = Watcher(
            app.state.store,
            lambda connection, watched: topics.fingerprints(connection, watched, jobs.generation()),
        )
    return watcher


def close(app: FastAPI) -> None:
    """End all streams: the process ends."""
    watcher: Watcher | None = getattr(app.state, "watcher", None)
    if watcher is not None:
        watcher.close()


def _may_listen(who: SignedIn, topic: str) -> Topic:
    wanted = topics.read(topic)
    topics.require(who, wanted)
    return wanted


@router.get("/live", include_in_schema=False)
async def live(request: Request, who: SignedIn, topic: str) -> StreamingResponse:
    """The stream of one page."""
    wanted = _may_listen(who, topic)
    watcher = watcher_of(request.app)
    stream = _later() if watcher.listeners >= MOST_LISTENERS else _events(request, watcher, wanted)
    return StreamingResponse(stream, media_type="text/event-stream", headers=_HEADERS)


async def _later() -> AsyncIterator[str]:
    yield "event: later\ndata: too many listen\n\n"


async def _events(request: Request, watcher: Watcher, topic: Topic) -> AsyncIterator[str]:
    # Streams that began together must not all ask at the same time.
    check_at = time.monotonic() + CHECK_SECONDS * random.uniform(0.7, 1.3)
    listener = watcher.listen(topic)
    try:
        yield ": opskit\nretry: 5000\n\n"
        waiting = listener.seen
        while True:
            try:
                await asyncio.wait_for(waiting.wait(), min(HEARTBEAT_SECONDS, max(0.0, check_at - time.monotonic())))
            except TimeoutError:
                yield ": beat\n\n"
            else:
                if listener.over:
                    return
                if waiting is listener.seen:
                    yield f"event: hello\ndata: {listener.since:.3f}\n\n"
                    waiting = listener.changed
                else:
                    listener.changed.clear()
                    yield f"event: change\ndata: {listener.fingerprint}\n\n"
            if time.monotonic() >= check_at:
                if not await run_in_threadpool(_still_may, request, topic):
                    yield "event: end\ndata: the session is over\n\n"
                    return
                check_at = time.monotonic() + CHECK_SECONDS
    finally:
        watcher.leave(listener)


def _still_may(request: Request, topic: Topic) -> bool:
    try:
        topics.require(gate.identified(request, store_of(request)), topic)
    except (SignInNeeded, GuardRefused):
        return False
    except OpskitError:
        pass  # the metastore is away: nobody knows, and nothing is told either
    return True
