"""Which run is the first, and which comes next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from opskit.core.dag import dialect, schedules, timetables
from opskit.core.dag.timetables import DataInterval, TimeRestriction, make_timetable

START = datetime(2024, 1, 1, tzinfo=UTC)
UNPAUSED = datetime(2024, 1, 5, 10, tzinfo=UTC)


def first(schedule: Any, now: datetime, spoken: Any = None, catchup: bool = False) -> datetime | None:
    with dialect.speaking(spoken):
        timetable = make_timetable(schedule, UTC)
    info = schedules.upcoming(timetable, None, TimeRestriction(START, None, catchup, now), UNPAUSED)
    return None if info is None else info.run_after


@pytest.mark.parametrize("spoken", [None, 2, 3])
@pytest.mark.parametrize("minutes", [0, 1, 800])
def test_nothing_runs_before_the_first_time_after_it_was_unpaused(spoken: Any, minutes: int) -> None:
    assert first("@daily", UNPAUSED + timedelta(minutes=minutes), spoken) == datetime(2024, 1, 6, tzinfo=UTC)


def test_of_several_times_since_then_the_newest_is_the_first_run() -> None:
    assert first("@daily", UNPAUSED + timedelta(days=3)) == datetime(2024, 1, 8, tzinfo=UTC)


def test_a_trigger_by_timedelta_waits_for_its_length() -> None:
    assert first(timedelta(hours=1), UNPAUSED, 3) == UNPAUSED + timedelta(hours=1)


def test_catchup_and_once_do_not_care() -> None:
    assert first("@daily", UNPAUSED, catchup=True) == datetime(2024, 1, 2, tzinfo=UTC)
    assert first("@once", UNPAUSED) == START


def test_a_schedule_that_would_give_the_same_interval_for_ever_goes_on() -> None:
    """Airflow 2 does over the end of summer time with an hourly schedule on Mondays."""
    with dialect.speaking(2):
        timetable = make_timetable("0 * * * 1", ZoneInfo("Europe/Berlin"))
    last: DataInterval | None = None
    found = []
    for _ in range(30):
        info = schedules.upcoming(
            timetable, last, TimeRestriction(datetime(2023, 10, 23, tzinfo=UTC), None, True, None)
        )
        assert info is not None
        found.append(info.data_interval)
        last = info.data_interval
    assert len(set(found)) == 30
    assert found[-1].end > datetime(2023, 10, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("spoken", "cron", "delta"),
    [
        (None, "CronDataIntervalTimetable", "DeltaDataIntervalTimetable"),
        (2, "CronDataIntervalTimetable", "DeltaDataIntervalTimetable"),
        (3, "CronTriggerTimetable", "DeltaTriggerTimetable"),
    ],
)
def test_a_schedule_means_what_it_means_in_the_airflow_of_its_file(spoken: Any, cron: str, delta: str) -> None:
    with dialect.speaking(spoken):
        assert type(make_timetable("@daily", UTC)).__name__ == cron
        assert type(make_timetable(timedelta(days=1), UTC)).__name__ == delta


@pytest.mark.parametrize(("spoken", "catchup", "runs"), [(None, None, "none"), (2, True, "delta"), (3, False, "none")])
def test_what_a_dag_does_not_say_is_as_in_the_airflow_of_its_file(spoken: Any, catchup: Any, runs: str) -> None:
    from opskit.core.dag.model import DAG

    with dialect.speaking(spoken):
        dag = DAG("d", start_date=START)
    assert dag.catchup is catchup
    assert timetables.serialize(dag.timetable)["type"] == runs


def test_a_cron_expression_that_never_matches_is_never_where_airflow_is_spoken() -> None:
    with dialect.speaking(2):
        timetable = make_timetable("0 0 31 2 *", UTC)
    timetables.check(timetable)
    assert schedules.upcoming(timetable, None, TimeRestriction(START, None, True, UNPAUSED)) is None


def test_months_are_months() -> None:
    from dateutil.relativedelta import relativedelta

    timetable = timetables.deserialize(timetables.serialize(make_timetable(relativedelta(months=1, day=31), UTC)))
    start = datetime(2024, 1, 31, tzinfo=UTC)
    ends, last = [], None
    for _ in range(3):
        info = timetables.next_run(timetable, last, TimeRestriction(start, None, True, UNPAUSED))
        assert info is not None
        ends.append(info.run_after.date().isoformat())
        last = info.data_interval
    assert ends == ["2024-02-29", "2024-03-31", "2024-04-30"]


def test_the_dates_of_tasks_count_where_the_dag_has_none() -> None:
    from opskit.core.dag.model import DAG
    from opskit.core.dag.operators.empty import EmptyOperator

    def bounds(spoken: Any, **values: Any) -> tuple[datetime | None, datetime | None]:
        with dialect.speaking(spoken), DAG("d", schedule="@daily", **values) as dag:
            EmptyOperator(task_id="a", start_date=START, end_date=UNPAUSED)
            EmptyOperator(task_id="b", start_date=START + timedelta(days=1))
        return schedules.bounds(dag)

    later = START + timedelta(days=9)
    assert bounds(2) == (START, UNPAUSED)
    assert bounds(None) == (START, None)
    assert bounds(2, start_date=later, end_date=later) == (later, later)


def test_a_subclass_may_skip_in_its_own_way() -> None:
    class Never(timetables.CronDataIntervalTimetable):
        def _skip_to_latest(self, earliest: datetime | None) -> datetime:
            return self._get_next(earliest)  # type: ignore[arg-type]

    info = timetables.next_run(Never("0 0 * * *"), None, TimeRestriction(START, None, False, UNPAUSED))
    assert info is not None
    assert info.logical_date == START + timedelta(days=1)


def test_a_zone_counts_by_its_name_whatever_library_it_is_of() -> None:
    class OfAnother(tzinfo):
        """As pytz's: not to be put into a datetime."""

        zone = "Europe/Berlin"

        def utcoffset(self, moment: datetime | None) -> timedelta:
            return timedelta(minutes=53)

        def dst(self, moment: datetime | None) -> timedelta:
            return timedelta()

    timetable = timetables.CronDataIntervalTimetable("0 5 * * *", OfAnother())
    info = timetables.next_run(timetable, None, TimeRestriction(datetime(2024, 7, 1, tzinfo=UTC), None, True))
    assert info is not None
    assert info.run_after == datetime(2024, 7, 2, 3, tzinfo=UTC)
