"""A small event loop: descriptors that become ready, and timers. One thread, epoll."""

from __future__ import annotations

import heapq
import itertools
import select
import time
from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
Handler = Callable[[int], None]


class Timer:
    """`cancel()` before it is due and nothing happens."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        self.action = None


class Loop:
    """Calls a handler with the event bits of its descriptor. `turn` rises with every turn."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self.turn = 0

    def watch(self, descriptor: int, handler: Handler, events: int = READ) -> None:
        self._epoll.register(descriptor, events)
        self._handlers[descriptor] = handler

    def modify(self, descriptor: int, events: int) -> None:
        self._epoll.modify(descriptor, events)

    def forget(self, descriptor: int) -> None:
        """Before the descriptor is closed."""
        if self._handlers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def later(self, seconds: float, action: Callable[[], None]) -> Timer:
        timer = Timer(action)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    def run_once(self) -> None:
        """Sleep until something is ready or due, and handle it."""
        timers = self._timers
        while timers and timers[0][2].action is None:
            heapq.heappop(timers)
        timeout = max(0.0, timers[0][0] - time.monotonic()) if timers else None
        events = self._epoll.poll(timeout)
        self.turn += 1
        for descriptor, bits in events:
            handler = self._handlers.get(descriptor)
            if handler is not None:
                handler(bits)
        if timers:
            now = time.monotonic()
            while timers and timers[0][0] <= now:
                action = heapq.heappop(timers)[2].action
                if action is not None:
                    action()

    def close(self) -> None:
        self._epoll.close()
