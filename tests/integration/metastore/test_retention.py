"""Retention: what goes, what never goes, on each kind of database."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, select, text, update

from opskit.core.metastore import audit, instances, pruning, retention, runs, xcoms
from opskit.core.metastore.engine import Connection, Engine, reading, transaction
from opskit.core.metastore.governor import Governor
from opskit.core.metastore.tables import (
    asset,
    asset_alias,
    asset_event,
    asset_queue,
    asset_reference,
    attempt_result,
    dag_run,
    dag_version,
    log,
    metadata,
    task_instance,
    xcom,
)
from tests.metastore_rows import NOW, start_run, store_dag

OLD = NOW - timedelta(days=100)
BEFORE = NOW - timedelta(days=50)


def orders(before: datetime = BEFORE, **children: datetime) -> pruning.Orders:
    def cutoffs(at: datetime) -> retention.Cutoffs:
        return lambda dag_id, is_paused: {"success": at, "failed": at}

    singles = dict.fromkeys(("attempt_result", "instance", "log", "dag_version", "asset_event"), before)
    return pruning.Orders(cutoffs(before), {name: cutoffs(at) for name, at in children.items()}, singles)


def plan(connection: Connection, wanted: pruning.Orders | None = None) -> dict[str, int]:
    """Rows that would go, by table."""
    wanted = wanted or orders()
    children = {name: retention.select_runs(connection, cut) for name, cut in wanted.children.items()}
    found: dict[str, int] = {}
    for one in retention.plan(connection, retention.select_runs(connection, wanted.runs), children, wanted.before):
        found[one.table] = found.get(one.table, 0) + one.rows
    return found


def prune(
    engine: Engine, wanted: pruning.Orders | None = None, *, batch_size: int = 500, **rest: Any
) -> pruning.Pruned:
    done = pruning.prune(engine, wanted or orders(), Governor(engine, batch_size, 30.0, **rest))
    assert done.failed == {}
    return done


def _count(connection: Connection, name: str) -> int:
    return int(connection.execute(select(func.count()).select_from(metadata.tables[name])).scalar_one())


def _dates(connection: Connection, dag_id: str) -> list[int]:
    """Days after OLD of the runs that are there."""
    return sorted((run.logical_date - OLD).days for run in runs.list_runs(connection, dag_id=dag_id))


def _run(connection: Connection, dag_id: str, day: int, state: str = "success", **rest: str) -> runs.Run:
    run = start_run(connection, dag_id, OLD + timedelta(day), {"a": state, "b": state}, state=state, **rest)
    xcoms.set_xcom(connection, dag_id, run.run_id, "a", -1, "k", day, NOW)
    return run


@pytest.mark.parametrize("batch_size", [1, 3, 500])
def test_old_ended_runs_go_with_all_that_is_theirs_and_the_plan_counted_them(engine: Engine, batch_size: int) -> None:
    with transaction(engine) as connection:
        for name in ("x", "y"):
            store_dag(connection, name)
            for day in range(5):
                _run(connection, name, day)
            _run(connection, name, 90)
    with reading(engine) as connection:
        planned = plan(connection)
    assert planned == {"dag_run": 10, "task_instance": 20, "xcom": 10}
    done = prune(engine, batch_size=batch_size)
    assert done.rows == planned
    with reading(engine) as connection:
        assert (_dates(connection, "x"), _dates(connection, "y")) == ([90], [90])
        assert (_count(connection, "task_instance"), _count(connection, "xcom")) == (4, 2)
        assert plan(connection) == {}
    assert prune(engine).rows == {}


def test_the_newest_runs_stay_whatever_their_age(engine: Engine) -> None:
    with transaction(engine) as connection:
        store_dag(connection, "d")
        _run(connection, "d", 0)
        _run(connection, "d", 1, run_type="scheduled")
        _run(connection, "d", 2, run_type="scheduled", state="failed")
        _run(connection, "d", 3)
        _run(connection, "d", 4, state="failed")
        _run(connection, "d", 5, state="failed")
    prune(engine)
    with reading(engine) as connection:
        # 2: the newest scheduled one, 3: the newest successful one, 5: the newest.
        assert _dates(connection, "d") == [2, 3, 5]


def test_unfinished_runs_and_those_just_before_them_stay(engine: Engine) -> None:
    with transaction(engine) as connection:
        store_dag(connection, "d")
        for day in (0, 1, 2, 4, 5, 9):
            _run(connection, "d", day)
        start_run(connection, "d", OLD + timedelta(3), {"a": "running"}, state="running")
        start_run(connection, "d", OLD + timedelta(6), {}, state="queued")
    prune(engine, batch_size=2)
    with reading(engine) as connection:
        assert _dates(connection, "d") == [2, 3, 5, 6, 9]


def test_pruning_that_is_ended_early_goes_on_the_next_time(engine: Engine) -> None:
    with transaction(engine) as connection:
        store_dag(connection, "d")
        for day in range(6):
            _run(connection, "d", day)
    ticks = iter(range(100))
    first = prune(engine, batch_size=2, deadline=3, clock=lambda: next(ticks))
    assert 0 < first.rows["dag_run"] < 5
    assert first.left
    second = prune(engine, batch_size=2)
    assert first.rows["dag_run"] + second.rows["dag_run"] == 5
    assert second.left == []


def test_versions_that_nothing_uses_go(engine: Engine) -> None:
    with transaction(engine) as connection:
        for retries in range(3):
            store_dag(connection, "d", OLD, retries=retries)
        first = connection.execute(
            select(dag_version.c.hash).where(dag_version.c.data.like('%"retries":0%'))
        ).scalar_one()
        _run(connection, "d", 0)
        connection.execute(update(dag_run).values(version_hash=first))
        assert plan(connection) == {"dag_version": 1}
    assert prune(engine).rows == {"dag_version": 1}
    with transaction(engine) as connection:
        assert _count(connection, "dag_version") == 2
        _run(connection, "d", 90)
        planned = plan(connection)
        assert (planned["dag_run"], planned["dag_version"]) == (1, 1)
    assert prune(engine).rows == planned


def test_old_audit_lines_ended_instances_and_left_results_go(engine: Engine) -> None:
    with transaction(engine) as connection:
        for at in (OLD, NOW):
            audit.write(connection, "dags trigger", at, dag_id="d")
            connection.execute(insert(attempt_result).values(dag_id="d", worker_id="w", payload="{}", created_at=at))
            for ended in (True, False):
                name = f"{at.isoformat()[:10]}{ended}"
                instances.register(
                    connection,
                    instance_id=name,
                    kind="worker",
                    hostname="h",
                    home="/",
                    pid=1,
                    pid_started=1.0,
                    now=at,
                )
                if ended:
                    instances.end(connection, name, at)
        planned = plan(connection)
    assert planned == {"attempt_result": 1, "instance": 1, "log": 1}
    assert prune(engine).rows == planned
    with reading(engine) as connection:
        assert (_count(connection, "log"), _count(connection, "instance")) == (1, 3)
        assert connection.execute(select(log.c.at)).scalar() == NOW


def test_old_events_go_but_the_newest_that_a_dag_waits_with(engine: Engine) -> None:
    with transaction(engine) as connection:
        store_dag(connection, "d")
        run = _run(connection, "d", 0)
        _run(connection, "d", 90)
        numbers = [
            int(
                connection.execute(
                    insert(asset_event).values(asset_id=asset_id, at=at, extra="{}", aliases="[]")
                ).inserted_primary_key[0]
            )
            for asset_id, at in ((1, OLD), (1, OLD), (1, OLD), (1, NOW), (2, OLD))
        ]
        for place, counts in ((0, True), (1, True), (2, False), (4, True)):
            connection.execute(
                insert(asset_queue).values(
                    event_id=numbers[place], dag_id="d", asset_id=2 if place == 4 else 1, counts=counts
                )
            )
        links = [(numbers[0], run.id), (numbers[3], run.id), (numbers[4], run.id + 1)]
        for event_id, run_id in links:
            connection.execute(insert(metadata.tables["asset_event_run"]).values(event_id=event_id, dag_run_id=run_id))
        # Asset 1 has events, 2 is waited for, 3 is made up and unused, 4 is new, 5 is named by a DAG.
        for number in range(1, 6):
            connection.execute(
                insert(asset).values(
                    id=number,
                    hash=f"h{number}",
                    name_hash=f"n{number}",
                    uri_hash=f"u{number}",
                    name=str(number),
                    uri=str(number),
                    created_at=NOW if number == 4 else OLD,
                )
            )
            connection.execute(insert(asset_alias).values(asset_id=number, name_hash="al", name="al", created_at=OLD))
        connection.execute(
            insert(asset_reference).values(
                dag_id="d", task_id="", role="schedule", hash="u5", kind="uri", name="", uri="5"
            )
        )
        planned = plan(connection)
    wanted = {"asset_event": 2, "asset_queue": 2, "asset_event_run": 2, "asset": 1, "asset_alias": 1}
    assert {name: planned[name] for name in wanted} == wanted
    done = prune(engine).rows
    assert {name: done[name] for name in wanted} == wanted
    with reading(engine) as connection:
        left = connection.execute(select(asset_event.c.id).order_by(asset_event.c.id)).scalars().all()
        assert left == [numbers[1], numbers[3], numbers[4]]
        assert connection.execute(select(asset.c.id).order_by(asset.c.id)).scalars().all() == [1, 2, 4, 5]
        assert _count(connection, "asset_queue") == 2


def test_rows_whose_run_is_gone_go(engine: Engine) -> None:
    with transaction(engine) as connection:
        store_dag(connection, "d")
        _run(connection, "d", 90)
    with transaction(engine) as connection:
        connection.execute(delete(dag_run))
    with reading(engine) as connection:
        planned = plan(connection)
        assert connection.execute(text("SELECT count(*) FROM dag_run")).scalar() == 0
    assert planned == {"task_instance": 2, "xcom": 1}
    assert prune(engine).rows == planned
    with reading(engine) as connection:
        assert connection.execute(select(task_instance)).all() == connection.execute(select(xcom)).all() == []


def test_a_version_that_comes_back_into_use_is_there(engine: Engine) -> None:
    """A file that is reverted uses an old version again, which the retention may have removed."""
    with transaction(engine) as connection:
        store_dag(connection, "d", OLD)
        store_dag(connection, "d", OLD, retries=1)
    prune(engine)
    with transaction(engine) as connection:
        assert _count(connection, "dag_version") == 1
        store_dag(connection, "d")
        assert _count(connection, "dag_version") == 2
