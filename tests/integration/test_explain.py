"""Why a task instance is not running: each condition as a sentence, and never another opinion than the scheduler's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from opskit import config as settings
from opskit.config import Config
from opskit.core.metastore import dag_loads, dags, instances, pools, runs, scheduling, tables, task_instances
from opskit.core.metastore.engine import Connection, Engine, open_engine, transaction
from opskit.core.scheduler import claims, explain
from opskit.errors import NotFound
from tests.conftest import Opskit
from tests.databases import Databases
from tests.metastore_rows import NOW, dag_data, loaded_file, start_run

CHAIN = {"a": ["b"], "b": ["c"], "c": []}


@pytest.fixture(scope="module")
def engine(databases: Databases) -> Iterator[Engine]:
    opened = open_engine(databases.migrated("sqlite"))
    yield opened
    opened.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """Of a cluster in which a scheduler and a worker live; nothing stays of what a test writes."""
    with engine.connect() as opened, opened.begin() as begun:
        for kind, detail in (("scheduler", "{}"), ("worker", '{"slots": 2}')):
            instances.register(
                opened,
                instance_id=f"w1-{kind}" if kind == "scheduler" else "w1",
                kind=kind,
                hostname="host",
                home="/",
                pid=1,
                pid_started=1.0,
                now=NOW,
                detail=detail,
            )
        yield opened
        begun.rollback()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return settings.load(tmp_path, {})


def store(connection: Connection, edges: Mapping[str, list[str]] = CHAIN, **rest: Any) -> None:
    tasks = rest.pop("tasks", {})
    data = dag_data("d", edges, **rest)
    for task in data["tasks"]:
        task |= tasks.get(task["task_id"], {})
    dag_loads.store_loaded_files(connection, [loaded_file("d.py", data)], NOW)


def why(connection: Connection, config: Config, run: runs.Run, task_id: str, map_index: int = -1) -> dict[str, str]:
    seen = explain.observe(connection, config, "d", run.run_id, task_id, map_index, NOW)
    return {one.name: one.reason for one in explain.unmet(seen)}


def change(connection: Connection, run: runs.Run, task_id: str, **values: Any) -> None:
    table = tables.task_instance
    connection.execute(update(table).where(table.c.dag_run_id == run.id, table.c.task_id == task_id).values(**values))


def is_claimed(connection: Connection, config: Config, run: runs.Run, task_id: str) -> bool:
    """Whether the scheduler, with a free worker, would start it now."""
    seen = explain.observe(connection, config, "d", run.run_id, task_id, -1, NOW)
    if seen.owned is None:
        return False
    seen.owned.held = True
    budget = {name: slots - used for name, (slots, used) in seen.pools.items()}
    chosen = claims.choose([seen.owned], budget, "w1", 10, NOW)
    return any(of is seen.owned.runs[run.id] and one.task.task_id == task_id for _, of, one in chosen)


def test_nothing_keeps_a_task_from_running_whose_upstream_has_succeeded(connection: Connection, config: Config) -> None:
    store(connection)
    run = start_run(connection, "d", NOW, {"a": "success", "b": None, "c": None})
    assert why(connection, config, run, "b") == {}
    assert is_claimed(connection, config, run, "b")
    assert why(connection, config, run, "c") == {
        "Trigger Rule": "its trigger rule all_success needs all upstream tasks to succeed; "
        "0 of 1 upstream task instances have ended: b is waiting"
    }
    assert not is_claimed(connection, config, run, "c")


def test_what_has_ended_or_runs_says_so(connection: Connection, config: Config) -> None:
    store(connection)
    run = start_run(connection, "d", NOW, {"a": "failed", "b": "upstream_failed", "c": "running"})
    change(connection, run, "a", reason="exit code 3")
    assert "its state is failed (exit code 3)" in why(connection, config, run, "a")["Task Instance State"]
    assert "it runs, on host since" in why(connection, config, run, "c")["Task Instance State"]
    ended = start_run(connection, "d", NOW + timedelta(days=1), {"a": None}, state="failed")
    assert "its state is failed" in why(connection, config, ended, "a")["Dagrun Running"]


def test_a_decision_that_is_due_is_told_as_one(connection: Connection, config: Config) -> None:
    store(connection)
    run = start_run(connection, "d", NOW, {"a": "failed", "b": None, "c": None})
    assert why(connection, config, run, "b")["Trigger Rule"].startswith(
        "a scheduler is about to set it to upstream_failed"
    )


def test_a_paused_dag_a_queued_run_and_a_dead_cluster_are_named(connection: Connection, config: Config) -> None:
    store(connection, max_active_runs=1)
    first = start_run(connection, "d", NOW, {"a": None})
    waiting = [runs.trigger(connection, "d", NOW + timedelta(days=day), run_id=f"later{day}") for day in (1, 2)]
    told = why(connection, config, waiting[1], "a")["Dagrun Running"]
    assert told == (
        "the run waits: 1 of 1 runs of the DAG are active (max_active_runs), "
        "and 1 queued run with earlier dates come first"
    )
    dags.set_paused(connection, ["d"], True, NOW)
    assert why(connection, config, first, "a") == {"Dag Not Paused": "the DAG is paused: opskit dags unpause d"}
    assert not is_claimed(connection, config, first, "a")
    connection.execute(update(tables.instance).values(heartbeat_at=NOW - timedelta(hours=1)))
    told_all = why(connection, config, first, "a")
    assert "no scheduler is alive: the last sign of life is of 2026-03-01 11:00:00" in told_all["Scheduler"]
    assert "no worker is alive" in told_all["Worker"]


def test_the_past_is_named_that_a_task_depends_on(connection: Connection, config: Config) -> None:
    store(connection, {"a": []}, tasks={"a": {"depends_on_past": True}}, max_active_runs=2)
    start_run(connection, "d", NOW - timedelta(days=1), {"a": "failed"}, state="failed")
    run = start_run(connection, "d", NOW, {"a": None})
    assert why(connection, config, run, "a") == {
        "Previous Dagrun State": "it has depends_on_past, and in the previous run, which is over: a is failed"
    }
    later = start_run(connection, "d", NOW + timedelta(days=1), {"a": None})
    assert f"in the previous run {run.run_id}, which goes on: a is waiting" in str(why(connection, config, later, "a"))
    assert not is_claimed(connection, config, later, "a")


def test_a_retry_a_reschedule_and_a_trigger_tell_what_they_wait_for(connection: Connection, config: Config) -> None:
    store(connection)
    run = start_run(connection, "d", NOW, {"a": "up_for_retry", "b": None, "c": None}, max_tries=2)
    change(connection, run, "a", next_at=NOW + timedelta(seconds=90))
    assert why(connection, config, run, "a") == {
        "Not In Retry Period": "try 1 of 3 has failed; the next one is due at 2026-03-01 12:01:30 UTC, in 90 s"
    }
    change(connection, run, "a", next_at=NOW - timedelta(seconds=1))
    run_now = why(connection, config, run, "a")
    assert run_now == {}
    change(connection, run, "a", state="up_for_reschedule", next_at=NOW + timedelta(hours=3))
    assert why(connection, config, run, "a")["Ready To Reschedule"].endswith("15:00:00 UTC, in 3 h")
    change(connection, run, "a", state="deferred", next_at=None)
    connection.execute(
        insert(tables.xcom).values(
            dag_run_id=run.id,
            task_id="a",
            map_index=-1,
            key=scheduling.DEFER_KEY,
            value='{"class": "opskit.triggers:FileTrigger", "timeout_at": "2026-03-02T00:00:00+00:00"}',
            created_at=NOW,
        )
    )
    assert why(connection, config, run, "a")["Trigger"] == (
        "it is deferred: it waits for the trigger FileTrigger; it gives up at 2026-03-02T00:00:00+00:00"
    )


def test_the_limits_of_dag_task_pool_and_worker_are_told_with_their_numbers(
    connection: Connection, config: Config
) -> None:
    store(
        connection,
        {"a": [], "b": [], "c": []},
        tasks={"b": {"max_active_tis_per_dag": 1, "pool": "small", "pool_slots": 3}, "c": {"pool": "nowhere"}},
        max_active_tasks=2,
    )
    pools.set_pool(connection, "small", 4, None)
    connection.execute(update(tables.pool).where(tables.pool.c.pool == "small").values(used_slots=2))
    run = start_run(connection, "d", NOW, {"a": "running", "b": "running", "c": None})
    other = start_run(connection, "d", NOW + timedelta(days=1), {"a": None, "b": None, "c": None})
    assert why(connection, config, other, "b") == {
        "Task Instance Slots Available": "2 of 2 task instances of the DAG are in flight (max_active_tasks)",
        "Task Concurrency": "1 of 1 instances of the task are in flight in all runs (max_active_tis_per_dag)",
        "Pool Slots Available": "it needs 3 slots of the pool small, where 2 of 4 are used",
    }
    assert "there is no pool nowhere" in why(connection, config, run, "c")["Pool Slots Available"]
    change(connection, other, "a", state="running")
    assert "3 task instances are claimed already" in why(connection, config, other, "b")["Executor Slots"]
    assert not is_claimed(connection, config, other, "b")


def test_what_a_worker_was_given_and_does_not_run_is_told(connection: Connection, config: Config) -> None:
    store(connection, {"a": [], "b": [], "c": []})
    run = start_run(connection, "d", NOW, {"a": "running", "b": "running", "c": "queued"})
    assert "3 task instances are claimed, and its worker runs 2" in why(connection, config, run, "c")["Executor Slots"]
    change(connection, run, "c", worker_id="gone")
    assert "the worker gone, which gives no sign of life" in why(connection, config, run, "c")["Worker"]


def test_a_task_that_has_no_part_in_a_run_and_one_that_is_not_there(connection: Connection, config: Config) -> None:
    start = (NOW + timedelta(days=1)).isoformat()
    store(connection, {"a": [], "b": []}, tasks={"b": {"start_date": start}})
    run = start_run(connection, "d", NOW, {"a": None})
    assert "before the task's start_date" in why(connection, config, run, "b")["Execution Date"]
    for task_id, index in (("x", -1), ("a", 4)):
        with pytest.raises(NotFound, match="has no task"):
            why(connection, config, run, task_id, index)


def test_a_mapped_task_waits_for_what_it_is_mapped_over_and_a_task_for_its_setup(
    connection: Connection, config: Config
) -> None:
    over = {"xcom": "a", "key": "return_value"}
    store(
        connection,
        {"a": ["b"], "b": [], "up": [], "work": []},
        tasks={"b": {"expand": over}, "up": {"is_setup": True}, "work": {"setups": ["up"]}},
    )
    run = start_run(connection, "d", NOW, {"a": "running", "b": None, "up": "running", "work": None})
    told = why(connection, config, run, "b")
    assert told["Mapping"] == "how many instances it has is not known before a has ended"
    assert "a is running" in told["Trigger Rule"]
    assert why(connection, config, run, "work") == {"Setup": "its setup task up has not succeeded yet: it is running"}


def test_a_file_that_cannot_be_loaded_is_told_beside_what_else_keeps_it(connection: Connection, config: Config) -> None:
    store(connection)
    run = start_run(connection, "d", NOW, {"a": None})
    connection.execute(
        update(tables.dag_file).values(import_error="Traceback …\nSyntaxError: invalid syntax (d.py, line 3)\n")
    )
    assert why(connection, config, run, "a")["DAG File"].endswith("SyntaxError: invalid syntax (d.py, line 3)")
    connection.execute(update(tables.dag).values(is_active=False))
    assert "does not define the DAG any more" in why(connection, config, run, "a")["DAG File"]


def test_the_scheduler_claims_exactly_what_nothing_is_said_against(connection: Connection, config: Config) -> None:
    store(
        connection,
        {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": ["e"], "e": [], "f": []},
        tasks={"d": {"trigger_rule": "one_success"}, "e": {"trigger_rule": "all_done"}, "f": {"pool": "tiny"}},
    )
    pools.set_pool(connection, "tiny", 1, None)
    states_of: list[dict[str, str | None]] = [
        {"a": "success", "b": "success", "c": "running", "d": None, "e": None, "f": None},
        {"a": "success", "b": "skipped", "c": None, "d": None, "e": None, "f": "success"},
        {"a": None, "b": None, "c": None, "d": None, "e": None, "f": None},
    ]
    for day, states in enumerate(states_of):
        run = start_run(connection, "d", NOW + timedelta(days=day), states)
        for task_id in states:
            told = why(connection, config, run, task_id)
            assert (told == {}) is is_claimed(connection, config, run, task_id), (day, task_id, told)
        task_instances.mark_run(connection, "d", run.run_id, "success", NOW)


def test_the_command_line_says_the_same(opskit: Opskit, databases: Databases) -> None:
    url = databases.migrated("sqlite")
    opened = open_engine(url)
    with transaction(opened) as connection:
        store(connection)
        start_run(connection, "d", NOW, {"a": "failed", "b": None, "c": None})
    opened.dispose()
    where = {"OPSKIT__DATABASE__SQL_ALCHEMY_CONN": url}
    told = opskit("tasks", "failed-deps", "d", NOW.isoformat(), "a", env=where).stdout
    assert told == "Task Instance State: it has ended: its state is failed; it runs again when it is cleared\n"
    found = json.loads(opskit("tasks", "failed-deps", "d", NOW.isoformat(), "c", "-o", "json", env=where).stdout)
    assert {one["name"] for one in found} == {"Scheduler", "Worker", "Trigger Rule"}
