"""Partitions of assets: mappers, windows, the schedules that use them. Expected values are those of Airflow 3.3.2."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from opskit.core.dag import dialect, timetables
from opskit.core.dag.assets import Asset
from opskit.core.dag.partition_mappers import (
    AllowedKeyMapper,
    ChainMapper,
    FanOutMapper,
    FixedKeyMapper,
    IdentityMapper,
    PartitionMapper,
    ProductMapper,
    RollupMapper,
    StartOfDayMapper,
    StartOfHourMapper,
    StartOfMonthMapper,
    StartOfQuarterMapper,
    StartOfWeekMapper,
    StartOfYearMapper,
    downstream_keys,
    form_of,
    mapper_from,
)
from opskit.core.dag.partition_timetables import CronPartitionTimetable, PartitionedAssetTimetable
from opskit.core.dag.partition_windows import (
    DayWindow,
    HourWindow,
    MinimumCount,
    MonthWindow,
    QuarterWindow,
    SegmentWindow,
    WeekWindow,
    Window,
    YearWindow,
)
from opskit.core.dag.timetable_base import TimeRestriction
from opskit.errors import DagInvalid

KEY = "2024-03-13T10:42:15"
DAYS_OF_WEEK = StartOfWeekMapper(input_format="%Y-%m-%d")


@pytest.mark.parametrize(
    ("mapper", "key", "expected"),
    [
        (IdentityMapper(), "x", "x"),
        (AllowedKeyMapper(["eu", "us"]), "us", "us"),
        (FixedKeyMapper("all"), "x", "all"),
        (StartOfHourMapper(), KEY, "2024-03-13T10"),
        (StartOfDayMapper(), KEY, "2024-03-13"),
        (StartOfWeekMapper(), KEY, "2024-03-11 (W11)"),
        (StartOfMonthMapper(), KEY, "2024-03"),
        (StartOfQuarterMapper(), KEY, "2024-Q1"),
        (StartOfYearMapper(), KEY, "2024"),
        (StartOfDayMapper(timezone="Asia/Taipei", input_format="%Y-%m-%dT%H:%M:%S%z"), f"{KEY}+0000", "2024-03-13"),
        (StartOfDayMapper(timezone="Asia/Taipei", input_format="%Y-%m-%dT%H%z"), "2024-03-13T20+0000", "2024-03-14"),
        (ProductMapper(IdentityMapper(), StartOfDayMapper()), f"eu|{KEY}", "eu|2024-03-13"),
        (ProductMapper(StartOfDayMapper(), IdentityMapper(), delimiter="::"), f"{KEY}::eu", "2024-03-13::eu"),
        (ChainMapper(StartOfDayMapper(), StartOfMonthMapper(input_format="%Y-%m-%d")), KEY, "2024-03"),
    ],
)
def test_a_key_is_mapped_as_in_airflow(mapper: PartitionMapper, key: str, expected: str) -> None:
    assert mapper.to_downstream(key) == expected
    assert mapper_from(json.loads(json.dumps(form_of(mapper)))).to_downstream(key) == expected


@pytest.mark.parametrize(
    ("window", "mapper", "first", "last", "many"),
    [
        (HourWindow(), StartOfHourMapper(), "2024-03-13T10:00:00", "2024-03-13T10:59:00", 60),
        (DayWindow(), StartOfDayMapper(), "2024-03-13T00:00:00", "2024-03-13T23:00:00", 24),
        (WeekWindow(), StartOfWeekMapper(), "2024-03-11T00:00:00", "2024-03-17T00:00:00", 7),
        (MonthWindow(), StartOfMonthMapper(), "2024-03-01T00:00:00", "2024-03-31T00:00:00", 31),
        (QuarterWindow(), StartOfQuarterMapper(), "2024-01-01T00:00:00", "2024-03-01T00:00:00", 3),
        (YearWindow(), StartOfYearMapper(), "2024-01-01T00:00:00", "2024-12-01T00:00:00", 12),
        (
            MonthWindow(direction=Window.Direction.BACKWARD),
            StartOfMonthMapper(),
            "2024-02-02T00:00:00",
            "2024-03-01T00:00:00",
            29,
        ),
        (
            WeekWindow(direction=Window.Direction("backward")),
            StartOfWeekMapper(),
            "2024-03-05T00:00:00",
            "2024-03-11T00:00:00",
            7,
        ),
    ],
)
def test_a_period_waits_for_all_of_its_parts(
    window: Window, mapper: PartitionMapper, first: str, last: str, many: int
) -> None:
    rollup = mapper_from(form_of(RollupMapper(upstream_mapper=mapper, window=window)))
    assert isinstance(rollup, RollupMapper)
    period = rollup.to_downstream(KEY)
    assert isinstance(period, str)
    parts = sorted(rollup.to_upstream(period))
    assert (parts[0], parts[-1], len(parts)) == (first, last, many)
    assert rollup.enough(period, parts)
    assert not rollup.enough(period, parts[1:])


def test_a_run_may_wait_for_fewer_parts_and_for_parts_that_are_no_dates() -> None:
    some = RollupMapper(upstream_mapper=StartOfWeekMapper(), window=WeekWindow(), wait_policy=MinimumCount(-2))
    parts = sorted(some.to_upstream("2024-03-11 (W11)"))
    assert some.enough("2024-03-11 (W11)", parts[2:]) and not some.enough("2024-03-11 (W11)", parts[3:])
    regions = RollupMapper(upstream_mapper=FixedKeyMapper("all"), window=SegmentWindow(["eu", "us"]))
    assert regions.to_downstream("eu") == "all"
    assert not regions.enough("all", ["eu"]) and regions.enough("all", ["eu", "us", "other"])
    assert mapper_from(form_of(regions)) == regions
    with pytest.raises(ValueError, match="other than 0"):
        MinimumCount(0)
    with pytest.raises(TypeError, match="WeekWindow enumerates datetime, IdentityMapper gives str"):
        RollupMapper(upstream_mapper=IdentityMapper(), window=WeekWindow())


def test_an_event_of_a_period_is_for_each_of_its_parts() -> None:
    days = FanOutMapper(upstream_mapper=DAYS_OF_WEEK, window=WeekWindow())
    assert downstream_keys(days, "2024-03-13") == [f"2024-03-{day}" for day in range(11, 18)]
    assert downstream_keys(mapper_from(form_of(days)), "2024-03-13") == downstream_keys(days, "2024-03-13")
    assert days.to_partition_date("2024-03-12") == datetime(2024, 3, 12, tzinfo=UTC)
    with pytest.raises(ValueError, match="HourWindow it needs a downstream_mapper"):
        FanOutMapper(upstream_mapper=StartOfHourMapper(), window=HourWindow())
    few = FanOutMapper(upstream_mapper=DAYS_OF_WEEK, window=WeekWindow(), max_downstream_keys=3)
    with pytest.raises(ValueError, match="for 7 partitions, at most 3"):
        downstream_keys(few, "2024-03-13")


def test_a_partition_tells_when_it_begins() -> None:
    berlin = StartOfDayMapper(timezone="Europe/Berlin")
    assert berlin.to_partition_date("2024-07-01") == datetime(2024, 6, 30, 22, tzinfo=UTC)
    assert StartOfQuarterMapper().to_partition_date("2024-Q3") == datetime(2024, 7, 1, tzinfo=UTC)
    product = ProductMapper(IdentityMapper(), StartOfDayMapper())
    assert product.to_partition_date("eu|2024-07-01") == datetime(2024, 7, 1, tzinfo=UTC)
    assert product.to_partition_date("eu") is None
    assert IdentityMapper().to_partition_date("eu") is None
    at = datetime(2024, 7, 1, tzinfo=UTC)
    assert (IdentityMapper().carry_partition_date(at), StartOfDayMapper().carry_partition_date(at)) == (at, None)


@pytest.mark.parametrize(
    ("mapper", "key", "error"),
    [
        (AllowedKeyMapper(["eu"]), "us", "'us' is none of 'eu'"),
        (ProductMapper(IdentityMapper(), IdentityMapper()), "eu", "has 1 parts, there are 2 mappers"),
        (StartOfDayMapper(), "yesterday", "does not match format"),
    ],
)
def test_a_key_that_a_mapper_does_not_know_is_an_error(mapper: PartitionMapper, key: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        mapper.to_downstream(key)


def test_a_mapper_of_the_dag_file_is_refused_when_the_schedule_is_made() -> None:
    class Mine(PartitionMapper):
        def to_downstream(self, key: str) -> str:
            return key.upper()

    with pytest.raises(DagInvalid, match="Mine can't map partitions"):
        PartitionedAssetTimetable(assets=Asset("a"), default_partition_mapper=Mine())


def test_a_schedule_of_partitions_survives_being_stored() -> None:
    a, b = Asset("a"), Asset("b")
    made = PartitionedAssetTimetable(assets=a & b, partition_mapper_config={b: StartOfDayMapper()})
    assert made.get_partition_mapper(name="b") == StartOfDayMapper()
    assert made.get_partition_mapper(name="a") == IdentityMapper()
    form = json.loads(json.dumps(timetables.serialize(made)))
    read = timetables.deserialize(form)
    assert (type(read), timetables.serialize(read), read.summary) == (type(made), form, "Partitioned Asset")


@pytest.mark.parametrize(
    ("options", "date", "key"),
    [
        ({}, "2024-03-13T16:00:00+00:00", "2024-03-14T00:00:00"),
        ({"run_offset": -1}, "2024-03-12T16:00:00+00:00", "2024-03-13T00:00:00"),
        ({"run_offset": 2, "key_format": "%Y-%m-%d"}, "2024-03-15T16:00:00+00:00", "2024-03-16"),
    ],
)
def test_a_cron_expression_makes_runs_of_partitions(options: dict[str, Any], date: str, key: str) -> None:
    with dialect.speaking(3):
        made = CronPartitionTimetable("0 0 * * *", timezone="Asia/Taipei", **options)
    now = datetime(2024, 3, 14, 12, tzinfo=UTC)
    read = timetables.deserialize(json.loads(json.dumps(timetables.serialize(made))))
    info = timetables.next_run(read, None, TimeRestriction(datetime(2024, 3, 1, tzinfo=UTC), None, False, now))
    assert info is not None and info.partition_date is not None
    assert info.run_after == datetime(2024, 3, 13, 16, tzinfo=UTC)
    assert (info.partition_date.isoformat(), info.partition_key) == (date, key)
    run_id = read.generate_run_id(run_type="scheduled", run_after=info.run_after)
    assert run_id.startswith(f"scheduled__2024-03-13T16:00:00+00:00__{key}__")


def test_an_offset_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="run_offset is a number"):
        CronPartitionTimetable("@daily", timezone="UTC", run_offset="1 day")  # type: ignore[arg-type]
