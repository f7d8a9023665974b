"""Answers that hold for a moment, so that many who ask the same at once cost one look."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from fastapi import Request

Answer = TypeVar("Answer")
_MOST = 1000


def is_refetch(request: Request) -> bool:
    """Whether a live page asks again because something has changed: it must see that."""
    return "x-opskit-live" in request.headers


class Kept:
    """Keeps what was found for `seconds`; 0: nothing. Whoever asks while another is looking waits for that look."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._found: dict[Hashable, tuple[float, Any]] = {}
        self._looking: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, look: Callable[[], Answer], *, fresh: bool = False) -> Answer:
        """What `look` gives, or gave not long ago. `fresh`: look in any case, and keep that."""
        if self._seconds <= 0:
            return look()
        with self._lock:
            if len(self._looking) >= _MOST:
                self._found, self._looking = {}, {}
            turn = self._looking.setdefault(key, threading.Lock())
        with turn:
            # `clear` puts another one in its place: what a look finds that began before a change is kept for nobody.
            found = self._found
            at, answer = found.get(key, (0.0, None))
            if fresh or time.monotonic() - at > self._seconds:
                answer = look()
                found[key] = time.monotonic(), answer
            told: Answer = answer
            return told

    def clear(self) -> None:
        """Something was changed here: nobody may see what was before."""
        with self._lock:
            self._found = {}
            self._looking = {}
