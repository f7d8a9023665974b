"""A cluster of real processes on one OPSKIT_HOME, for tests that kill them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from opskit import config as configuration
from opskit.core.metastore import dags, runs
from opskit.core.metastore.engine import Engine, open_engine, reading, transaction
from opskit.core.metastore.tables import dag, dag_run, task_instance
from opskit.system.wake import wake
from tests import warm
from tests.waiting import wait_until

START = datetime(2026, 1, 1, tzinfo=UTC)

LEDGER = '''
import os
def note(word, **context):
    """One line that even a SIGKILL can't tear: start and end of each attempt."""
    ti = context["ti"]
    line = f"{word} {ti.dag_id} {ti.run_id} {ti.task_id} {ti.try_number} {os.getpid()}\\n"
    fd = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(fd, line.encode())
    os.close(fd)
'''


@dataclass
class Cluster:
    home: Path
    url: str
    processes: dict[str, warm.Process] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.engine: Engine = open_engine(self.url)
        self.ledger = self.home / "ledger"
        self.ledger.touch()
        (self.home / "dags").mkdir(exist_ok=True)
        self.environment = {
            **os.environ,
            "OPSKIT_HOME": str(self.home),
            "OPSKIT__DATABASE__SQL_ALCHEMY_CONN": self.url,
            "LEDGER": str(self.ledger),
            **self.environment,
        }

    def write_dag(self, name: str, text: str) -> None:
        (self.home / "dags" / f"{name}.py").write_text(text)

    def start(self, kind: str, name: str | None = None) -> warm.Process:
        """Start `opskit <kind>`; its output goes to <home>/<name>.out."""
        name = name or kind
        with (self.home / f"{name}.out").open("ab") as out:
            process = warm.start(kind, env=self.environment, output=out.fileno())
        self.processes[name] = process
        return process

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait(20)

    def stop(self) -> None:
        for name in ("scheduler", "scheduler2", "dag-processor", "worker"):
            process = self.processes.pop(name, None)
            if process is None:
                continue
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.engine.dispose()

    def output(self, name: str) -> str:
        return (self.home / f"{name}.out").read_text(errors="replace")

    def wait_for_dags(self, *dag_ids: str, timeout: float = 60.0) -> None:
        """Until the DAG processor has them; unpauses them."""

        def there() -> bool:
            with reading(self.engine) as connection:
                return set(dag_ids) <= set(connection.execute(select(dag.c.dag_id)).scalars())

        wait_until(there, timeout, what=lambda: f"DAGs {dag_ids}: {self.output('dag-processor')}")
        with transaction(self.engine) as connection:
            dags.set_paused(connection, dag_ids, False, datetime.now(UTC))
        self.wake()

    def trigger(self, dag_id: str, number: int, conf: dict[str, Any] | None = None) -> str:
        run_id = f"r{number}"
        at = START + timedelta(minutes=number)
        with transaction(self.engine) as connection:
            runs.trigger(connection, dag_id, run_id=run_id, logical_date=at, now=datetime.now(UTC), conf=conf)
        self.wake()
        return run_id

    def wake(self) -> None:
        wake(configuration.load(self.home, self.environment).run_folder, "scheduler")

    def rows(self, table: Any) -> list[Any]:
        with reading(self.engine) as connection:
            return list(connection.execute(select(table)).all())

    def run_states(self) -> Counter[str]:
        return Counter(row.state for row in self.rows(dag_run))

    def wait_for_runs(self, timeout: float = 120.0) -> None:
        """Until no run is active."""

        def over() -> bool:
            states = self.run_states()
            return not states["queued"] and not states["running"]

        wait_until(over, timeout, every=0.1, what=lambda: f"{self.run_states()}\n{self.story()}")

    def story(self) -> str:
        """What a failed test shows."""
        unfinished = [
            (row.task_id, row.state, row.try_number, row.reason)
            for row in self.rows(task_instance)
            if row.state not in ("success", "skipped", "upstream_failed")
        ]
        outputs = "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in self.home.glob("*.out")
        )
        return f"{unfinished[:20]}\n{outputs}"

    def attempts(self) -> tuple[Counter[str], Counter[str]]:
        """Starts and ends in the ledger, by "dag run task try"."""
        starts: Counter[str] = Counter()
        ends: Counter[str] = Counter()
        for line in self.ledger.read_text().splitlines():
            word, rest = line.split(" ", 1)
            (starts if word == "start" else ends)[rest.rsplit(" ", 1)[0]] += 1
        return starts, ends
