"""Work that makes room for others: a low I/O priority, and a limit of steps a second."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Pace:
    """`step()` returns at most `per_second` times a second on average; at once where that is 0."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._next = 0.0

    def step(self) -> None:
        if not self._per_second:
            return
        now = time.monotonic()
        if now < self._next:
            time.sleep(self._next - now)
        self._next = max(self._next, now - 1.0) + 1.0 / self._per_second


@contextmanager
def io_priority(level: str) -> Iterator[None]:
    """Read and write for the block with a `normal`, `low` or `idle` priority. Where the system has none, as it is."""
    if level == "normal":
        yield
        return
    import psutil

    process = psutil.Process()
    before = None
    try:
        before = process.ionice()
        if level == "idle":
            process.ionice(psutil.IOPRIO_CLASS_IDLE)
        else:
            process.ionice(psutil.IOPRIO_CLASS_BE, 7)
    except (psutil.Error, OSError, AttributeError):
        pass  # a container may forbid it: it is a courtesy
    try:
        yield
    finally:
        if before is not None:
            try:
                if before.ioclass == psutil.IOPRIO_CLASS_NONE:
                    process.ionice(psutil.IOPRIO_CLASS_NONE)
                else:
                    process.ionice(before.ioclass, before.value)
            except (psutil.Error, OSError):
                pass
