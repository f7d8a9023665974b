"""Timetables: intervals, catchup, summer time, and their JSON form."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from opskit.core.dag.timetables import (
    ContinuousTimetable,
    CronDataIntervalTimetable,
    CronTriggerTimetable,
    DagRunInfo,
    DataInterval,
    DeltaDataIntervalTimetable,
    NullTimetable,
    OnceTimetable,
    TimeRestriction,
    Timetable,
    check,
    describe,
    deserialize,
    make_timetable,
    serialize,
)
from opskit.errors import DagInvalid

BERLIN = ZoneInfo("Europe/Berlin")


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


def runs(timetable: Timetable, start: datetime | None, count: int, **restriction: Any) -> list[DagRunInfo]:
    """The first runs from `start` on, with catchup unless said otherwise."""
    values: dict[str, Any] = {"latest": None, "catchup": True, "now": None, **restriction}
    found: list[DagRunInfo] = []
    last: DataInterval | None = None
    for _ in range(count):
        info = timetable.next_dagrun_info(last, TimeRestriction(start, **values))
        if info is None:
            break
        found.append(info)
        last = info.data_interval
    return found


def test_a_run_starts_when_its_interval_is_over() -> None:
    first, second = runs(CronDataIntervalTimetable("@daily"), utc(2024, 1, 1), 2)
    assert first.data_interval == (utc(2024, 1, 1), utc(2024, 1, 2))
    assert first.run_after == utc(2024, 1, 2)
    assert first.logical_date == utc(2024, 1, 1)
    assert second.data_interval == (utc(2024, 1, 2), utc(2024, 1, 3))


def test_a_start_date_between_two_matches_waits_for_the_next_one() -> None:
    (first,) = runs(CronDataIntervalTimetable("0 6 * * *"), utc(2024, 1, 1, 7), 1)
    assert first.data_interval == (utc(2024, 1, 2, 6), utc(2024, 1, 3, 6))


def test_without_catchup_the_newest_interval_that_is_over_is_next() -> None:
    (first,) = runs(
        CronDataIntervalTimetable("@daily"), utc(2020, 1, 1), 1, catchup=False, now=utc(2024, 5, 10, 13, 30)
    )
    assert first.data_interval == (utc(2024, 5, 9), utc(2024, 5, 10))


def test_without_catchup_an_interval_that_ends_now_is_over() -> None:
    (first,) = runs(CronDataIntervalTimetable("@daily"), utc(2020, 1, 1), 1, catchup=False, now=utc(2024, 5, 10))
    assert first.data_interval == (utc(2024, 5, 9), utc(2024, 5, 10))


def test_without_catchup_nothing_runs_before_the_start_date() -> None:
    (first,) = runs(CronDataIntervalTimetable("@daily"), utc(2025, 1, 1), 1, catchup=False, now=utc(2024, 5, 10))
    assert first.data_interval.start == utc(2025, 1, 1)


def test_without_catchup_runs_since_the_last_one_are_left_out() -> None:
    info = CronDataIntervalTimetable("@daily").next_dagrun_info(
        DataInterval(utc(2024, 1, 1), utc(2024, 1, 2)),
        TimeRestriction(utc(2024, 1, 1), None, False, utc(2024, 2, 1, 5)),
    )
    assert info is not None
    assert info.data_interval == (utc(2024, 1, 31), utc(2024, 2, 1))


def test_the_end_date_is_the_last_logical_date() -> None:
    found = runs(CronDataIntervalTimetable("@daily"), utc(2024, 1, 1), 10, latest=utc(2024, 1, 3))
    assert [info.logical_date.day for info in found] == [1, 2, 3]


def test_a_changed_schedule_goes_on_at_its_own_boundaries() -> None:
    """The last run was hourly; the new schedule is daily: no interval of half a day."""
    info = CronDataIntervalTimetable("@daily").next_dagrun_info(
        DataInterval(utc(2024, 1, 1, 12), utc(2024, 1, 1, 13)), TimeRestriction(utc(2023, 1, 1), None, True)
    )
    assert info is not None
    assert info.data_interval == (utc(2024, 1, 1), utc(2024, 1, 2))


def test_a_manual_run_works_on_the_last_interval_that_is_over() -> None:
    timetable = CronDataIntervalTimetable("@daily")
    assert timetable.infer_manual_data_interval(utc(2024, 1, 5, 15)) == (utc(2024, 1, 4), utc(2024, 1, 5))
    assert timetable.infer_manual_data_interval(utc(2024, 1, 5)) == (utc(2024, 1, 4), utc(2024, 1, 5))


def test_midnight_in_berlin_stays_midnight_over_the_change_to_summer_time() -> None:
    found = runs(CronDataIntervalTimetable("@daily", "Europe/Berlin"), datetime(2024, 3, 30, tzinfo=BERLIN), 3)
    assert [info.logical_date for info in found] == [utc(2024, 3, 29, 23), utc(2024, 3, 30, 23), utc(2024, 3, 31, 22)]
    assert found[1].run_after - found[1].logical_date == timedelta(hours=23)


def test_a_time_that_summer_time_leaves_out_runs_once_an_hour_later() -> None:
    """02:30 does not exist on 31 March 2024 in Berlin: the run is at 03:30, and the next at 02:30 again."""
    found = runs(CronTriggerTimetable("30 2 * * *", timezone=BERLIN), datetime(2024, 3, 30, 2, 30, tzinfo=BERLIN), 3)
    assert [info.run_after.astimezone(BERLIN).strftime("%d %H:%M") for info in found] == [
        "30 02:30", "31 03:30", "01 02:30",
    ]  # fmt: skip


def test_a_time_that_comes_twice_runs_once() -> None:
    """02:30 comes twice on 27 October 2024 in Berlin; the second one counts."""
    found = runs(CronTriggerTimetable("30 2 * * *", timezone=BERLIN), datetime(2024, 10, 26, 2, 30, tzinfo=BERLIN), 3)
    assert [info.run_after for info in found] == [
        utc(2024, 10, 26, 0, 30),
        utc(2024, 10, 27, 1, 30),
        utc(2024, 10, 28, 1, 30),
    ]


@pytest.mark.parametrize("start", [utc(2024, 3, 30, 22), utc(2024, 10, 26, 21)])
def test_an_hourly_schedule_runs_every_real_hour_over_a_clock_change(start: datetime) -> None:
    found = runs(CronDataIntervalTimetable("@hourly", "Europe/Berlin"), start, 8)
    assert [info.logical_date for info in found] == [start + timedelta(hours=number) for number in range(8)]


_CRONS = ["@daily", "@hourly", "30 2 * * *", "*/20 * * * *", "15 1,2,3 * * *", "0 0 * * 0", "0 12 1 * *", "0 * * * 1"]


@settings(max_examples=150, deadline=None)
@given(
    cron=st.sampled_from(_CRONS),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "+05:30"]),
    start=st.datetimes(datetime(2023, 1, 1), datetime(2025, 12, 31)),
)
def test_intervals_follow_one_another_without_gap_or_overlap(cron: str, zone: str, start: datetime) -> None:
    found = runs(CronDataIntervalTimetable(cron, zone), start.replace(tzinfo=UTC, microsecond=0), 12)
    for info in found:
        assert info.data_interval.start < info.data_interval.end == info.run_after
        assert info.run_after.tzinfo is UTC
    for before, after in itertools.pairwise(found):
        assert before.data_interval.end == after.data_interval.start


@settings(max_examples=100, deadline=None)
@given(
    cron=st.sampled_from(_CRONS),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]),
    now=st.datetimes(datetime(2023, 1, 1), datetime(2025, 12, 31)),
)
def test_without_catchup_the_next_run_is_due_and_the_one_after_it_is_not(cron: str, zone: str, now: datetime) -> None:
    present = now.replace(tzinfo=UTC, second=0, microsecond=0)
    first, second = runs(CronDataIntervalTimetable(cron, zone), utc(2020, 1, 1), 2, catchup=False, now=present)
    assert first.run_after <= present
    assert second.run_after > present


def test_a_delta_counts_from_the_start_date() -> None:
    found = runs(DeltaDataIntervalTimetable(timedelta(hours=5)), utc(2024, 1, 1, 1, 7), 2)
    assert [info.logical_date for info in found] == [utc(2024, 1, 1, 1, 7), utc(2024, 1, 1, 6, 7)]


def test_a_delta_without_catchup_gives_the_newest_whole_step() -> None:
    (first,) = runs(
        DeltaDataIntervalTimetable(timedelta(hours=1)), utc(2020, 1, 1), 1, catchup=False, now=utc(2024, 1, 1, 12, 34)
    )
    assert first.data_interval == (utc(2024, 1, 1, 11), utc(2024, 1, 1, 12))


def test_once_runs_once_at_the_start_date() -> None:
    (only,) = runs(OnceTimetable(), utc(2024, 1, 1), 3)
    assert only.run_after == only.logical_date == utc(2024, 1, 1)


def test_without_a_schedule_there_is_no_next_run() -> None:
    assert runs(NullTimetable(), utc(2024, 1, 1), 1) == []
    assert NullTimetable().infer_manual_data_interval(utc(2024, 1, 1)) == (utc(2024, 1, 1), utc(2024, 1, 1))


def test_continuous_starts_again_when_the_last_run_has_ended() -> None:
    timetable = ContinuousTimetable()
    info = timetable.next_dagrun_info(
        DataInterval(utc(2024, 1, 1), utc(2024, 1, 2)), TimeRestriction(utc(2024, 1, 1), None, True, utc(2024, 1, 3))
    )
    assert info == DagRunInfo.interval(utc(2024, 1, 2), utc(2024, 1, 3))
    assert timetable.active_runs_limit == 1


@pytest.mark.parametrize(
    "timetable",
    [
        NullTimetable(),
        OnceTimetable(),
        ContinuousTimetable(),
        CronDataIntervalTimetable("*/5 * * * *", "Europe/Berlin"),
        CronDataIntervalTimetable("@weekly"),
        CronTriggerTimetable("0 1 * * *", timezone="+02:00", interval=timedelta(days=1)),
        DeltaDataIntervalTimetable(timedelta(minutes=90)),
    ],
    ids=lambda timetable: timetable.summary,
)
def test_the_json_form_gives_the_same_timetable(timetable: Timetable) -> None:
    again = deserialize(serialize(timetable))
    assert again == timetable
    assert runs(again, utc(2024, 1, 1), 5, now=utc(2024, 2, 1)) == runs(
        timetable, utc(2024, 1, 1), 5, now=utc(2024, 2, 1)
    )
    assert describe(again)


@pytest.mark.parametrize(
    "expression", ["every day", "60 * * * *", "* * * *", "0 0 31 2 *", "*/0 * * * *", "0 0 0 * *", "5- * * * *"]
)
def test_a_bad_cron_expression_is_refused(expression: str) -> None:
    with pytest.raises(DagInvalid, match="cron"):
        check(CronDataIntervalTimetable(expression))


@pytest.mark.parametrize(
    "expression", ["0 0 * * *", "*/5 1-3,7 * * mon-fri", "0 0 31 1 *", "0 0 * * 7", "@quarterly", "0 0 L * *"]
)
def test_a_good_cron_expression_passes(expression: str) -> None:
    check(CronDataIntervalTimetable(expression))


_FIELDS = [
    st.sampled_from(["*", "0", "59", "5,35", "*/7", "*/15", "10-20", "1-50/9", "*/1", "3,10-12,*/30"]),
    st.sampled_from(["*", "0", "23", "2,3", "*/5", "1-4", "0-23", "6-18/4", "*/1"]),
    st.sampled_from(["*", "1", "28", "2,15", "3-9", "5-25/6", "*/9", "31", "30,31", "28-31"]),
    st.sampled_from(["*", "1", "2", "6,12", "*/3", "2-5", "1-12/5", "jan,Mar", "2,4"]),
    st.sampled_from(["*", "0", "7", "1-5", "5-7", "0,3", "*/2", "*/3", "0-7", "1-6/2", "mon", "Mon-fri", "sat,sun"]),
]


@settings(max_examples=200, deadline=None)
@given(fields=st.tuples(*_FIELDS), start=st.datetimes(datetime(2023, 1, 1), datetime(2027, 1, 1)))
@example(fields=("0", "0", "*", "*", "*"), start=datetime(2024, 2, 29))
@example(fields=("0", "0", "1", "1", "*"), start=datetime(2024, 1, 1, 0, 0, 0, 1))
def test_plain_expressions_give_the_times_of_the_cron_library(fields: tuple[str, ...], start: datetime) -> None:
    from croniter import croniter

    from opskit.core.dag import plain_cron

    expression = " ".join(fields)
    plain = plain_cron.read(expression)
    if plain is None:
        never = fields[2] in ("31", "30,31") and fields[3] in ("2", "2,4")
        assert never or (fields[2] == "*/9" and fields[4] != "*")
        return
    start = start.replace(microsecond=0)
    library = croniter(expression, start)
    forward, backward = [start], [start]
    for _ in range(4):
        forward.append(plain.next(forward[-1]))
        backward.append(plain.previous(backward[-1]))
    assert forward[1:] == [library.get_next(datetime) for _ in range(4)]
    library = croniter(expression, start)
    assert backward[1:] == [library.get_prev(datetime) for _ in range(4)]
    assert plain.every_hour == (library.expanded[1] == ["*"])


@pytest.mark.parametrize("schedule", [3, "None", "", timedelta(0), timedelta(hours=-1), object()])
def test_a_schedule_that_is_none_is_refused(schedule: Any) -> None:
    with pytest.raises(DagInvalid):
        make_timetable(schedule, UTC)


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("@daily", "every day at 00:00 UTC"),
        ("30 6 * * 1-5", "Monday to Friday at 06:30 UTC"),
        ("*/10 * * * *", "every 10 minutes"),
        ("0 4 * * 0", "every Sunday at 04:00 UTC"),
        ("7 1,5 * 3 *", "cron 7 1,5 * 3 * (UTC)"),
    ],
)
def test_words_for_people(cron: str, words: str) -> None:
    assert describe(CronDataIntervalTimetable(cron)) == words
