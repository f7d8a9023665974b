"""Assets as authors write them: names, conditions, schedules, `@asset`."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import pytest

from opskit.core.dag import asset_conditions, dialect, serialization, serialized, timetables
from opskit.core.dag.asset_timetables import AssetOrTimeSchedule, DatasetOrTimeSchedule
from opskit.core.dag.assets import (
    Asset,
    AssetAlias,
    AssetAll,
    AssetAny,
    AssetWatcher,
    Dataset,
    DatasetAlias,
    Metadata,
)
from opskit.core.dag.model import DAG
from opskit.core.dag.operators.empty import EmptyOperator
from opskit.errors import DagInvalid


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("orders", "orders"),
        ("S3://Lake/Orders/", "s3://Lake/Orders"),
        ("s3://lake", "s3://lake/"),
        ("https://h/p?b=2&a=1#part", "https://h/p?a=1&b=2"),
        ("x-mine://A/b/#c", "x-mine://A/b/#c"),
        ("postgres://me@h:5432/db/s/t", "postgres://me@h:5432/db/s/t"),
    ],
)
def test_a_uri_is_brought_into_one_form(written: str, stored: str) -> None:
    asset = Asset(uri=written)
    assert (asset.name, asset.uri, os.fspath(asset)) == (written, stored, stored)


def test_a_password_in_a_uri_is_left_out_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="password"):
        assert Asset("o", "postgres://me:geheim@h/db").uri == "postgres://h/db"


@pytest.mark.parametrize("name", ["", "  ", "x" * 1501, 5, "self", "context", "airflow://x"])
def test_a_name_that_can_not_be_one_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match=r"Asset|airflow|argument"):
        Asset(name)


def test_name_or_uri_is_needed() -> None:
    with pytest.raises(TypeError, match="name or a uri"):
        Asset()


def test_assets_are_told_apart_by_all_that_they_are() -> None:
    assert Asset("a") == Asset("a") != Asset("a", "s3://x/y")
    assert Asset("a", extra={"x": 1}) != Asset("a")
    assert len({Asset("a"), Asset("a"), Asset("b")}) == 2
    assert Dataset("s3://x/y", {"k": 1}) == Dataset("s3://x/y/")
    assert AssetAlias("a") == DatasetAlias("a") != AssetAlias("b")
    assert Asset.ref(name="a") == Asset.ref(name="a") != Asset.ref(uri="a")


def test_conditions_are_built_with_and_and_or() -> None:
    a, b, c = Asset("a"), Asset("b"), AssetAlias("c")
    assert (a & b) | c == AssetAny(AssetAll(a, b), c)
    assert a | b | c == AssetAny(a, b, c)
    assert a & b & c == AssetAll(a, b, c)
    assert [key.name for key, _ in ((a & b) | a).iter_assets()] == ["a", "b"]
    with pytest.raises(TypeError):
        a & "b"  # type: ignore[operator]
    with pytest.raises(TypeError, match="no asset"):
        AssetAll(a, "b")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("there", "met"), [({"a"}, False), ({"a", "b"}, True), ({"c"}, True), (set(), False), ({"b", "c"}, True)]
)
def test_a_condition_is_met_by_what_is_there(there: set[str], met: bool) -> None:
    expression = ((Asset("a") & Asset.ref(name="b")) | AssetAlias("c")).as_expression()
    assert asset_conditions.evaluate(expression, lambda leaf: leaf.name in there) is met
    assert asset_conditions.words(expression) == "(a and b) or alias c"


def test_an_empty_condition_of_all_is_met_by_nothing_special() -> None:
    assert asset_conditions.evaluate(AssetAll().as_expression(), lambda leaf: False) is True
    assert asset_conditions.evaluate(AssetAny().as_expression(), lambda leaf: True) is False


@pytest.mark.parametrize(
    ("schedule", "condition"),
    [
        ([Asset("a"), Asset("b")], {"all": ["a", "b"]}),
        (Asset("a"), "a"),
        (Asset("a") | Asset("b"), {"any": ["a", "b"]}),
        ((Asset("a"),), {"all": ["a"]}),
    ],
)
def test_a_dag_waits_for_assets(schedule: Any, condition: Any) -> None:
    with DAG("d", schedule=schedule) as dag:
        EmptyOperator(task_id="t", outlets=Asset("z"))
    data = serialization.serialize(dag)
    loaded = serialized.load(data)
    assert _short(loaded.timetable["condition"]) == condition
    timetable = timetables.deserialize(loaded.timetable)
    assert timetable.serialize() == dag.timetable.serialize() == loaded.timetable
    assert timetable.summary == "Asset"
    assert timetable.next_dagrun_info(None, timetables.TimeRestriction(None, None, True)) is None


def _short(condition: dict[str, Any]) -> Any:
    if "asset" in condition:
        return condition["asset"]["name"]
    return {word: [_short(part) for part in parts] for word, parts in condition.items()}


def test_assets_or_time_runs_at_times_too() -> None:
    schedule = AssetOrTimeSchedule(timetable=timetables.CronDataIntervalTimetable("0 1 * * 3"), assets=[Asset("a")])
    with dialect.speaking(2):
        old = DatasetOrTimeSchedule(timetable=timetables.CronDataIntervalTimetable("@daily"), datasets=[Dataset("a")])
    assert (schedule.summary, old.summary) == ("Asset or 0 1 * * 3", "Dataset or 0 0 * * *")
    for one in (schedule, old):
        again = timetables.deserialize(one.serialize())
        assert again.serialize() == one.serialize()
        restriction = timetables.TimeRestriction(None, None, False)
        first = again.next_dagrun_info(None, restriction)
        assert first is not None and first == one.timetable.next_dagrun_info(None, restriction)
    with pytest.raises(DagInvalid, match="waits for assets itself"):
        AssetOrTimeSchedule(timetable=schedule, assets=[Asset("a")])
    bad = AssetOrTimeSchedule(timetable=timetables.CronDataIntervalTimetable("61 * * * *"), assets=[Asset("a")])
    with pytest.raises(DagInvalid):
        timetables.check(bad)


def test_a_schedule_of_other_things_is_refused() -> None:
    with pytest.raises(DagInvalid, match="no asset"):
        DAG("d", schedule=[timedelta(1)])


def test_a_watcher_needs_an_event_trigger() -> None:
    with pytest.raises(ValueError, match="BaseEventTrigger"):
        AssetWatcher("w", object())

    class BaseEventTrigger:
        pass

    watcher = AssetWatcher(name="w", trigger=BaseEventTrigger())
    assert Asset("a", watchers=[watcher]).watchers == [watcher]


def test_metadata_names_an_asset_and_an_alias() -> None:
    metadata = Metadata(Dataset("s3://x/y/"), {"k": 1}, alias=DatasetAlias("al"))
    assert (metadata.uri, metadata.extra, metadata.alias_name) == ("s3://x/y", {"k": 1}, "al")
    assert Metadata("s3://x/y/").uri == "s3://x/y"
