"""Loads DAG files beside the loop: a file that hangs must keep neither the heartbeat nor the other files waiting."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from opskit.config import Config
from opskit.core.runner.loader import Loader, LoadResult

log = logging.getLogger(__name__)

_LONGEST_PAUSE_SECONDS = 30.0
_PATIENCE_SECONDS = 1.0
"""Files that wait so long behind others get a lane of their own …"""
_MOST_LANES = 3
"""… as long as there are no more than these. A lane is a thread and a small process to fork from."""


class BackgroundLoader:
    """A queue of paths in, results out. `fileno()` becomes readable when there are results, or when all is done."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._timeout = float(config.get("core", "dagbag_import_timeout"))
        self._memory_limit = int(config.get("core", "dag_file_memory_limit"))
        self._parallel = int(config.get("scheduler", "parsing_processes"))
        self._condition = threading.Condition()
        self._queue: dict[str, None] = {}
        self._questions: dict[str, list[Mapping[str, Any]]] = {}
        self._queued_at = 0.0
        self._results: deque[LoadResult] = deque()
        self._lanes: list[threading.Thread] = []
        self._loaders: list[Loader] = []
        self._busy_lanes = 0
        self._closed = False
        self._failure: BaseException | None = None
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._add_lane(lasting=True)

    def fileno(self) -> int:
        return self._event

    def submit(self, paths: Iterable[str]) -> None:
        """Load these files, after those that are queued already; a path that is queued is queued once."""
        with self._condition:
            if not self._queue:
                self._queued_at = time.monotonic()
            self._queue.update(dict.fromkeys(paths))
            self._condition.notify()

    def ask(self, path: str, questions: Iterable[Mapping[str, Any]]) -> None:
        """Load this file, too, and ask its schedules."""
        with self._condition:
            self._questions.setdefault(path, []).extend(questions)
        self.submit([path])

    @property
    def busy(self) -> bool:
        """Whether a file is queued or being loaded, or a result was not taken."""
        with self._condition:
            return bool(self._queue or self._busy_lanes or self._results)

    def sleep_seconds(self) -> float | None:
        """When `relieve` should be called; None: not before something is submitted."""
        with self._condition:
            if not self._queue or len(self._lanes) >= _MOST_LANES:
                return None
            return max(0.0, self._queued_at + _PATIENCE_SECONDS - time.monotonic())

    def relieve(self) -> None:
        """Open another lane when files have waited too long. To be called now and then."""
        with self._condition:
            for loader in self._loaders:
                loader.tidy()
            late = self._queue and time.monotonic() - self._queued_at >= _PATIENCE_SECONDS
            late = late and self._busy_lanes == len(self._lanes) < _MOST_LANES
        if late:
            self._add_lane(lasting=False)

    def take(self) -> list[LoadResult]:
        """The results that are there. Raises what ended a lane: it is not started again."""
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            pass
        with self._condition:
            results = list(self._results)
            self._results.clear()
            if self._failure is not None:
                raise self._failure
        return results

    def close(self) -> None:
        """End the loading processes. A load under way is given up."""
        with self._condition:
            self._closed = True
            self._queue.clear()
            self._condition.notify_all()
            lanes, loaders = list(self._lanes), list(self._loaders)
        for loader in loaders:
            loader.close()
        for lane in lanes:
            lane.join(timeout=10)
        os.close(self._event)

    def _add_lane(self, *, lasting: bool) -> None:
        loader = Loader(self._config)
        lane = threading.Thread(target=self._run, args=(loader, lasting), name="dag-loading", daemon=True)
        with self._condition:
            self._lanes.append(lane)
            self._loaders.append(loader)
        lane.start()

    def _run(self, loader: Loader, lasting: bool) -> None:
        pause = 0.0
        try:
            while (paths := self._next(lasting)) is not None:
                left = dict.fromkeys(paths)
                with self._condition:
                    questions = {path: self._questions.pop(path) for path in paths if path in self._questions}
                try:
                    for result in loader.load(paths, self._timeout, self._memory_limit, self._parallel, questions):
                        left.pop(result.path, None)
                        self._put(result)
                    pause = 0.0
                except OSError as error:
                    # Not the files' fault: a process could not be started (memory, process limit, a new version).
                    pause = min(_LONGEST_PAUSE_SECONDS, 2 * pause or 0.5)
                    log.warning("%d DAG files can't be loaded now (%s); again in %.1f s", len(left), error, pause)
                    loader = self._start_over(loader, left, pause)
                with self._condition:
                    self._busy_lanes -= 1
                self._tell()
        except BaseException as error:  # noqa: BLE001 - handed to the loop, which raises it
            with self._condition:
                self._failure = self._failure or error
            self._tell()
        finally:
            with self._condition:
                self._lanes.remove(threading.current_thread())
                self._loaders.remove(loader)
                closing = self._closed
            if not closing:  # else `close` does it
                loader.close()

    def _start_over(self, loader: Loader, left: dict[str, None], pause: float) -> Loader:
        """Queue the files again, wait, and give a new loader."""
        fresh = Loader(self._config)
        with self._condition:
            self._queue = {**left, **self._queue}
            self._queued_at = time.monotonic() + pause  # no other lane would fare better
            if self._closed:
                return loader
            self._loaders[self._loaders.index(loader)] = fresh
            self._condition.wait_for(lambda: self._closed, pause)
        loader.close()
        return fresh

    def _put(self, result: LoadResult) -> None:
        with self._condition:
            self._results.append(result)
        self._tell()

    def _tell(self) -> None:
        if not self._closed:
            os.eventfd_write(self._event, 1)

    def _next(self, lasting: bool) -> list[str] | None:
        """The queue; None when the lane is to end."""
        with self._condition:
            while not self._queue and not self._closed:
                if not lasting:
                    return None
                self._condition.wait()
            if self._closed:
                return None
            paths = list(self._queue)
            self._queue.clear()
            self._busy_lanes += 1
            return paths
