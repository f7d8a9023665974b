"""A cluster under the eyes of a watchdog, with times that are short enough for tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import text

from opskit.core.metastore.engine import open_engine, transaction
from opskit.system.daemon import PidFile, is_alive, read_pid_files
from tests import warm
from tests.waiting import wait_until

FAST = {
    "OPSKIT__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "0.2",
    "OPSKIT__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "1",
    "OPSKIT__WATCHDOG__SLOW_AFTER": "1",
    "OPSKIT__WATCHDOG__STUCK_AFTER": "2.5",
    "OPSKIT__WATCHDOG__SECOND_LOOK": "1",
    "OPSKIT__WATCHDOG__TERM_GRACE": "1",
    "OPSKIT__WATCHDOG__BACKOFF": "0",
    "OPSKIT__WATCHDOG__PROBE_TIMEOUT": "2",
    "OPSKIT__WATCHDOG__COMPONENTS": "scheduler",
}


@dataclass
class Cluster:
    """A home with a metastore; processes that run in it are found by their pid files."""

    home: Path
    url: str
    opskit: Callable[..., subprocess.CompletedProcess[str]]
    environment: dict[str, str]
    children: list[warm.Process] = field(default_factory=list)

    def start(self, *command: str) -> warm.Process:
        """`opskit COMMAND` in a session of its own, its output in logs/COMMAND.log."""
        (self.home / "logs").mkdir(exist_ok=True)
        with open(self.home / "logs" / f"{command[0]}.log", "ab") as output:
            child = warm.start(*command, env={**os.environ, **self.environment}, output=output.fileno())
        self.children.append(child)
        return child

    def start_scheduler(self) -> PidFile:
        before = {record.pid for record in self.living("scheduler")}
        self.start("scheduler")
        found = wait_until(
            lambda: [record for record in self.living("scheduler") if record.pid not in before],
            what=lambda: f"a scheduler: {self.log('scheduler')}",
        )[0]
        wait_until(lambda: self.progress(found.instance_id) > 1, what=lambda: f"loops: {self.log('scheduler')}")
        return found

    def watchdog(self, *arguments: str, check: bool = False, **settings: Any) -> dict[str, Any]:
        done = self.opskit(
            "watchdog", "--output", "json", *arguments, env={**self.environment, **settings}, check=check
        )
        assert done.stdout, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        assert report["exit_code"] == done.returncode
        return report

    def living(self, kind: str = "*") -> list[PidFile]:
        files = read_pid_files(self.home / "run", kind)
        return [record for _, record in files if is_alive(record.pid, record.pid_started)]

    def progress(self, instance_id: str) -> int:
        rows = self.query(f"SELECT progress FROM instance WHERE id = '{instance_id}'")
        return int(rows[0][0]) if rows else 0

    def query(self, sql: str) -> list[Any]:
        engine = open_engine(self.url)
        try:
            with transaction(engine) as connection:
                result = connection.execute(text(sql))
                return list(result) if result.returns_rows else []
        finally:
            engine.dispose()

    def log(self, name: str) -> str:
        with suppress(FileNotFoundError):
            return (self.home / "logs" / f"{name}.log").read_text()[-2000:]
        return "(no log)"

    def end(self) -> None:
        # The supervisor first: it would start the others again.
        for record in sorted(self.living(), key=lambda record: record.kind != "standalone"):
            with suppress(ProcessLookupError):
                os.kill(record.pid, signal.SIGKILL)
        for child in self.children:
            with suppress(ProcessLookupError):
                child.kill()
            child.wait()
        wait_until(lambda: not self.living(), what=lambda: f"the end of {self.living()}")


def deeds(report: dict[str, Any]) -> list[tuple[str, bool]]:
    return [(deed["deed"], deed["helped"]) for deed in report["deeds"]]
