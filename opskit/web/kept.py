"""Answers that hold for a moment, so that many who ask the same at once cost one look."""

from __future__ import annotations

import mmap
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from fastapi import Request

Answer = TypeVar("Answer")
_MOST = 1000
_NOTHING: tuple[float, Any] = (float("-inf"), None)


def is_refetch(request: Request) -> bool:
    """Whether a live page asks again because something has changed: it must see that."""
    return "x-opskit-live" in request.headers


class Kept:
    """Keeps what was found for `seconds`; 0: nothing. While somebody looks again, others get what there is, if it is
    not older than twice that, or else wait for that look.

    Forks keep each their own, but `clear` in one of them is heard by all, so it must be made before them.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._found: dict[Hashable, tuple[float, Any]] = {}
        self._looking: dict[Hashable, threading.Lock] = {}
        self._cleared = memoryview(mmap.mmap(-1, 8)).cast("Q")
        self._heard = 0

    def get(self, key: Hashable, look: Callable[[], Answer], *, fresh: bool = False, times: float = 1.0) -> Answer:
        """What `look` gives, or gave not long ago. `fresh`: look in any case, and keep that. `times`: so many times as
        long, for what costs much."""
        seconds = self._seconds * times
        if seconds <= 0:
            return look()
        self._hear()
        with self._lock:
            if len(self._looking) >= _MOST:
                self._found, self._looking = {}, {}
            # `clear` puts another one in its place: what a look finds that began before a change is kept for nobody.
            found = self._found
            turn = self._looking.setdefault(key, threading.Lock())
        told: Answer
        if not fresh:
            at, told = found.get(key, _NOTHING)
            age = time.monotonic() - at
            if age <= seconds or (age <= 2 * seconds and turn.locked()):
                return told
        asked_at = time.monotonic()
        with turn:
            at, told = found.get(key, _NOTHING)
            if at <= (asked_at if fresh else time.monotonic() - seconds):
                # As old as the beginning of the look, not its end: what came about meanwhile may not be in it.
                asked_at = time.monotonic()
                told = look()
                found[key] = asked_at, told
            return told

    def clear(self) -> None:
        """Something was changed here: nobody may see what was before, in no process of this webserver."""
        self._cleared[0] = time.monotonic_ns()
        self._hear()

    def _hear(self) -> None:
        cleared = self._cleared[0]
        if cleared != self._heard:
            with self._lock:
                self._heard = cleared
                self._found = {}
                self._looking = {}
