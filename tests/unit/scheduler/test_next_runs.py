"""Which runs come next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from opskit.core.dag import timetables
from opskit.core.dag.serialized import SerializedDag
from opskit.core.scheduler.next_runs import next_runs

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


def dag(schedule: object, start: datetime, catchup: bool | None = None, end: datetime | None = None) -> SerializedDag:
    timetable = timetables.serialize(timetables.make_timetable(schedule, ZoneInfo("UTC")))
    return SerializedDag("d", "d.py", timetable, (), start_date=start, end_date=end, catchup=catchup)


def test_with_catchup_the_first_run_is_the_oldest_interval() -> None:
    runs = next_runs(dag("@daily", datetime(2026, 3, 1, tzinfo=UTC), True), None, False, NOW, 3)
    assert [run.logical_date.day for run in runs] == [1, 2, 3]


def test_without_catchup_only_the_newest_interval_is_due_and_the_next_ones_follow() -> None:
    runs = next_runs(dag("@daily", datetime(2026, 3, 1, tzinfo=UTC), False), None, True, NOW, 3)
    assert [run.logical_date.day for run in runs] == [9, 10, 11]


def test_the_default_decides_where_the_dag_does_not_say() -> None:
    definition = dag("@daily", datetime(2026, 3, 1, tzinfo=UTC))
    assert next_runs(definition, None, True, NOW)[0].logical_date.day == 1
    assert next_runs(definition, None, False, NOW)[0].logical_date.day == 9


def test_the_run_after_the_newest_one_is_next() -> None:
    last = (datetime(2026, 3, 5, tzinfo=UTC), datetime(2026, 3, 6, tzinfo=UTC))
    runs = next_runs(dag(timedelta(days=1), datetime(2026, 3, 1, tzinfo=UTC), True), last, False, NOW)
    assert runs[0].logical_date.day == 6


def test_a_dag_that_has_ended_has_no_next_run() -> None:
    definition = dag("@daily", datetime(2026, 3, 1, tzinfo=UTC), True, end=datetime(2026, 3, 2, tzinfo=UTC))
    assert len(next_runs(definition, None, False, NOW, 10)) == 2


def test_a_dag_without_schedule_has_no_next_run() -> None:
    assert next_runs(dag(None, datetime(2026, 3, 1, tzinfo=UTC)), None, True, NOW, 5) == []
