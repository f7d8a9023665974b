"""Runs that events of assets make, over real metastores, with an executor that the test plays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from opskit.core.dag import dialect, serialization
from opskit.core.dag.asset_timetables import AssetOrTimeSchedule
from opskit.core.dag.assets import Asset, AssetAlias, Dataset
from opskit.core.dag.model import DAG
from opskit.core.dag.operators.python import PythonOperator
from opskit.core.dag.partition_mappers import (
    AllowedKeyMapper,
    RollupMapper,
    StartOfDayMapper,
    StartOfMonthMapper,
    StartOfWeekMapper,
)
from opskit.core.dag.partition_timetables import CronPartitionTimetable, PartitionedAssetTimetable
from opskit.core.dag.partition_windows import WeekWindow
from opskit.core.dag.timetables import CronDataIntervalTimetable
from opskit.core.metastore import dag_loads, dags, runs
from opskit.core.metastore.engine import open_engine, transaction
from opskit.core.metastore.tables import (
    asset,
    asset_alias,
    asset_event,
    asset_event_run,
    asset_partition_queue,
    asset_queue,
    asset_reference,
    dag_run,
)
from opskit.core.metastore.tables import dag as dag_table
from opskit.core.scheduler.loop import Scheduler
from tests.databases import Databases
from tests.integration.test_scheduler import START, Cluster, PlayedExecutor, play, turn
from tests.metastore_rows import loaded_file

A, B, C = Asset("a", "s3://lake/a"), Asset("b"), Asset("c")


class World(Cluster):
    executor: PlayedExecutor
    one: Scheduler

    def load(self, *made: DAG) -> None:
        with transaction(self.engine) as connection:
            files = [loaded_file(f"{dag.dag_id}.py", serialization.serialize(dag)) for dag in made]
            dag_loads.store_loaded_files(connection, files, datetime.now(UTC))

    def produce(self, dag_id: str, number: int, *made: dict[str, Any], state: str = "success") -> None:
        """A run of `dag_id` whose task ends so, with these events."""
        self.trigger(dag_id, number)
        turn(self.one, 2)
        (attempt,) = (one for one in self.executor.started if one["dag_id"] == dag_id)
        self.executor.started.remove(attempt)
        self.executor.end(attempt, state, events=list(made))
        turn(self.one, 3)

    def made(self, dag_id: str) -> list[Any]:
        """The runs of a DAG that events have made."""
        return [row for row in self.rows(dag_run) if row.dag_id == dag_id and row.run_type.endswith("_triggered")]

    def finish(self, dag_id: str) -> None:
        """Let all attempts of this DAG end well, and what comes of that start."""
        mine = [one for one in self.executor.started if one["dag_id"] == dag_id]
        for attempt in mine:
            self.executor.started.remove(attempt)
            self.executor.end(attempt)
        turn(self.one, 4)

    def events_of(self, run: Any) -> list[dict[str, Any]]:
        numbers = [row.event_id for row in self.rows(asset_event_run) if row.dag_run_id == run.id]
        return [json.loads(row.extra) for row in self.rows(asset_event) if row.id in numbers]


everywhere = pytest.mark.parametrize("world", ["sqlite", "postgresql", "mariadb"], indirect=True)
"""The others run on SQLite alone: what they show does not depend on the database."""


@pytest.fixture
def world(request: pytest.FixtureRequest, databases: Databases, home: Path) -> Iterator[World]:
    url = databases.migrated(getattr(request, "param", "sqlite"))
    engine = open_engine(url)
    made = World(engine, home)
    made.executor = PlayedExecutor()
    made.one = made.scheduler(made.executor)
    yield made
    for wake in made.sockets:
        wake.close()
    engine.dispose()
    databases.drop(url)


def _dag(dag_id: str, schedule: Any = None, **arguments: Any) -> DAG:
    outlets = arguments.pop("outlets", None)
    inlets = arguments.pop("inlets", None)
    with DAG(dag_id, schedule=schedule, **arguments) as made:
        PythonOperator(task_id="t", python_callable=print, outlets=outlets, inlets=inlets)
    return made


def _event(of: Asset, extra: dict[str, Any] | None = None, aliases: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"name": of.name, "uri": of.uri, "group": of.group, "extra": extra or {}, "aliases": list(aliases)}


@everywhere
def test_a_task_that_succeeds_starts_the_dags_that_wait_for_its_asset(world: World) -> None:
    world.load(_dag("p", outlets=[A]), _dag("q", [A]), _dag("other", [B]))
    world.produce("p", 1, _event(A, {"rows": 3}))
    (run,) = world.made("q")
    assert world.made("other") == []
    assert run.run_id == f"asset_triggered__{run.logical_date.isoformat()}"
    source = next(row for row in world.rows(dag_run) if row.dag_id == "p")
    assert (run.data_interval_start, run.data_interval_end) == (source.data_interval_start, source.data_interval_end)
    assert run.state == "running"
    (event,) = world.rows(asset_event)
    assert (event.source_dag_id, event.source_task_id, event.source_run_id) == ("p", "t", "r1")
    assert (event.source_map_index, json.loads(event.extra)) == (-1, {"rows": 3})
    assert [(row.event_id, row.dag_run_id) for row in world.rows(asset_event_run)] == [(event.id, run.id)]
    assert world.rows(asset_queue) == []
    (attempt,) = world.executor.started
    assert (attempt["dag_id"], attempt["run"]["run_type"]) == ("q", "asset_triggered")
    play(world.one, world.executor, lambda: world.made("q")[0].state == "success")
    turn(world.one, 2)
    assert {row.lease_owner for row in world.rows(dag_table)} == {None}
    assert len(world.made("q")) == 1


def test_a_task_that_fails_starts_nothing(world: World) -> None:
    world.load(_dag("p", outlets=[A]), _dag("q", [A]))
    world.produce("p", 1, _event(A), state="failed")
    world.produce("p", 2, _event(A), state="skipped")
    assert (world.made("q"), world.rows(asset_event)) == ([], [])


def test_a_dag_of_all_waits_for_each_and_takes_every_event(world: World) -> None:
    world.load(_dag("p"), _dag("q", A & B))
    world.produce("p", 1, _event(A, {"n": 1}))
    world.produce("p", 2, _event(A, {"n": 2}))
    assert world.made("q") == []
    world.produce("p", 3, _event(B, {"n": 3}))
    (run,) = world.made("q")
    assert world.events_of(run) == [{"n": 1}, {"n": 2}, {"n": 3}]
    days = [row.data_interval_start for row in world.rows(dag_run) if row.dag_id == "p"]
    assert (run.data_interval_start, run.data_interval_end) == (min(days), max(days))
    world.finish("q")
    world.produce("p", 4, _event(B, {"n": 4}))
    assert len(world.made("q")) == 1  # A has nothing new


def test_a_dag_of_any_runs_for_either(world: World) -> None:
    world.load(_dag("p"), _dag("q", (A & B) | C, max_active_runs=5))
    world.produce("p", 1, _event(C))
    world.produce("p", 2, _event(B))
    assert len(world.made("q")) == 1
    world.produce("p", 3, _event(A))
    assert len(world.made("q")) == 2


@everywhere
def test_events_that_come_while_a_dag_has_all_its_runs_make_one_run_together(world: World) -> None:
    world.load(_dag("p"), _dag("q", [A], max_active_runs=1))
    for number in (1, 2, 3):
        world.produce("p", number, _event(A, {"n": number}))
    assert [run.state for run in world.made("q")] == ["running"]
    world.finish("q")
    first, second = world.made("q")
    assert (first.state, second.state) == ("success", "running")
    assert (world.events_of(first), world.events_of(second)) == ([{"n": 1}], [{"n": 2}, {"n": 3}])
    world.finish("q")
    assert len(world.made("q")) == 2


def test_events_of_assets_that_a_dag_does_not_name_any_more_go_into_no_run(world: World) -> None:
    world.load(_dag("p"), _dag("q", A & B))
    world.produce("p", 1, _event(A, {"n": 1}))
    world.load(_dag("q", [B, C]))
    world.produce("p", 2, _event(B, {"n": 2}), _event(C, {"n": 3}))
    (run,) = world.made("q")
    assert world.events_of(run) == [{"n": 2}, {"n": 3}]
    assert world.rows(asset_queue) == []


def test_one_attempt_may_make_events_of_several_assets_for_several_dags(world: World) -> None:
    world.load(_dag("p"), _dag("both", [A, B]), _dag("first", A), _dag("by_name", Asset.ref(name="b")))
    world.load(_dag("by_uri", Asset.ref(uri="s3://lake/a/") & C))
    world.produce("p", 1, _event(A), _event(B))
    assert {dag_id: len(world.made(dag_id)) for dag_id in ("both", "first", "by_name", "by_uri")} == {
        "both": 1,
        "first": 1,
        "by_name": 1,
        "by_uri": 0,
    }


def test_what_a_paused_dag_missed_goes_into_its_next_run_and_makes_none_itself(world: World) -> None:
    world.load(_dag("p"), _dag("q", [A]))
    _pause(world, "q", True)
    world.produce("p", 1, _event(A, {"n": 1}))
    _pause(world, "q", False)
    turn(world.one, 3)
    assert world.made("q") == []
    world.produce("p", 2, _event(A, {"n": 2}))
    (run,) = world.made("q")
    assert world.events_of(run) == [{"n": 1}, {"n": 2}]


def test_a_dag_that_is_paused_before_its_condition_is_met_starts_when_it_is_unpaused(world: World) -> None:
    world.load(_dag("p"), _dag("q", [A], max_active_runs=1))
    world.produce("p", 1, _event(A))
    world.produce("p", 2, _event(A))
    _pause(world, "q", True)
    turn(world.one, 2)
    world.finish("q")
    assert [run.state for run in world.made("q")] == ["success"]
    _pause(world, "q", False)
    turn(world.one, 4)
    assert [run.state for run in world.made("q")] == ["success", "running"]


def _pause(world: World, dag_id: str, paused: bool) -> None:
    with transaction(world.engine) as connection:
        dags.set_paused(connection, [dag_id], paused, datetime.now(UTC) - timedelta(seconds=1))


def test_a_dag_may_produce_what_it_waits_for_itself(world: World) -> None:
    world.load(_dag("p", A, outlets=[A], max_active_runs=1))
    world.produce("p", 1, _event(A))
    for done in (1, 2):
        assert len(world.made("p")) == done
        (attempt,) = world.executor.started
        world.executor.started.clear()
        world.executor.end(attempt, events=[_event(A)])
        turn(world.one, 4)
    assert len(world.made("p")) == 3


@everywhere
def test_an_alias_is_linked_to_assets_while_tasks_run(world: World) -> None:
    alias = AssetAlias("of the day")
    world.load(_dag("p", outlets=[alias]), _dag("q", alias, max_active_runs=5), _dag("r", [Asset("new")]))
    world.produce("p", 1, _event(A))
    assert world.made("q") == []
    world.produce("p", 2, _event(Asset("new"), {"n": 2}, ("of the day",)))
    (run,) = world.made("q")
    assert world.events_of(run) == [{"n": 2}]
    assert len(world.made("r")) == 1
    assert [(row.name, json.loads(row.aliases)) for row in _events(world)][-1] == ("new", ["of the day"])
    assert [row.name for row in world.rows(asset_alias)] == ["of the day"]
    world.produce("p", 3, _event(Asset("new")))
    assert len(world.made("q")) == 2  # the asset that the alias is linked to


def _events(world: World) -> list[Any]:
    names = {row.id: row.name for row in world.rows(asset)}

    class Event:
        def __init__(self, row: Any) -> None:
            self.name, self.aliases = names[row.asset_id], row.aliases

    return [Event(row) for row in world.rows(asset_event)]


@pytest.mark.parametrize(("spoken", "run_type"), [(2, "dataset_triggered"), (3, "asset_triggered")])
def test_runs_are_named_as_the_airflow_of_the_file_does(world: World, spoken: Any, run_type: str) -> None:
    with dialect.speaking(spoken):
        consumer = _dag("q", [Dataset("s3://lake/a") if spoken == 2 else A])
    world.load(_dag("p"), consumer)
    world.produce("p", 1, _event(Dataset("s3://lake/a") if spoken == 2 else A))
    (run,) = world.made("q")
    assert run.run_type == run_type
    at = f"{run_type}__{run.logical_date.isoformat()}"
    if spoken == 2:
        assert run.run_id == at
        assert run.data_interval_start == START + timedelta(days=1)
    else:
        assert run.run_id.startswith(f"{at}_") and len(run.run_id) == len(at) + 9
        assert run.data_interval_start == run.data_interval_end == run.logical_date


def test_assets_or_time_runs_at_times_and_for_events(world: World) -> None:
    begin = datetime.now(UTC) - timedelta(days=3)
    schedule = AssetOrTimeSchedule(timetable=CronDataIntervalTimetable("0 0 * * *"), assets=[A])
    world.load(_dag("p"), _dag("q", schedule, start_date=begin, catchup=False, max_active_runs=5))
    turn(world.one, 4)
    of_q = [row.run_type for row in world.rows(dag_run) if row.dag_id == "q"]
    assert of_q == ["scheduled"]
    world.produce("p", 1, _event(A))
    of_q = [row.run_type for row in world.rows(dag_run) if row.dag_id == "q"]
    assert of_q == ["scheduled", "asset_triggered"]


def test_another_scheduler_goes_on_where_one_died_with_events_in_the_queue(world: World) -> None:
    world.load(_dag("p"), _dag("q", [A]))
    world.produce("p", 1, _event(A))
    world.finish("q")
    world.trigger("p", 2)
    turn(world.one, 2)
    (attempt,) = world.executor.started
    world.executor.end(attempt, events=[_event(A)])
    world.one._look_at = 1e18
    world.one.cycle(0, _poller())  # the wave is durable; what it made due is not looked at any more
    assert len(world.rows(asset_queue)) == 1
    with transaction(world.engine) as connection:
        connection.execute(update(dag_table).values(lease_owner=None))
    second = PlayedExecutor("w2")
    turn(world.scheduler(second), 4)
    assert [run.state for run in world.made("q")] == ["success", "running"]


def _poller() -> Any:
    import select

    return select.poll()


def test_a_decision_that_is_void_makes_no_event(world: World) -> None:
    world.load(_dag("p"), _dag("q", [A]))
    world.trigger("p", 1)
    turn(world.one, 2)
    (attempt,) = world.executor.started
    with transaction(world.engine) as connection:
        world.touch(connection, "p")
    world.executor.end(attempt, events=[_event(A)])
    world.one._look_at = 1e18
    world.one.cycle(0, _poller())
    assert world.rows(asset_event) == []
    world.executor.holds = {tuple(attempt["key"])}  # type: ignore[arg-type]
    turn(world.one, 2)
    world.executor.end(attempt, events=[_event(A)])
    turn(world.one, 4)
    assert (len(world.rows(asset_event)), len(world.made("q"))) == (1, 1)


@everywhere
def test_references_follow_the_file(world: World) -> None:
    world.load(_dag("p", outlets=[A, AssetAlias("al"), "no asset"], inlets=[B]), _dag("q", (A & B) | AssetAlias("al")))
    found = {(row.dag_id, row.task_id, row.role, row.kind, row.name) for row in world.rows(asset_reference)}
    assert found == {
        ("p", "t", "outlet", "asset", "a"),
        ("p", "t", "outlet", "alias", "al"),
        ("p", "t", "inlet", "asset", "b"),
        ("q", "", "schedule", "asset", "a"),
        ("q", "", "schedule", "asset", "b"),
        ("q", "", "schedule", "alias", "al"),
    }
    assert {(row.name, row.uri, row.asset_group) for row in world.rows(asset)} == {
        ("a", "s3://lake/a", "asset"),
        ("b", "b", "asset"),
    }
    conditions = {row.dag_id: row.asset_condition for row in world.rows(dag_table)}
    assert conditions["p"] is None and json.loads(conditions["q"])["any"][1] == {
        "alias": {"group": "asset", "name": "al"}
    }
    world.load(_dag("q", [Asset("b", extra={"owner": "me"})]))
    assert {row.name for row in world.rows(asset_reference) if row.dag_id == "q"} == {"b"}
    assert {row.extra for row in world.rows(asset) if row.name == "b"} == {'{"owner": "me"}'}
    with transaction(world.engine) as connection:
        dags.delete_dag(connection, "q")
    assert {row.dag_id for row in world.rows(asset_reference)} == {"p"}


def test_a_deleted_run_takes_its_link_to_events_along(world: World) -> None:
    world.load(_dag("p"), _dag("q", [A]))
    world.produce("p", 1, _event(A))
    world.finish("q")
    (run,) = world.made("q")
    with transaction(world.engine) as connection:
        runs.delete_run(connection, "q", run.run_id, datetime.now(UTC))
    assert world.rows(asset_event_run) == []


def _partition(of: Asset, key: str) -> dict[str, Any]:
    return {**_event(of), "partition_key": key}


@everywhere
def test_events_of_partitions_make_a_run_for_each_partition_that_has_all_it_needs(world: World) -> None:
    both = PartitionedAssetTimetable(assets=A & B, default_partition_mapper=StartOfDayMapper())
    world.load(_dag("p", outlets=[A, B]), _dag("q", both, max_active_runs=4), _dag("plain", [A]))
    world.produce("p", 1, _partition(A, "2024-03-13T10:00:00"), _partition(A, "2024-03-14T10:00:00"))
    assert world.made("q") == []
    world.produce("p", 2, _partition(B, "2024-03-14T22:00:00"), _partition(B, "2024-03-15T22:00:00"))
    (run,) = world.made("q")
    assert (run.partition_key, run.partition_date) == ("2024-03-14", datetime(2024, 3, 14, tzinfo=UTC))
    assert len([row for row in world.rows(asset_event_run) if row.dag_run_id == run.id]) == 2
    assert sorted(row.partition_key for row in world.rows(asset_partition_queue)) == ["2024-03-13", "2024-03-15"]
    (attempt,) = (one for one in world.executor.started if one["dag_id"] == "q")
    assert (attempt["run"]["partition_key"], attempt["run"]["partition_date"]) == (
        "2024-03-14",
        "2024-03-14T00:00:00+00:00",
    )
    world.produce("p", 3, _partition(B, "2024-03-13T00:00:00"), _partition(A, "2024-03-15T00:00:00"))
    assert [row.partition_key for row in world.made("q")] == ["2024-03-14", "2024-03-13", "2024-03-15"]
    assert world.made("plain") == [], "who does not know of partitions is not told of them"
    assert world.rows(asset_partition_queue) == []


def test_partitions_wait_while_the_dag_has_all_the_runs_it_may_have(world: World) -> None:
    world.load(_dag("p", outlets=[A]), _dag("q", PartitionedAssetTimetable(assets=A), max_active_runs=1))
    world.produce("p", 1, _partition(A, "eu"), _partition(A, "us"), _event(A))
    assert [row.partition_key for row in world.made("q")] == ["eu"]
    world.finish("q")
    assert [row.partition_key for row in world.made("q")] == ["eu", "us"]


def test_a_rollup_waits_for_all_parts_and_a_partitioned_run_hands_its_key_on(world: World) -> None:
    week = RollupMapper(upstream_mapper=StartOfWeekMapper(input_format="%Y-%m-%d"), window=WeekWindow())
    world.load(
        _dag("p", outlets=[A]),
        _dag("daily", PartitionedAssetTimetable(assets=A), outlets=[B], max_active_runs=9),
        _dag("weekly", PartitionedAssetTimetable(assets=B, default_partition_mapper=week)),
    )
    for number, day in enumerate(range(11, 18), 1):
        assert world.made("weekly") == []
        world.produce("p", number, _partition(A, f"2024-03-{day}"))
        (attempt,) = (one for one in world.executor.started if one["dag_id"] == "daily")
        world.executor.started.remove(attempt)
        world.executor.end(attempt, "success", events=[_event(B)])
        turn(world.one, 3)
    (run,) = world.made("weekly")
    assert (run.partition_key, run.partition_date) == ("2024-03-11 (W11)", datetime(2024, 3, 11, tzinfo=UTC))


def test_a_changed_mapper_drops_what_waited_for_partitions_of_the_old_one(world: World) -> None:
    both = PartitionedAssetTimetable(assets=A & B, default_partition_mapper=StartOfDayMapper())
    world.load(_dag("p", outlets=[A, B]), _dag("q", both))
    world.produce("p", 1, _partition(A, "2024-03-13T10:00:00"))
    month = PartitionedAssetTimetable(assets=A & B, default_partition_mapper=StartOfMonthMapper())
    world.load(_dag("q", month))
    world.produce("p", 2, _partition(A, "2024-03-14T10:00:00"), _partition(B, "2024-03-14T10:00:00"))
    (run,) = world.made("q")
    assert run.partition_key == "2024-03"
    assert world.rows(asset_partition_queue) == []


def test_an_event_without_a_partition_and_one_that_cannot_be_mapped_make_no_run(world: World) -> None:
    some = PartitionedAssetTimetable(assets=A, default_partition_mapper=AllowedKeyMapper(["eu"]))
    world.load(_dag("p", outlets=[A]), _dag("q", some))
    world.produce("p", 1, _event(A), _partition(A, "us"))
    assert world.made("q") == []
    assert world.rows(asset_partition_queue) == []


def test_a_scheduled_run_of_a_partition_carries_its_key(world: World) -> None:
    nightly = CronPartitionTimetable("0 0 * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d")
    world.load(_dag("p", nightly, start_date=START, catchup=True, max_active_runs=2))
    turn(world.one, 3)
    first, second = [row for row in world.rows(dag_run) if row.dag_id == "p"]
    day = first.logical_date.date()
    assert first.partition_key == str(day - timedelta(days=1))
    assert second.partition_key == str(day)
    assert first.run_id.startswith(f"scheduled__{first.logical_date.isoformat()}__{first.partition_key}__")
    assert {one["run"]["partition_key"] for one in world.executor.started} == {
        first.partition_key,
        second.partition_key,
    }
