"""Loads many good DAG files in one process, so that a deployment need not pay for a process for each.

Only a success counts. A file that raises, asks the metastore, changes the process for others, hangs or ends it is
loaded once more in a process of its own, by the loader that the DAG processor uses too; that verdict is the one.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Loaded:
    dags: list[dict[str, Any]]
    """In the form of `opskit.core.dag.serialization`."""
    seconds: float


def load(
    folder: Path, paths: Sequence[str], *, options: dict[str, Any], timeout: float, memory_limit: int, parallel: int
) -> dict[str, Loaded]:
    """path → what it defines, of the files that load without trouble. `timeout` in seconds for each, `memory_limit` in
    MiB for each process."""
    groups = [list(paths[number::parallel]) for number in range(max(1, parallel))]
    running = [_Batch(folder, group, options, timeout, memory_limit) for group in groups if group]
    found: dict[str, Loaded] = {}
    try:
        while running:
            poll = select.poll()
            for batch in running:
                poll.register(batch.fileno(), select.POLLIN)
            now = time.monotonic()
            ready = {fd for fd, _ in poll.poll(1000 * max(0.0, min(batch.deadline for batch in running) - now) + 1)}
            for batch in list(running):
                if batch.fileno() in ready:
                    found.update(batch.results())
                if batch.ended or time.monotonic() > batch.deadline:
                    batch.close()
                    running.remove(batch)
    finally:
        for batch in running:
            batch.close()
    return found


class _Batch:
    def __init__(
        self, folder: Path, paths: list[str], options: dict[str, Any], timeout: float, memory_limit: int
    ) -> None:
        self._timeout = timeout
        self.deadline = time.monotonic() + timeout + _START_SECONDS
        self.ended = False
        self._rest = b""
        order = json.dumps([str(folder), options, memory_limit, paths]).encode()
        self._output, theirs = os.pipe2(os.O_CLOEXEC)
        task = os.memfd_create("paths", os.MFD_CLOEXEC)
        try:
            os.write(task, order)
            os.lseek(task, 0, os.SEEK_SET)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(theirs)],
                stdin=task,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs,),
                start_new_session=True,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            )
        finally:
            os.close(task)
            os.close(theirs)

    def fileno(self) -> int:
        return self._output

    def results(self) -> Iterator[tuple[str, Loaded]]:
        data = os.read(self._output, 1 << 16)
        self.ended = not data
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        self.deadline = time.monotonic() + self._timeout
        for line in lines:
            path, dags, seconds = json.loads(line)
            if dags is not None:
                yield path, Loaded(dags, seconds)

    def close(self) -> None:
        try:
            os.killpg(self._process.pid, 9)
        except (ProcessLookupError, PermissionError):
            pass
        self._process.wait()
        os.close(self._output)


class _Asked(Exception):
    """A DAG file wants something of the metastore: not here."""


class _NoStore:
    asked = False

    def __getattr__(self, name: str) -> Any:
        type(self).asked = True
        raise _Asked(name)


def main(output: int) -> None:
    """The process of a batch: `[path, [serialized DAG, …] or null, seconds]` per file, on the descriptor `output`."""
    import gc

    from opskit.core.dag import loading, runtime, serialization
    from opskit.core.runner import processes

    folder, options, memory_limit, paths = json.loads(sys.stdin.buffer.read())
    processes.no_core_dumps()
    processes.limit_memory(memory_limit)
    gc.disable()
    loading.prepare(folder, **options)
    before = _state()
    for number, path in enumerate(paths):
        _NoStore.asked = False
        began = time.perf_counter()
        runtime.set_store(_NoStore())
        try:
            dags = loading.load_file(f"{folder}/{path}", folder, **options)
            serialized = [serialization.serialize(dag) for dag in dags]
            good = not _NoStore.asked
        except BaseException:  # noqa: BLE001 -- whatever it is, the file is loaded again by itself
            good = False
        clean = _forget(folder, before)
        seconds = round(time.perf_counter() - began, 3)
        line = json.dumps([path, serialized if good else None, seconds]).encode() + b"\n"
        while line:
            line = line[os.write(output, line) :]
        if not clean:
            return  # this file has changed the process: those after it are loaded by themselves
        if number % 200 == 199:
            gc.collect()


def _state() -> tuple[Any, ...]:
    return list(sys.path), dict(os.environ), os.getcwd(), set(sys.modules), sorted(os.listdir("/proc/self/task"))


def _forget(folder: str, before: tuple[Any, ...]) -> bool:
    """Unload what lies in the DAG folder, so that the next file imports its own; whether all else is as it was."""
    path, environment, place, modules, tasks = before
    for name in set(sys.modules) - modules:
        module = sys.modules[name]
        file = getattr(module, "__file__", None) or ""
        if name.startswith("unusual_prefix_") or str(file).startswith(folder.rstrip("/") + "/") or not file:
            del sys.modules[name]
        else:
            modules.add(name)
    if sys.path[1:] == path and sys.path[0] == folder:
        del sys.path[0]
    now = (sys.path, dict(os.environ), os.getcwd(), sorted(os.listdir("/proc/self/task")))
    return now == (path, environment, place, tasks)


if __name__ == "__main__":
    main(int(sys.argv[1]))
