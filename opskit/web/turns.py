"""A request's one turn in a thread: found, checked, answered there; then the event loop sends what came of it.

FastAPI sends each plain function to a thread by itself, one after the other: the check of who asks, the handler, the
check of the answer. Each such trip wakes a thread and then the event loop, which costs more than most of these
functions do. Here the whole request makes the trip, once: its coroutine is begun in a thread, where all that it waits
for is at hand, and goes on in the event loop from its first byte, so that streams stream as they always do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import wraps
from types import coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opskit.web.bodies import again, whole

Result = TypeVar("Result")
_THREADS = 20
_FEW = 3
"""Requests of one process that run at once while each is quick. They share one interpreter: more of them at once end no
sooner, but all late, and the event loop has to wait for its turn among them."""
_PATIENCE_SECONDS = 0.1
"""After so long, what is under way waits for something else (the metastore, a file), and others need not."""
_BODILESS = ("GET", "HEAD", "OPTIONS", "DELETE")
_MARK = "opskit.in_thread"


def takes_a_turn(function: Callable[..., Result]) -> Callable[..., Coroutine[Any, Any, Result]]:
    """A handler that may wait for the metastore, as FastAPI runs it where it is: for routes of `Turns` alone."""

    @wraps(function)
    async def here(*args: Any, **values: Any) -> Result:
        return function(*args, **values)

    return here


async def blocking(request: Request, function: Callable[..., Result], *args: Any) -> Result:
    """What may wait, for a dependency that both kinds of routes have: here in a thread's turn, else in a thread."""
    if _MARK in request.scope:
        return function(*args)
    return await run_in_threadpool(function, *args)


class Streamed(StreamingResponse):
    """One whose body is made while it is sent, for handlers of `Turns`: threads and tasks need the event loop."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _leave(scope)
        await super().__call__(scope, receive, send)


class Turns:
    """The threads."""

    def __init__(self) -> None:
        self.open(_THREADS)

    def open(self, threads: int) -> None:
        """So many requests are answered at once; each may hold a connection to the metastore."""
        self._threads = ThreadPoolExecutor(threads, "request")
        self._few = asyncio.Semaphore(_FEW)

    async def take(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Let an application answer one request, whose handlers were made by `takes_a_turn`."""
        body = await _body(scope, receive)
        scope[_MARK] = True

        async def sent(message: Message) -> None:
            await _leave(scope)
            await send(message)

        running = app(scope, again(body, receive), sent)
        assert isinstance(running, Coroutine)
        async with self._line():
            ended = await asyncio.get_running_loop().run_in_executor(self._threads, _begin, running)
        if not ended:
            await _go_on(running)

    @asynccontextmanager
    async def _line(self) -> AsyncIterator[None]:
        """Wait while a few others are at it, which are soon done, but not for those that wait themselves."""
        in_line = True
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._few.acquire()
        except TimeoutError:
            in_line = False
        try:
            yield
        finally:
            if in_line:
                self._few.release()

    async def prove(self) -> None:
        """Come back when a thread was free."""
        await asyncio.get_running_loop().run_in_executor(self._threads, _nothing)


async def _body(scope: Scope, receive: Receive) -> bytes:
    """All of it: in the thread nothing can be waited for."""
    if scope["method"] in _BODILESS and not any(name == b"transfer-encoding" for name, _ in scope["headers"]):
        said = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if said == b"0":
            return b""
    return await whole(receive)


def _begin(running: Coroutine[Any, Any, None]) -> bool:
    """Whether it has come to its end already."""
    try:
        if running.send(None) is _to_the_loop:
            return False
        running.throw(RuntimeError("a handler of Turns waited for the event loop before its answer began"))
    except StopIteration:
        pass
    return True


async def _leave(scope: Scope) -> None:
    """Go on in the event loop, if that is not so already."""
    if scope.pop(_MARK, False):
        await _to_the_loop()


@coroutine
def _to_the_loop() -> Generator[Any, None, None]:
    """What awaits this goes on in the event loop."""
    yield _to_the_loop


@coroutine
def _go_on(running: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
    yield from running


def _nothing() -> None:
    pass
