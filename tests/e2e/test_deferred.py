"""Deferred tasks on a cluster of real processes: they occupy no slot, and outlive schedulers and workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from opskit.core.metastore.engine import reading
from opskit.core.metastore.tables import pool, task_instance, xcom
from tests.databases import Databases
from tests.e2e.cluster import LEDGER, Cluster
from tests.waiting import wait_until

DAG = (
    LEDGER
    + """
import asyncio, pathlib
from datetime import timedelta
from opskit import DAG
from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.triggers.base import BaseTrigger, TriggerEvent
from opskit.operators import PythonOperator

HERE = pathlib.Path(os.environ["LEDGER"]).parent

class FileThere(BaseTrigger):
    def __init__(self, path, word):
        super().__init__()
        self.path, self.word = path, word

    def serialize(self):
        return f"{__name__}.FileThere", {"path": self.path, "word": self.word}

    async def run(self):
        if self.word == "broken":
            raise ValueError("no such thing")
        with open(HERE / "waiting", "a") as file:
            file.write(f"{self.word} {os.getpid()}\\n")
        while not pathlib.Path(self.path).exists():
            await asyncio.sleep(0.05)
        yield TriggerEvent({"said": self.word, "pid": os.getpid()})

class Waits(BaseOperator):
    template_fields = ("word",)

    def __init__(self, *, word, timeout=None, **arguments):
        super().__init__(**arguments)
        self.word, self.timeout = word, timeout

    def execute(self, context):
        note("start", **context)
        context["ti"].xcom_push("before", 1)
        self.defer(
            trigger=FileThere(str(HERE / "go"), self.word), method_name="go_on", kwargs={"x": {1, 2}},
            timeout=self.timeout,
        )

    def go_on(self, context, event, x):
        assert x == {1, 2} and context["ti"].xcom_pull(task_ids=self.task_id, key="before") == 1
        note("end", **context)
        return [event["said"], event["pid"] != os.getpid()]

with DAG("d", schedule=None):
    for number in range(4):
        Waits(task_id=f"w{number}", word="{{ run_id }}")
    Waits(task_id="broken", word="broken", retries=1, retry_delay=timedelta(0))
    Waits(task_id="late", word="late", timeout=timedelta(seconds=0.2))
    PythonOperator(task_id="meanwhile", python_callable=lambda: None, priority_weight=0)
"""
)


@pytest.fixture
def cluster(databases: Databases, home: Path) -> Iterator[Cluster]:
    url = databases.migrated("postgresql")
    made = Cluster(home, url, environment={"OPSKIT__CORE__PARALLELISM": "1"})
    yield made
    made.stop()
    databases.drop(url)


def test_deferred_tasks_leave_the_slot_to_others_and_outlive_schedulers_and_workers(cluster: Cluster) -> None:
    cluster.write_dag("d", DAG)
    for kind in ("worker", "dag-processor", "scheduler"):
        cluster.start(kind)
    cluster.wait_for_dags("d")
    cluster.trigger("d", 1)

    def states() -> dict[str, str | None]:
        return {row.task_id: row.state for row in cluster.rows(task_instance)}

    def waiting() -> int:
        return len((cluster.home / "waiting").read_text().splitlines())

    expected = {**dict.fromkeys(("w0", "w1", "w2", "w3"), "deferred"), "broken": "failed", "late": "failed"}
    wait_until(lambda: states() == {**expected, "meanwhile": "success"}, 60, what=cluster.story)
    wait_until(lambda: waiting() == 5, 20, what="every trigger runs")
    assert {row.used_slots for row in cluster.rows(pool)} == {0}
    cluster.kill("scheduler")
    cluster.start("scheduler")
    cluster.kill("worker")
    cluster.start("worker")
    wait_until(lambda: waiting() == 9, 60, what="a new worker waits in the place of the one that is gone")
    (cluster.home / "go").touch()
    cluster.wait_for_runs(60)
    rows = {row.task_id: row for row in cluster.rows(task_instance)}
    assert {task_id: row.state for task_id, row in rows.items() if task_id.startswith("w")} == dict.fromkeys(
        ("w0", "w1", "w2", "w3"), "success"
    )
    assert {task_id: row.try_number for task_id, row in rows.items()} == {**dict.fromkeys(rows, 1), "broken": 2}
    assert "no such thing" in rows["broken"].reason and "timeout" in rows["late"].reason
    starts, ends = cluster.attempts()
    assert set(starts.values()) == {1}
    assert Counter(key.split()[2] for key in ends) == Counter(("w0", "w1", "w2", "w3"))
    with reading(cluster.engine) as connection:
        found = connection.execute(select(xcom.c.task_id, xcom.c.key, xcom.c.value).where(xcom.c.task_id == "w0")).all()
    assert sorted(tuple(row)[1:] for row in found) == [("before", "1"), ("return_value", '["r1", true]')]
