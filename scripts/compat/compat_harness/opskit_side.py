"""Run DAG files on opskit: `python -m compat_harness.opskit_side --home DIR` reads a work item per line and answers
with a line. It executes foreign code: start it in a sandbox (compat_harness.sandbox) for files that are not ours.

A work item: `{"id", "path", "root", "airflow", "run", "seconds", "companions": [dag_id, …]}`.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from compat_harness import opskit_values, surroundings

_LOG_END = 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    home: Path = parser.parse_args().home
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    surroundings.prepare(home, OPSKIT_HOME=str(home / "opskit"))
    import opskit.core.dag.loading
    import opskit.core.dag.testing
    import opskit.operators  # noqa: F401

    for line in sys.stdin:
        replies.write(json.dumps(_handle(json.loads(line), home), default=str) + "\n")
        replies.flush()


def _handle(item: dict[str, Any], home: Path) -> dict[str, Any]:
    """Fork, wait no longer than the item allows, and take the last thing that the child has told."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            os.setpgid(0, 0)
            _Child(item, home, writer).answer()
        finally:
            os._exit(0)
    os.close(writer)
    told, ends = b"", time.monotonic() + item.get("seconds", 60)
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
        answer["fatal"] = f"ended with status {status}" if finished else f"not within {item.get('seconds', 60)} s"
    return answer


class _Child:
    def __init__(self, item: dict[str, Any], home: Path, writer: int) -> None:
        self.item = item
        self.home = home
        self.writer = writer
        self.path = Path(item["path"])
        self.result: dict[str, Any] = {"id": item["id"], "airflow": item["airflow"], "dags": {}, "import_errors": []}

    def answer(self) -> None:
        began = time.monotonic()
        log = (self.home / "child.log").open("wb", buffering=0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            plugins = surroundings.enter(self.home, self.path, Path(self.item["root"]))
            if self.item["run"]:
                surroundings.hurry()
            dags = self._load(plugins)
            self.result["parse_s"] = round(time.monotonic() - began, 3)
            self._tell("parsed")
            if self.item["run"]:
                self._run(dags[: surroundings.DAGS_AT_MOST])
        except BaseException as error:  # noqa: BLE001 - foreign code may raise anything
            self.result["fatal"] = f"{type(error).__name__}: {error}"[:300]
            traceback.print_exc()
        if any(dag.get("run") != "success" for dag in self.result["dags"].values()) or "fatal" in self.result:
            self.result["log"] = (self.home / "child.log").read_bytes()[-_LOG_END:].decode("utf-8", "replace")
        self.result["seconds"] = round(time.monotonic() - began, 2)
        self._tell("done")

    def _tell(self, stage: str) -> None:
        data = (json.dumps({**self.result, "stage": stage}, default=str) + "\n").encode()
        while data:
            data = data[os.write(self.writer, data) :]

    def _load(self, plugins: Path | None) -> list[Any]:
        from opskit.core.dag import loading
        from opskit.errors import DagInvalid

        os.environ["OPSKIT__CORE__AIRFLOW_DIALECT"] = self.item["airflow"][0]
        if plugins is not None:
            os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"] = os.environ["OPSKIT__CORE__PLUGINS_FOLDER"] = str(plugins)
        try:
            dags = loading.load_file(self.path, self.path.parent)
        except DagInvalid as error:
            self.result["import_errors"] = [str(error)[:1500]]
            return []
        for dag in dags:
            self.result["dags"][dag.dag_id] = opskit_values.structure(dag)
        return dags

    def _run(self, dags: list[Any]) -> None:
        from opskit.core.dag import runtime

        known = {dag.dag_id for dag in dags} | set(self.item.get("companions", ()))
        behind = runtime.MemoryStore(dag_ids=known)
        behind.connections.update(opskit_values.default_connections())
        recorder = opskit_values.Recorder(behind, self.item["airflow"])
        for dag in dags:
            answer = self.result["dags"][dag.dag_id]
            surroundings.impatient(dag)
            at, moving = surroundings.logical_date(dag)
            answer["logical_date"] = "relative" if moving else at.isoformat()
            try:
                answer["run"] = dag.test(logical_date=at).state
            except BaseException as error:  # noqa: BLE001 - whatever comes out of a run is its answer
                answer["run_error"] = f"{type(error).__name__}: {error}"[:300]
                traceback.print_exc()
            answer.update(recorder.take(dag.dag_id))
            self._tell("ran")


if __name__ == "__main__":
    main()
