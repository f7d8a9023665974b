"""Lists of DAGs, runs, task instances and XComs: filters, orders, parts and totals."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from opskit.core.metastore import dag_loads, runs, tables, xcoms
from opskit.core.metastore.browsing import dags, task_instances, totals
from opskit.core.metastore.browsing import runs as run_lists
from opskit.core.metastore.browsing import xcoms as xcom_lists
from opskit.core.metastore.browsing.dags import DagFilter
from opskit.core.metastore.browsing.runs import RunFilter
from opskit.core.metastore.browsing.task_instances import TaskInstanceFilter
from opskit.core.metastore.browsing.window import Window
from opskit.core.metastore.browsing.xcoms import XComFilter
from opskit.core.metastore.engine import Connection, Engine, reading, transaction
from opskit.errors import NotFound
from tests.metastore_rows import NOW, dag_data, loaded_file, start_run, store_dag

HOUR = timedelta(hours=1)


def _fill(connection: Connection) -> list[runs.Run]:
    data = dag_data("billing", {"a": ["b"], "b": []}, tags=["Daily", "50%"])
    data["tasks"][1] |= {"queue": "gpu", "pool": "nowhere", "ui": {"display_name": "B!"}}
    dag_loads.store_loaded_files(connection, [loaded_file("billing.py", data)], NOW)
    store_dag(connection, "orders", tags=["hourly"])
    dag_loads.store_loaded_files(
        connection, [loaded_file("orders.py", dag_data("orders", tags=["hourly"]), import_error=None)], NOW
    )
    made = [
        start_run(connection, "billing", NOW + number * HOUR, {"a": "success", "b": ["failed", None][number]})
        for number in range(2)
    ]
    made.append(start_run(connection, "orders", NOW, {"a": "success", "b": None, "c": "running"}, state="success"))
    slow = tables.task_instance.c
    connection.execute(
        update(tables.task_instance)
        .where(slow.dag_run_id == made[0].id, slow.task_id == "a")
        .values(start_date=NOW, end_date=NOW + timedelta(seconds=90.5))
    )
    xcoms.set_xcom(connection, "billing", made[0].run_id, "a", -1, "return_value", {"rows": 3}, NOW)
    xcoms.set_xcom(connection, "billing", made[0].run_id, "a", -1, "__deferral__", {"class": "x"}, NOW)
    xcoms.set_xcom(connection, "orders", made[2].run_id, "a", -1, "return_value", "☂", NOW)
    return made


def test_every_filter_and_order_of_a_list_means_what_it_says(engine: Engine) -> None:
    with transaction(engine) as connection:
        first, second, other = _fill(connection)
    with reading(engine) as connection:

        def listed(which: DagFilter, **window: Any) -> list[str]:
            found, total = dags.list_dags(connection, which, Window(**window))
            assert total >= len(found)
            return [one.dag.dag_id for one in found]

        assert listed(DagFilter()) == ["billing", "orders"]
        assert listed(DagFilter(), limit=1, descending=True) == ["orders"]
        assert listed(DagFilter(), limit=5, offset=1) == ["orders"]
        assert listed(DagFilter(tags=["daily"])) == []
        assert listed(DagFilter(tags=["Daily", "hourly"])) == ["billing", "orders"]
        assert listed(DagFilter(tags=["50%"])) == ["billing"]
        assert listed(DagFilter(tags=["Dail"])) == []
        assert listed(DagFilter(pattern="ILL")) == ["billing"]
        assert listed(DagFilter(pattern="o%s")) == ["orders"]
        assert listed(DagFilter(paused=True)) == []
        assert listed(DagFilter(active=True, paused=False, dag_ids=["orders", "x"])) == ["orders"]
        assert dags.dag_ids(connection, DagFilter(pattern="i"), Window()) == (["billing"], 1)
        assert [one.message for one in dags.warnings(connection) if "nowhere" in one.message]

        def ran(which: RunFilter, **window: Any) -> list[int]:
            found, total = run_lists.list_runs(connection, which, Window(**window))
            assert total == len(found)
            return [one.id for one in found]

        assert ran(RunFilter()) == [first.id, second.id, other.id]
        assert ran(RunFilter(), order="dag_id", descending=True) == [other.id, second.id, first.id]
        assert ran(RunFilter(dag_ids=["billing"], readable=["orders"])) == []
        assert ran(RunFilter(states=["success"])) == [other.id]
        assert ran(RunFilter(run_ids=[first.run_id])) == [first.id, other.id]  # ids are of a DAG
        assert ran(RunFilter(logical_date=(NOW + HOUR, None))) == [second.id]
        assert ran(RunFilter(logical_date=(None, NOW), dag_ids=["billing"])) == [first.id]
        assert ran(RunFilter(end_date=(NOW, NOW))) == [other.id]
        assert ran(RunFilter(updated_at=(NOW + HOUR, None))) == [second.id]
        assert ran(RunFilter(start_date=(NOW + 2 * HOUR, None))) == []

        def tried(which: TaskInstanceFilter, **window: Any) -> list[tuple[int, str]]:
            found, total = task_instances.list_task_instances(connection, which, Window(**window))
            assert total == len(found) == task_instances.count(connection, which)
            return [(one.instance.dag_run_id, one.instance.task_id) for one in found]

        every = [(first.id, "a"), (first.id, "b"), (second.id, "a"), (second.id, "b")]
        every += [(other.id, "a"), (other.id, "b"), (other.id, "c")]
        assert tried(TaskInstanceFilter()) == every
        assert tried(TaskInstanceFilter(), descending=True) == every[::-1]
        assert tried(TaskInstanceFilter(RunFilter(readable=["orders"]))) == every[4:]
        assert tried(TaskInstanceFilter(RunFilter(run_ids=["nope"]))) == []
        assert tried(TaskInstanceFilter(in_states=[None])) == [(second.id, "b"), (other.id, "b")]
        assert tried(TaskInstanceFilter(in_states=["failed", None])) == [every[1], every[3], every[5]]
        assert tried(TaskInstanceFilter(pools=["nowhere"])) == []
        assert tried(TaskInstanceFilter(queues=["gpu"])) == [every[1], every[3]]
        assert tried(TaskInstanceFilter(queues=["default"])) == [every[0], every[2], *every[4:]]
        assert tried(TaskInstanceFilter(queues=["default", "gpu"])) == every
        assert tried(TaskInstanceFilter(queues=["other"])) == []
        assert tried(TaskInstanceFilter(duration=(90.0, 91.0))) == [(first.id, "a")]
        assert tried(TaskInstanceFilter(duration=(91.0, None))) == []
        assert tried(TaskInstanceFilter(updated_at=(NOW + timedelta(seconds=90), NOW + 2 * HOUR))) == [
            (first.id, "a"),
            (second.id, "a"),
            (second.id, "b"),
        ]
        assert tried(TaskInstanceFilter(start_date=(None, NOW - HOUR))) == []
        assert tried(TaskInstanceFilter(task_ids=["c"], mapped=False, map_indexes=[-1])) == [(other.id, "c")]
        assert tried(TaskInstanceFilter(mapped=True)) == []
        ended = TaskInstanceFilter(duration=(0.0, None))
        assert tried(ended, order="duration", descending=True)[0] == (first.id, "a")
        assert tried(ended, order="duration")[-1] == (first.id, "a")
        assert tried(TaskInstanceFilter(in_states=["failed", "success"]), order="state")[0] == (first.id, "b")

        def left(which: XComFilter) -> list[tuple[str, str]]:
            found, total = xcom_lists.list_xcoms(connection, which, Window())
            assert total == len(found)
            return [(one.dag_id, one.key) for one in found]

        assert left(XComFilter()) == [("billing", "return_value"), ("orders", "return_value")]
        assert left(XComFilter(readable=["orders"])) == [("orders", "return_value")]
        assert left(XComFilter(dag_id="billing", run_id=first.run_id, task_id="a", map_index=-1)) != []
        assert left(XComFilter(key="other")) == []
        assert xcom_lists.get_xcom(connection, "orders", other.run_id, "a", -1, "return_value")[1] == "☂"
        with pytest.raises(NotFound, match="has left no XCom"):
            xcom_lists.get_xcom(connection, "billing", first.run_id, "a", -1, "__deferral__")


def test_a_total_is_exact_up_to_a_limit_and_then_counted_once_for_some_time(
    databases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opskit.core.metastore.engine import open_engine

    engine = open_engine(databases.migrated("sqlite"))
    monkeypatch.setattr(totals, "EXACT_UP_TO", 5)
    try:
        with transaction(engine) as connection:
            _fill(connection)
        with reading(engine) as connection:
            assert task_instances.count(connection, TaskInstanceFilter(task_ids=["a"])) == 3
            assert task_instances.count(connection, TaskInstanceFilter()) == 7
        with transaction(engine) as connection:
            start_run(connection, "billing", NOW + 5 * HOUR, {"a": "success", "b": "success"})
        with reading(engine) as connection:
            assert task_instances.count(connection, TaskInstanceFilter(task_ids=["a"])) == 4
            assert task_instances.count(connection, TaskInstanceFilter()) == 7
            totals.forget()
            assert task_instances.count(connection, TaskInstanceFilter()) == 9
    finally:
        totals.forget()
        engine.dispose()
