"""A real worker process, and the scheduler's end of its socket, for tests and benchmarks of the runner."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opskit.core.runner import wire
from opskit.telemetry.task_logs import log_path
from tests import warm
from tests.waiting import wait_until

Frame = dict[str, Any]


class Scheduler:
    """One connection: sends what a scheduler sends, remembers what the worker says."""

    def __init__(self, home: Path, name: str = "scheduler-1") -> None:
        self.home = home
        self.frames: list[Frame] = []
        found = wait_until(lambda: wire.connect(home / "run", name), what="a worker that listens")
        assert found is not None
        self.connection = found
        self.welcome = self.wait_for(lambda frame: frame["t"] == "welcome")

    def send(self, frame: Frame) -> None:
        self.connection.put(frame)
        assert self.flush()

    def flush(self) -> bool:
        return wait_until(self.connection.flush, every=0.001, what="the worker to read")

    def look(self) -> list[Frame]:
        new = self.connection.receive()
        self.frames += new
        return new

    def wait_for(self, wanted: Callable[[Frame], bool], timeout: float = 20.0) -> Frame:
        """The first frame of that kind, old or new."""

        def found() -> Frame | None:
            self.look()
            return next((frame for frame in self.frames if wanted(frame)), None)

        frame = wait_until(found, timeout=timeout, every=0.005, what=lambda: f"a frame; there are {self.frames}")
        assert frame is not None
        return frame

    def result(self, key: Any, timeout: float = 20.0) -> Frame:
        return self.wait_for(lambda frame: frame["t"] == "result" and frame["key"] == list(key), timeout)

    def started(self, key: Any) -> Frame:
        return self.wait_for(lambda frame: frame["t"] == "started" and frame["key"] == list(key))

    def fence(self, dag_id: str, epoch: int) -> Frame:
        before = len(self.frames)
        self.send({"t": "fence", "dag_id": dag_id, "epoch": epoch})
        return self.wait_for(
            lambda frame: frame["t"] == "held" and frame["dag_id"] == dag_id and frame in self.frames[before:]
        )

    def run(self, *attempts: Frame) -> None:
        self.send({"t": "run", "attempts": list(attempts)})

    def do(self, attempt: Frame, timeout: float = 20.0) -> Frame:
        """Run one attempt to its result."""
        self.run(attempt)
        return self.result(attempt["key"], timeout)

    def kill(self, key: Any, reason: str = "marked as failed") -> None:
        self.send({"t": "kill", "keys": [key], "reason": reason})

    def close(self) -> None:
        self.connection.close()


_numbers = itertools.count(1)


def attempt(task_id: str, dag_id: str = "d", fileloc: str = "d.py", **more: Any) -> Frame:
    """An Attempt frame with a key that no other has."""
    number = next(_numbers)
    run_id = f"manual__{number}"
    return {
        "key": [number, task_id, -1, 1],
        "epoch": 1,
        "kind": "task",
        "dag_id": dag_id,
        "run_id": run_id,
        "task_id": task_id,
        "map_index": -1,
        "try_number": 1,
        "max_tries": 0,
        "fileloc": fileloc,
        "version_hash": "",
        "isolation": "fork",
        "priority": 1,
        "log_path": log_path(dag_id, run_id, task_id, -1, 1),
        "first_poke_at": None,
        "run": {
            "run_type": "manual",
            "logical_date": "2026-11-21T08:00:00+00:00",
            "data_interval_start": "2026-11-21T08:00:00+00:00",
            "data_interval_end": "2026-11-21T08:00:00+00:00",
            "conf": {},
            "start_date": "2026-11-21T08:00:01+00:00",
        },
        **more,
    }


class WorkerProcess:
    """`opskit worker` of one OPSKIT_HOME."""

    def __init__(self, home: Path, **settings: Any) -> None:
        """`settings` like `core__parallelism=4`."""
        self.home = home
        (home / "dags").mkdir(parents=True, exist_ok=True)
        self.environment = {
            **os.environ,
            "OPSKIT_HOME": str(home),
            **{f"OPSKIT__{name.upper()}": str(value) for name, value in settings.items()},
        }
        self.errors = home / "worker.err"
        with self.errors.open("ab") as stderr:
            self.process = warm.start("worker", env=self.environment, output=stderr.fileno())
        self.schedulers: list[Scheduler] = []

    def connect(self, name: str = "scheduler-1") -> Scheduler:
        scheduler = Scheduler(self.home, name)
        self.schedulers.append(scheduler)
        return scheduler

    def log(self, frame: Frame) -> str:
        return (self.home / "logs" / frame["log_path"]).read_text()

    def write_dag(self, text: str, name: str = "d.py") -> None:
        path = self.home / "dags" / name
        temporary = path.with_suffix(".new")
        temporary.write_text(text)
        temporary.rename(path)

    def children(self, name: str) -> list[int]:
        """Pids of this worker's descendants with this process name; not of one that was forked from such a process just
        now, and has not come to take a name of its own."""
        names = {pid: _name_and_parent(pid) for pid in descendants(self.process.pid)}
        return [pid for pid, (own, parent) in names.items() if own == name and names.get(parent, ("", 0))[0] != name]

    def stop(self, timeout: float = 30.0) -> int:
        for scheduler in self.schedulers:
            scheduler.close()
        # Each further signal makes it more impatient.
        for _ in range(int(timeout / 0.3)):
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
            try:
                return self.process.wait(0.3)
            except subprocess.TimeoutExpired:
                continue
        self.process.kill()
        self.process.wait()
        raise AssertionError(f"the worker did not stop within {timeout:g} s: {self.errors.read_text()}")


@contextmanager
def worker(home: Path, **settings: Any) -> Iterator[WorkerProcess]:
    running = WorkerProcess(home, **{"core__worker_stop_grace": 0.2, "core__killed_task_cleanup_time": 1.0, **settings})
    try:
        yield running
    finally:
        running.stop()


def _name_and_parent(pid: int) -> tuple[str, int]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "", 0
    name, _, rest = text.rpartition(")")
    return name.partition("(")[2], int(rest.split()[1])


def descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                text = Path(f"/proc/{name}/stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(text[text.rindex(")") + 2 :].split()[1]), []).append(int(name))
    found, todo = [], [pid]
    while todo:
        below = parents.get(todo.pop(), [])
        found += below
        todo += below
    return found


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie has)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return text[text.rindex(")") + 2] in "ZX"


def drain_deadline(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end
