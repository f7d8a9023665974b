"""Schedules that only the DAG file knows, from the file to runs: a timetable of its own, one of a plugin, run_if."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from sqlalchemy import select

from opskit.config import load
from opskit.core.metastore.engine import open_engine, reading
from opskit.core.metastore.tables import dag_run
from opskit.errors import OpskitError
from tests.daemons import running
from tests.waiting import wait_until

Opskit = Callable[..., "CompletedProcess[str]"]

OWN = """
from datetime import datetime, timezone
from airflow import DAG
from airflow.operators.empty import EmptyOperator
from airflow.timetables.base import DagRunInfo, DataInterval, Timetable

class Steps(Timetable):
    description = "step by step"

    def __init__(self, seconds):
        self.seconds = seconds

    def serialize(self):
        return {"seconds": self.seconds}

    @classmethod
    def deserialize(cls, data):
        return cls(data["seconds"])

    def infer_manual_data_interval(self, *, run_after):
        return DataInterval(run_after.subtract(seconds=self.seconds), run_after)

    def next_dagrun_info(self, *, last_automated_data_interval, restriction):
        start = last_automated_data_interval.end if last_automated_data_interval else restriction.earliest
        if restriction.latest is not None and start > restriction.latest:
            return None
        return DagRunInfo.interval(start=start, end=start.add(seconds=self.seconds))

    def generate_run_id(self, *, run_type, logical_date, data_interval, **extra):
        return f"step__{logical_date.format('ss')}"

with DAG(
    "own",
    schedule=Steps(20),
    start_date=datetime(2024, 1, 1, tzinfo=timezone.utc),
    end_date=datetime(2024, 1, 1, 0, 0, 45, tzinfo=timezone.utc),
    is_paused_upon_creation=False,
):
    EmptyOperator(task_id="a")
"""

PLUGIN = """
from airflow.plugins_manager import AirflowPlugin
from airflow.timetables.interval import CronDataIntervalTimetable

class OddDays(CronDataIntervalTimetable):
    def next_dagrun_info(self, *, last_automated_data_interval, restriction):
        info = super().next_dagrun_info(
            last_automated_data_interval=last_automated_data_interval, restriction=restriction
        )
        while info is not None and info.logical_date.in_timezone("Europe/Berlin").day % 2 == 0:
            info = super().next_dagrun_info(last_automated_data_interval=info.data_interval, restriction=restriction)
        return info

class Calendars(AirflowPlugin):
    name = "calendars"
    timetables = [OddDays]
"""

FROM_PLUGIN = """
from datetime import datetime, timezone
from airflow import DAG
from airflow.operators.empty import EmptyOperator
from calendars import OddDays

with DAG(
    "odd_days",
    schedule=OddDays("0 0 * * *", "Europe/Berlin"),
    start_date=datetime(2024, 3, 29, tzinfo=timezone.utc),
    end_date=datetime(2024, 4, 3, tzinfo=timezone.utc),
    is_paused_upon_creation=False,
):
    EmptyOperator(task_id="a")
"""

PREDICATE = """
from datetime import UTC, datetime
from pathlib import Path
from opskit import DAG
from opskit.operators import EmptyOperator

def wanted(data_interval, logical_date):
    if logical_date.day == 6:
        raise RuntimeError("the calendar is away")
    return logical_date.day % 2 == 1 and data_interval.end.day % 2 == 0

with DAG(
    "wanted", schedule="@daily", run_if=wanted, catchup=True, is_paused_upon_creation=False,
    start_date=datetime(2024, 1, 1, tzinfo=UTC), end_date=datetime(2024, 1, 9, tzinfo=UTC),
):
    EmptyOperator(task_id="a")

with DAG(
    "no_surprise", schedule="@daily", first_run="next", catchup=False, is_paused_upon_creation=False,
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
):
    EmptyOperator(task_id="a")
"""


@pytest.mark.timeout(240)
def test_schedules_that_only_the_dag_file_knows_make_their_runs(home: Path, opskit: Opskit) -> None:
    (home / "plugins").mkdir()
    (home / "plugins" / "calendars.py").write_text(PLUGIN)
    for name, text in (("own", OWN), ("odd_days", FROM_PLUGIN), ("wanted", PREDICATE)):
        (home / "dags" / f"{name}.py").write_text(text)

    engine = open_engine(load(home))

    def runs(dag_id: str) -> list[tuple[str, str]]:
        """Logical date and run_id of those that have succeeded."""
        try:
            with reading(engine) as connection:
                rows = connection.execute(select(dag_run).where(dag_run.c.dag_id == dag_id)).all()
        except OpskitError:  # the metastore is being made
            return []
        return sorted((row.logical_date.isoformat()[:19], row.run_id) for row in rows if row.state == "success")

    with running("standalone", home) as daemon:
        wait_until(lambda: len(runs("own")) == 3, 90.0, what=lambda: f"three runs of its own:\n{daemon.log()}")
        assert [run_id for _, run_id in runs("own")] == ["step__00", "step__20", "step__40"]
        wait_until(lambda: len(runs("odd_days")) == 3, 60.0, what=lambda: f"the plugin's runs:\n{daemon.log()}")
        # Midnight in Berlin, over the change to summer time on the 31st.
        assert [at for at, _ in runs("odd_days")] == [
            "2024-03-30T23:00:00",
            "2024-03-31T22:00:00",
            "2024-04-02T22:00:00",
        ]
        # Day 6 raises: what comes after it waits, nothing is lost.
        wait_until(lambda: len(runs("wanted")) == 3, 60.0, what=lambda: f"three wanted runs:\n{daemon.log()}")
        assert [at[:10] for at, _ in runs("wanted")] == ["2024-01-01", "2024-01-03", "2024-01-05"]
        assert "the calendar is away (wanted.py, line" in opskit("dags", "list").stderr
        opskit("dags", "trigger", "own", "-r", "by-hand", "-l", "2024-02-01T00:01:00+00:00")
        with reading(engine) as connection:
            by_hand = connection.execute(select(dag_run).where(dag_run.c.run_id == "by-hand")).one()
        assert by_hand.data_interval_start.isoformat()[:19] == "2024-02-01T00:00:40"
        assert runs("no_surprise") == []
