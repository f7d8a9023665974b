"""DagRuns and task instances: trigger, list, clear and mark, on each kind of database."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from opskit.core.metastore import runs, scheduling, task_instances, xcoms
from opskit.core.metastore.engine import Connection, Engine, reading, transaction
from opskit.core.metastore.tables import dag, pool
from opskit.errors import GuardRefused, NotFound, OpskitError, UsageError
from tests.metastore_rows import NOW, start_run, store_dag

DIAMOND = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": [], "alone": []}


def _revision(connection: Connection) -> int:
    return int(connection.execute(select(dag.c.revision).where(dag.c.dag_id == "d")).scalar_one())


def _states(connection: Connection, run: runs.Run) -> dict[str, str | None]:
    return {key[0]: state for key, state in task_instances.task_states(connection, run.dag_id, run.run_id).items()}


def test_a_triggered_run_is_queued_and_the_scheduler_is_told(engine: Engine) -> None:
    with transaction(engine) as connection:
        store_dag(connection, "d")
        run = runs.trigger(connection, "d", NOW, conf={"é": [1, None]}, note="by hand")
        assert (run.state, run.run_type, run.logical_date, run.queued_at) == ("queued", "manual", NOW, NOW)
        assert run.run_id == f"manual__{NOW.isoformat()}"
        assert run.conf == {"é": [1, None]}
        assert _revision(connection) == 1
        assert runs.find_run(connection, "d", run.run_id) == run == runs.get_run(connection, "d", logical_date=NOW)


def test_the_data_interval_is_the_timetables(engine: Engine) -> None:
    with transaction(engine) as connection:
        store_dag(connection, "d", schedule="@daily")
        run = runs.trigger(connection, "d", NOW)
        given = runs.trigger(connection, "d", NOW, logical_date=NOW - timedelta(9), data_interval=(NOW, NOW))
    assert (run.data_interval_start, run.data_interval_end) == (
        datetime(2026, 2, 28, tzinfo=UTC),
        datetime(2026, 3, 1, tzinfo=UTC),
    )
    assert (given.data_interval_start, given.data_interval_end) == (NOW, NOW)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"run_id": "first"}, "has a run 'first' already"),
        ({"logical_date": NOW}, "has a run of"),
        ({"run_id": "no/slash"}, "can't be a run_id"),
        ({"run_id": "x" * 251}, "can't be a run_id"),
        ({"logical_date": datetime(2026, 1, 1)}, "no time zone"),
        ({"conf": [1]}, "no JSON object"),
        ({"conf": {"x": object()}}, "can't be written as JSON"),
        ({"conf": {"x": float("nan")}}, "can't be written as JSON"),
    ],
)
def test_a_run_that_can_not_be_is_refused_and_nothing_is_left(engine: Engine, arguments: dict, says: str) -> None:
    with transaction(engine) as connection:
        store_dag(connection, "d")
        runs.trigger(connection, "d", NOW, run_id="first", logical_date=NOW)
    with pytest.raises(UsageError, match=says), transaction(engine) as connection:
        runs.trigger(connection, "d", NOW, **arguments)
    with reading(engine) as connection:
        assert [run.run_id for run in runs.list_runs(connection)] == ["first"]
        assert _revision(connection) == 1


def test_an_unknown_or_inactive_dag_can_not_be_triggered(engine: Engine) -> None:
    with transaction(engine) as connection:
        store_dag(connection, "d")
        with pytest.raises(NotFound):
            runs.trigger(connection, "e", NOW)
        connection.execute(update(dag).values(is_active=False))
        with pytest.raises(UsageError, match="not active"):
            runs.trigger(connection, "d", NOW)


def test_runs_that_are_triggered_at_once_are_all_made(engine: Engine) -> None:
    with transaction(engine) as connection:
        store_dag(connection, "d")
    errors: list[OpskitError] = []

    def trigger() -> None:
        try:
            for _ in range(5):
                with transaction(engine) as connection:
                    runs.trigger(connection, "d", NOW)
        except OpskitError as error:
            errors.append(error)

    threads = [threading.Thread(target=trigger) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with reading(engine) as connection:
        found = runs.list_runs(connection, dag_id="d")
    assert len({run.logical_date for run in found}) == 15


def test_runs_are_found_by_state_type_and_date(engine: Engine) -> None:
    with transaction(engine) as connection:
        store_dag(connection, "d")
        for days, state in enumerate(["success", "failed", "running"]):
            start_run(connection, "d", NOW + timedelta(days), {}, state=state, run_type="scheduled")
        assert [run.state for run in runs.list_runs(connection, dag_id="d")] == ["running", "failed", "success"]
        assert len(runs.list_runs(connection, limit=2)) == 2
        assert [run.state for run in runs.list_runs(connection, state="failed")] == ["failed"]
        assert len(runs.list_runs(connection, start=NOW + timedelta(1), end=NOW + timedelta(1))) == 1
        assert runs.list_runs(connection, run_type="manual") == []
        previous = runs.previous_run(connection, "d", NOW + timedelta(2))
        assert previous is not None and previous.state == "failed"
        good = runs.previous_run(connection, "d", NOW + timedelta(2), "success")
        assert good is not None and good.logical_date == NOW
        assert runs.previous_run(connection, "d", NOW) is None
        assert runs.count_runs(connection, "d", ["success", "failed"], [NOW, NOW + timedelta(2)]) == 1
        with pytest.raises(NotFound, match="has no run"):
            runs.get_run(connection, "d", "nope")


def test_a_cleared_task_runs_again_with_its_retries_and_its_tries_are_history(engine: Engine) -> None:
    later = NOW + timedelta(hours=1)
    with transaction(engine) as connection:
        store_dag(connection, "d", retries=2)
        run = start_run(
            connection, "d", NOW, {"a": "success", "b": "failed", "c": "upstream_failed"}, state="failed", try_number=3
        )
        for task_id in ("a", "b"):
            xcoms.set_xcom(connection, "d", run.run_id, task_id, -1, "return_value", 1, NOW)
        before = _revision(connection)
        chosen = task_instances.select_to_clear(connection, "d", run_ids=[run.run_id], only_failed=True)
        assert [instance.task_id for instance in chosen] == ["b", "c"]
        assert task_instances.clear(connection, "d", chosen, later) == 2
        assert _revision(connection) == before + 1
        assert _states(connection, run) == {"a": "success", "b": None, "c": None}
        b = task_instances.get_task_instance(connection, "d", run.run_id, "b")
        assert (b.try_number, b.max_tries, b.dispatches) == (3, 5, 1)
        assert (b.start_date, b.end_date, b.worker_id, b.pid) == (None, None, None, None)
        history = task_instances.attempts(connection, "d", run.run_id, "b")
        assert [(attempt.try_number, attempt.state) for attempt in history] == [(3, "failed")]
        assert xcoms.list_xcoms(connection, "d", run.run_id, "b") == {}
        assert xcoms.list_xcoms(connection, "d", run.run_id, "a") == {"return_value": 1}
        again = runs.get_run(connection, "d", run.run_id)
        assert again.state in ("running", "queued") and again.end_date is None
        # A second clear of what has no state yet is nothing, and spoils no history.
        assert task_instances.clear(connection, "d", chosen, later) == 0
        assert task_instances.attempts(connection, "d", run.run_id, "b") == history


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({}, ["a", "alone", "b", "c", "d"]),
        ({"task_ids": ["b"]}, ["b"]),
        ({"task_ids": ["b"], "downstream": True}, ["b", "d"]),
        ({"task_ids": ["b"], "upstream": True}, ["a", "b"]),
        ({"task_ids": ["b"], "upstream": True, "downstream": True}, ["a", "b", "d"]),
        ({"task_regex": "^[bc]$"}, ["b", "c"]),
        ({"only_failed": True}, ["c", "d"]),
        ({"only_running": True}, ["b"]),
        ({"only_running": True, "only_failed": True}, ["b", "c", "d"]),
        ({"start": NOW + timedelta(1)}, []),
        ({"end": NOW}, ["a", "alone", "b", "c", "d"]),
    ],
)
def test_clear_chooses_by_task_relation_state_and_date(engine: Engine, choice: dict, expected: list[str]) -> None:
    states = {"a": "success", "b": "running", "c": "failed", "d": "upstream_failed", "alone": "success"}
    with transaction(engine) as connection:
        store_dag(connection, "d", edges=DIAMOND)
        start_run(connection, "d", NOW, states)
        assert [instance.task_id for instance in task_instances.select_to_clear(connection, "d", **choice)] == expected


def test_clear_refuses_unknown_tasks_runs_and_patterns(engine: Engine) -> None:
    with transaction(engine) as connection:
        store_dag(connection, "d", edges={"extract": ["load"], "load": []})
        with pytest.raises(NotFound) as caught:
            task_instances.select_to_clear(connection, "d", task_ids=["extrct"])
        assert caught.value.hint == "did you mean extract?"
        with pytest.raises(NotFound):
            task_instances.select_to_clear(connection, "d", task_regex="nothing")
        with pytest.raises(UsageError, match="regular expression"):
            task_instances.select_to_clear(connection, "d", task_regex="(")
        with pytest.raises(NotFound):
            task_instances.select_to_clear(connection, "d", run_ids=["nope"])


def _used(connection: Connection) -> int:
    return int(connection.execute(select(pool.c.used_slots).where(pool.c.pool == "default_pool")).scalar_one())


def test_slots_of_what_is_cleared_or_marked_in_flight_are_given_back(engine: Engine) -> None:
    with transaction(engine) as connection:
        store_dag(connection, "d")
        first = start_run(connection, "d", NOW, {"a": "running", "b": "queued", "c": None})
        second = start_run(connection, "d", NOW + timedelta(1), {"a": "running", "b": "success", "c": None})
        scheduling.recount_pools(connection)
        assert _used(connection) == 3
        chosen = task_instances.select_to_clear(connection, "d", run_ids=[first.run_id], task_ids=["a"])
        task_instances.clear(connection, "d", chosen, NOW)
        assert _used(connection) == 2
        task_instances.mark_tasks(connection, "d", first.run_id, ["b"], "failed", NOW)
        assert _used(connection) == 1
        task_instances.mark_run(connection, "d", second.run_id, "failed", NOW)
        assert _used(connection) == 0
        scheduling.recount_pools(connection)
        assert _used(connection) == 0


def test_marking_a_failed_task_lets_what_failed_below_it_run(engine: Engine) -> None:
    with transaction(engine) as connection:
        store_dag(connection, "d", edges=DIAMOND)
        states = {"a": "failed", "b": "upstream_failed", "c": "skipped", "d": "upstream_failed", "alone": "success"}
        run = start_run(connection, "d", NOW, states, state="failed")
        changed = task_instances.mark_tasks(connection, "d", run.run_id, ["a"], "success", NOW)
        assert [(instance.task_id, instance.state) for instance in changed] == [("a", "failed")]
        assert _states(connection, run) == {"a": "success", "b": None, "c": "skipped", "d": None, "alone": "success"}
        assert runs.get_run(connection, "d", run.run_id).state == "running"
        assert task_instances.mark_tasks(connection, "d", run.run_id, ["a"], "success", NOW) == []
        with pytest.raises(UsageError):
            task_instances.mark_tasks(connection, "d", run.run_id, ["a"], "running", NOW)


def test_a_run_is_marked_with_all_its_tasks(engine: Engine) -> None:
    with transaction(engine) as connection:
        store_dag(connection, "d", edges=DIAMOND)
        states = {"a": "success", "b": "running", "c": "up_for_retry", "d": None, "alone": "failed"}
        good = start_run(connection, "d", NOW, states)
        bad = start_run(connection, "d", NOW + timedelta(1), states)
        task_instances.mark_run(connection, "d", good.run_id, "success", NOW)
        assert set(_states(connection, good).values()) == {"success"}
        task_instances.mark_run(connection, "d", bad.run_id, "failed", NOW)
        assert _states(connection, bad) == {
            "a": "success",
            "b": "failed",
            "c": "skipped",
            "d": "skipped",
            "alone": "failed",
        }
        assert [run.state for run in runs.list_runs(connection)] == ["failed", "success"]
        assert all(run.end_date == NOW for run in runs.list_runs(connection))


def test_a_run_in_flight_is_not_deleted(engine: Engine) -> None:
    with transaction(engine) as connection:
        store_dag(connection, "d")
        run = start_run(connection, "d", NOW, {"a": "running"})
        with pytest.raises(GuardRefused):
            runs.delete_run(connection, "d", run.run_id, NOW)
        task_instances.mark_run(connection, "d", run.run_id, "failed", NOW)
        runs.delete_run(connection, "d", run.run_id, NOW)
        assert runs.list_runs(connection) == []
        assert task_instances.in_flight_attempts(connection) == []
