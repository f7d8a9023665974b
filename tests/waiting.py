"""Waits for a condition instead of sleeping for a guess."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    predicate: Callable[[], T], timeout: float = 20.0, every: float = 0.02, what: str | Callable[[], str] = ""
) -> T:
    """The first true value of `predicate`, asked again each `every` seconds.

    AssertionError after `timeout` seconds; it names `what` was waited for. A callable `what` is asked only then, so it
    can show the state that was found.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= deadline:
            text = what() if callable(what) else what or getattr(predicate, "__name__", repr(predicate))
            raise AssertionError(f"not within {timeout:g} s: {text}")
        time.sleep(every)
