"""`opskit assets` on a metastore."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from opskit.cli import cli
from opskit.core.dag import serialization
from opskit.core.dag.assets import Asset, AssetWatcher
from opskit.core.dag.model import DAG
from opskit.core.dag.operators.python import PythonOperator
from opskit.core.dag.partition_timetables import CronPartitionTimetable, PartitionedAssetTimetable
from opskit.core.metastore import asset_events, dag_loads, runs, schema
from opskit.core.metastore.engine import Engine, open_engine, reading, transaction
from opskit.core.metastore.tables import asset_queue, dag, dag_run, log
from opskit.errors import OpskitError, UsageError
from tests.metastore_rows import loaded_file


class BaseEventTrigger:
    pass


A = Asset("orders", "s3://lake/orders", extra={"owner": "me"}, watchers=[AssetWatcher("queue", BaseEventTrigger())])
B = Asset("prices")


@pytest.fixture
def engine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("OPSKIT_HOME", str(home))
    from opskit.config import load

    made = open_engine(load(home))
    schema.migrate(made)
    with transaction(made) as connection:
        for dag_id, schedule, outlets in (("load", None, [A, B]), ("report", [A, B], None), ("more", None, [B])):
            with DAG(dag_id, schedule=schedule) as one:
                PythonOperator(task_id="t", python_callable=print, outlets=outlets)
            file = loaded_file(f"{dag_id}.py", serialization.serialize(one))
            dag_loads.store_loaded_files(connection, [file], datetime.now(UTC))
    yield made
    made.dispose()


@pytest.fixture
def opskit() -> Callable[..., Result]:
    def run(*words: str) -> Result:
        return CliRunner().invoke(cli, list(words), catch_exceptions=False)

    return run


def _json(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_assets_are_listed_with_who_makes_them_and_who_waits(engine: Engine, opskit: Any) -> None:
    orders, prices = _json(opskit("assets", "list", "--output", "json"))
    assert (orders["name"], orders["uri"], orders["extra"]) == ("orders", "s3://lake/orders", {"owner": "me"})
    assert (orders["producers"], orders["consumers"]) == ([["load", "t"]], ["report"])
    assert (prices["producers"], orders["events"]) == ([["load", "t"], ["more", "t"]], 0)
    shown = opskit("datasets", "list")
    assert "load.t" in shown.stdout
    assert "nothing watches orders" in shown.stderr


def test_an_event_by_hand_starts_what_waits_for_it(engine: Engine, opskit: Any) -> None:
    before = _revision(engine)
    assert "waited for: none" in opskit("assets", "trigger", "orders", "--extra", '{"rows": 3}').output
    assert _json(opskit("assets", "waiting", "-o", "json")) == [
        {"dag_id": "report", "asset": "orders", "uri": "s3://lake/orders", "events": 1}
    ]
    assert "waited for: report" in opskit("assets", "trigger", "prices").output
    assert _revision(engine) > before
    with transaction(engine) as connection:
        asset_events.start_run(
            connection, "report", {"condition": (A & B).as_expression(), "dialect": 2}, datetime.now(UTC)
        )
    newest, oldest = _json(opskit("assets", "events", "--output", "json"))
    assert (oldest["name"], oldest["extra"], oldest["source"]) == ("orders", {"rows": 3}, "by hand")
    assert newest["made"] == oldest["made"] and newest["made"][0].startswith("report dataset_triggered__")
    assert [row["name"] for row in _json(opskit("assets", "events", "s3://lake/orders", "-o", "json"))] == ["orders"]
    assert _json(opskit("assets", "events", "--dag-id", "load", "-o", "json")) == []
    with reading(engine) as connection:
        assert connection.execute(select(asset_queue)).all() == []
        run = connection.execute(select(dag_run)).one()
        assert run.data_interval_start < run.data_interval_end < run.logical_date
        assert [row.event for row in connection.execute(select(log))] == ["assets trigger", "assets trigger"]


def _revision(engine: Engine) -> int:
    with reading(engine) as connection:
        return int(connection.execute(select(dag.c.revision).where(dag.c.dag_id == "report")).scalar_one())


def test_an_asset_is_made_by_the_dag_that_makes_it(engine: Engine, opskit: Any) -> None:
    assert "load: run manual__" in opskit("assets", "materialize", "orders").output
    with pytest.raises(UsageError, match="several DAGs make the asset 'prices': load, more"):
        opskit("assets", "materialize", "prices")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["trigger", "order"], "did you mean orders?"),
        (["trigger", "orders", "--extra", "[1]"], "no JSON object"),
        (["trigger", "orders", "--extra", "{"], "is no JSON"),
        (["events", "nothing like it"], "there is no asset"),
    ],
)
def test_what_can_not_be_is_explained(engine: Engine, opskit: Any, words: list[str], complaint: str) -> None:
    with pytest.raises(OpskitError) as refused:
        opskit("assets", *words)
    assert complaint in f"{refused.value.message} {refused.value.hint}"


def test_runs_and_events_of_a_partition_can_be_made_by_hand(engine: Engine, opskit: Any) -> None:
    with transaction(engine) as connection:
        nightly = CronPartitionTimetable("0 0 * * *", timezone="Asia/Taipei", run_offset=-1, key_format="%Y-%m-%d")
        for dag_id, schedule in (("night", nightly), ("parts", PartitionedAssetTimetable(assets=A))):
            with DAG(dag_id, schedule=schedule) as one:
                PythonOperator(task_id="t", python_callable=print)
            file = loaded_file(f"{dag_id}.py", serialization.serialize(one))
            dag_loads.store_loaded_files(connection, [file], datetime.now(UTC))
    assert "waited for: parts" in opskit("assets", "trigger", "orders", "--partition-key", "eu").output
    with pytest.raises(UsageError, match="1 to 250 characters"):
        opskit("assets", "trigger", "orders", "--partition-key", " ")
    assert opskit("dags", "trigger", "night", "--partition-key", "2024-03-02").exit_code == 0
    assert opskit("dags", "trigger", "load", "--partition-key", "eu").exit_code == 0
    with pytest.raises(UsageError, match="night has no partition 'eu'"):
        opskit("dags", "trigger", "night", "--partition-key", "eu")
    at = datetime(2024, 3, 1, 16, tzinfo=UTC)
    with transaction(engine) as connection:
        runs.trigger(connection, "night", datetime.now(UTC), logical_date=at, run_type="backfill")
        found = connection.execute(select(dag_run.c.run_type, dag_run.c.partition_key, dag_run.c.partition_date))
        assert {tuple(row) for row in found} == {
            ("manual", "2024-03-02", at),
            ("manual", "eu", None),
            ("backfill", "2024-03-01", datetime(2024, 2, 29, 16, tzinfo=UTC)),
        }
