"""What `airflow.stats` offers: counters that nobody reads here. opskit's own metrics do not come from DAG files."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any


class Timer:
    """`with Stats.timer(…) as timer:`; `duration` in milliseconds afterwards."""

    def __init__(self) -> None:
        self.duration: float | None = None
        self._began = time.perf_counter()

    def start(self) -> Timer:
        self._began = time.perf_counter()
        return self

    def stop(self, send: bool = True) -> None:
        self.duration = 1000.0 * (time.perf_counter() - self._began)

    def __enter__(self) -> Timer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Stats:
    """Takes numbers and keeps none."""

    @classmethod
    def incr(cls, stat: str, count: int = 1, rate: float = 1, *, tags: Any = None) -> None:
        pass

    @classmethod
    def decr(cls, stat: str, count: int = 1, rate: float = 1, *, tags: Any = None) -> None:
        pass

    @classmethod
    def gauge(cls, stat: str, value: float, rate: float = 1, delta: bool = False, *, tags: Any = None) -> None:
        pass

    @classmethod
    def timing(cls, stat: str, dt: Any, *, tags: Any = None) -> None:
        pass

    @classmethod
    def timer(cls, *_: Any, **__: Any) -> Timer:
        return Timer()
