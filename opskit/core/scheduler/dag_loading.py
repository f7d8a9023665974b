"""Loads DAG files beside the loop: a file that hangs must not keep the heartbeat, or the others, waiting."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable

from opskit.config import Config
from opskit.core.runner.loader import Loader, LoadResult


class BackgroundLoader:
    """A queue of paths in, results out. `fileno()` becomes readable when there are results, or when all is done."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._timeout = float(config.get("core", "dagbag_import_timeout"))
        self._memory_limit = int(config.get("core", "dag_file_memory_limit"))
        self._parallel = int(config.get("scheduler", "parsing_processes"))
        self._condition = threading.Condition()
        self._queue: dict[str, None] = {}
        self._results: deque[LoadResult] = deque()
        self._active = 0
        self._closed = False
        self.failure: BaseException | None = None
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._loader = Loader(config)
        self._thread = threading.Thread(target=self._run, name="dag-loading", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        return self._event

    def submit(self, paths: Iterable[str]) -> None:
        """Load these files, after those that are queued already; a path that is queued is queued once."""
        with self._condition:
            self._queue.update(dict.fromkeys(paths))
            self._condition.notify()

    @property
    def busy(self) -> bool:
        """Whether a file is queued or being loaded, or a result was not taken."""
        with self._condition:
            return bool(self._queue or self._active or self._results)

    def take(self) -> list[LoadResult]:
        """The results that are there. Raises what ended the loading thread: it is not started again."""
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            pass
        with self._condition:
            results = list(self._results)
            self._results.clear()
        if self.failure is not None:
            raise self.failure
        return results

    def close(self) -> None:
        """End the loading processes. A load under way is given up."""
        with self._condition:
            self._closed = True
            self._queue.clear()
            self._condition.notify()
        self._loader.close()
        self._thread.join(timeout=10)
        os.close(self._event)

    def _run(self) -> None:
        try:
            while (paths := self._next()) is not None:
                for result in self._loader.load(paths, self._timeout, self._memory_limit, self._parallel):
                    with self._condition:
                        self._results.append(result)
                        self._active -= 1
                    os.eventfd_write(self._event, 1)
                with self._condition:
                    self._active = 0
                os.eventfd_write(self._event, 1)
        except BaseException as error:  # noqa: BLE001 -- handed to the loop, which raises it
            if not self._closed:
                self.failure = error
                os.eventfd_write(self._event, 1)

    def _next(self) -> list[str] | None:
        with self._condition:
            while not self._queue and not self._closed:
                self._condition.wait()
            if self._closed:
                return None
            paths = list(self._queue)
            self._queue.clear()
            self._active = len(paths)
            return paths
