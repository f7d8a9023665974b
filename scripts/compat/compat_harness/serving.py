"""A process that answers a work item per line, each in a forked child with a time limit.

A work item: `{"id", "path", "root", "airflow", "run", "seconds", "companions"}`, as `compat_harness.run` makes it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compat_harness import surroundings

_LOG_END = 4000


class Child:
    """One item in its own process. Subclasses load and run; `result` is the answer so far."""

    def __init__(self, item: dict[str, Any], home: Path, writer: int) -> None:
        self.item = item
        self.home = home
        self.writer = writer
        self.path = Path(item["path"])
        self.root = Path(item["root"])
        self.result: dict[str, Any] = {"id": item["id"], "airflow": item["airflow"], "dags": {}, "import_errors": []}

    def load(self, plugins: Path | None) -> list[Any]:
        """The DAGs; notes their structure and the import errors in `result`."""
        raise NotImplementedError

    def run(self, dags: list[Any]) -> None:
        raise NotImplementedError

    def answer(self) -> None:
        began = time.monotonic()
        # Items come in through the standard input: what a task starts must not read them.
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        log = (self.home / "child.log").open("wb", buffering=0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            plugins = surroundings.enter(self.home, self.path, self.root)
            if self.item["run"]:
                surroundings.hurry()
            dags = self.load(plugins)
            self.result["parse_s"] = round(time.monotonic() - began, 5)
            self.tell("parsed")
            if self.item["run"] and dags:
                self.run(dags)
        except BaseException as error:  # noqa: BLE001 - foreign code may raise anything
            self.result["fatal"] = f"{type(error).__name__}: {error}"[:300]
            traceback.print_exc()
        if "fatal" in self.result or any(dag.get("run") != "success" for dag in self.result["dags"].values()):
            self.result["log"] = (self.home / "child.log").read_bytes()[-_LOG_END:].decode("utf-8", "replace")
        self.result["seconds"] = round(time.monotonic() - began, 2)
        self.tell("done")

    def tell(self, stage: str) -> None:
        data = (json.dumps({**self.result, "stage": stage}, default=str) + "\n").encode()
        while data:
            data = data[os.write(self.writer, data) :]


def serve(make: Callable[[dict[str, Any], Path, int], Child], home: Path, replies: Any) -> None:
    replies.write("ready\n")
    replies.flush()
    for line in sys.stdin:
        replies.write(json.dumps(handle(make, json.loads(line), home), default=str) + "\n")
        replies.flush()


def handle(make: Callable[[dict[str, Any], Path, int], Child], item: dict[str, Any], home: Path) -> dict[str, Any]:
    """Fork, wait no longer than the item allows, and take the last thing that the child has told."""
    limit = item.get("seconds", 60)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            os.setpgid(0, 0)
            make(item, home, writer).answer()
        finally:
            os._exit(0)
    os.close(writer)
    told, ends = b"", time.monotonic() + limit
    finished = False
    while not finished and (left := ends - time.monotonic()) > 0:
        if select.select([reader], [], [], left)[0]:
            part = os.read(reader, 1 << 16)
            finished = not part or b'"stage": "done"' in part
            told += part
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
    status = os.waitpid(pid, 0)[1]
    os.close(reader)
    lines = [line for line in told.split(b"\n") if line.endswith(b"}")]
    answer: dict[str, Any] = json.loads(lines[-1]) if lines else {"id": item["id"], "dags": {}}
    answer["airflow"] = item["airflow"]
    if answer.pop("stage", "") != "done":
        answer["fatal"] = f"ended with status {status}" if finished else f"not within {limit} s"
    return answer
