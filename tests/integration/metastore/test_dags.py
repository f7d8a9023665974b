"""What the DAG processor stores, and what people do to DAGs, on each kind of database."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from opskit.core.metastore import dag_loads, dags, runs
from opskit.core.metastore.dag_loads import LoadedFile, store_loaded_files
from opskit.core.metastore.engine import Connection, Engine, reading, transaction
from opskit.core.metastore.tables import dag, dag_run, dag_version, task_instance
from opskit.errors import GuardRefused, NotFound
from tests.metastore_rows import NOW, dag_data, loaded_file, start_run, store_dag


def _row(connection: Connection, dag_id: str) -> tuple[int, object]:
    row = connection.execute(select(dag.c.revision, dag.c.wake_at).where(dag.c.dag_id == dag_id)).one()
    return row.revision, row.wake_at


def test_a_new_dag_is_due_at_once_and_shows_what_its_file_says(engine: Engine) -> None:
    data = dag_data("d", schedule="@daily", description="daily work", owners=["ann", "bob"], tags=["x", "é"])
    upcoming = dag_loads.NextRun(NOW, NOW, NOW + timedelta(days=1), NOW + timedelta(days=1))
    file = loaded_file("sub/d.py", data)
    file = replace(file, dags=[replace(file.dags[0], next_run=upcoming, schedule="@daily")])
    with transaction(engine) as connection:
        stored = store_loaded_files(connection, [file], NOW)
        assert (stored.new, stored.changed, stored.deactivated) == (["d"], [], [])
        assert _row(connection, "d") == (0, NOW)
        found = dags.get_dag(connection, "d")
        assert found.owners == ["ann", "bob"] and found.tags == ["x", "é"] and found.schedule == "@daily"
        assert found.next_run_after == NOW + timedelta(days=1) and found.fileloc == "sub/d.py"
        assert not found.is_paused and found.is_active
        assert [task.task_id for task in dags.get_serialized(connection, "d").tasks] == ["a", "b", "c"]
        assert dags.get_source(connection, "d") == "# source"


def test_a_file_that_is_loaded_again_unchanged_disturbs_no_scheduler(engine: Engine) -> None:
    later = NOW + timedelta(minutes=1)
    with transaction(engine) as connection:
        store_dag(connection, "d")
        stored = store_loaded_files(connection, [loaded_file("d.py", dag_data("d"))], later)
        assert not stored
        assert _row(connection, "d") == (0, NOW)
        assert dags.get_dag(connection, "d").last_parsed_at == later
        assert connection.execute(select(func.count()).select_from(dag_version)).scalar() == 1


def test_a_new_version_raises_the_revision_and_keeps_the_old_one(engine: Engine) -> None:
    later = NOW + timedelta(minutes=1)
    with transaction(engine) as connection:
        store_dag(connection, "d")
        dags.set_paused(connection, ["d"], True, NOW)
        before = dags.get_dag(connection, "d").version_hash
        stored = store_loaded_files(connection, [loaded_file("d.py", dag_data("d", retries=3))], later)
        assert stored.changed == ["d"]
        assert _row(connection, "d") == (2, later)
        after = dags.get_dag(connection, "d")
        assert after.version_hash != before and after.is_paused
        assert dags.get_serialized(connection, "d", before).task("a").retries == 0
        assert dags.get_serialized(connection, "d").task("a").retries == 3


def test_a_broken_file_leaves_its_dags_as_they_were(engine: Engine) -> None:
    broken = LoadedFile("d.py", "1" * 64, import_error="SyntaxError: line 3")
    new = LoadedFile("new.py", "2" * 64, import_error="timed out")
    with transaction(engine) as connection:
        store_dag(connection, "d")
        stored = store_loaded_files(connection, [broken, new], NOW)
        assert not stored
        assert dags.get_dag(connection, "d").is_active
        assert [(error.path, error.error) for error in dags.import_errors(connection)] == [
            ("d.py", "SyntaxError: line 3"),
            ("new.py", "timed out"),
        ]
        files = dag_loads.read_files(connection)
        assert (files["d.py"].dag_ids, files["new.py"].dag_ids) == (["d"], [])
        store_dag(connection, "d")
        assert [error.path for error in dags.import_errors(connection)] == ["new.py"]


def test_a_dag_that_its_file_no_longer_defines_is_deactivated_and_comes_back(engine: Engine) -> None:
    with transaction(engine) as connection:
        store_loaded_files(connection, [loaded_file("f.py", dag_data("x"), dag_data("y"))], NOW)
        stored = store_loaded_files(connection, [loaded_file("f.py", dag_data("x"))], NOW)
        assert stored.deactivated == ["y"]
        assert [item.dag_id for item in dags.list_dags(connection)] == ["x"]
        assert [item.dag_id for item in dags.list_dags(connection, include_inactive=True)] == ["x", "y"]
        assert _row(connection, "y")[0] == 1
        again = store_loaded_files(connection, [loaded_file("f.py", dag_data("x"), dag_data("y"))], NOW)
        assert (again.new, again.changed) == ([], ["y"])
        assert dags.get_dag(connection, "y").is_active


def test_only_files_that_are_named_as_gone_lose_their_dags(engine: Engine) -> None:
    with transaction(engine) as connection:
        for name in ("x", "y", "z"):
            store_dag(connection, name)
        stored = store_loaded_files(connection, [], NOW, gone=["x.py", "never.py"])
        assert stored.deactivated == ["x"]
        assert sorted(dag_loads.read_files(connection)) == ["y.py", "z.py"]
        assert dag_loads.read_owners(connection) == {"y": "y.py", "z": "z.py"}


def test_a_dag_that_moves_to_another_file_stays_active(engine: Engine) -> None:
    with transaction(engine) as connection:
        store_dag(connection, "d")
        moved = store_loaded_files(connection, [loaded_file("new.py", dag_data("d"))], NOW)
        assert moved.changed == ["d"]
        gone = store_loaded_files(connection, [loaded_file("d.py")], NOW, gone=[])
        assert not gone
        assert dags.get_dag(connection, "d").fileloc == "new.py"


def test_three_hundred_files_are_stored_in_a_few_statements(engine: Engine) -> None:
    files = [loaded_file(f"f{n}.py", dag_data(f"d{n}")) for n in range(300)]
    with transaction(engine) as connection:
        assert len(store_loaded_files(connection, files, NOW).new) == 300
    changed = [loaded_file(f"f{n}.py", dag_data(f"d{n}", retries=n % 2)) for n in range(300)]
    with transaction(engine) as connection:
        stored = store_loaded_files(connection, changed, NOW)
        assert len(stored.changed) == 150
        assert len(dags.list_dags(connection)) == 300


def test_pausing_tells_the_schedulers_once(engine: Engine) -> None:
    later = NOW + timedelta(minutes=1)
    with transaction(engine) as connection:
        store_dag(connection, "x")
        store_dag(connection, "y")
        assert dags.set_paused(connection, ["x", "y"], True, later) == ["x", "y"]
        assert dags.set_paused(connection, ["x", "y"], True, later) == []
        assert _row(connection, "x") == (1, later)
        assert [item.dag_id for item in dags.list_dags(connection, paused=True)] == ["x", "y"]
        assert dags.set_paused(connection, ["x"], False, later) == ["x"]


def test_an_unknown_dag_names_the_nearest_one(engine: Engine) -> None:
    with transaction(engine) as connection:
        store_dag(connection, "daily_report")
    with reading(engine) as connection:
        for ask in (
            lambda: dags.get_dag(connection, "dayly_report"),
            lambda: dags.get_serialized(connection, "dayly_report"),
            lambda: dags.set_paused(connection, ["dayly_report"], True, NOW),
            lambda: dags.delete_dag(connection, "dayly_report"),
        ):
            with pytest.raises(NotFound) as caught:
                ask()
            assert "daily_report" in str(caught.value.hint)


def test_deleting_a_dag_takes_its_runs_and_is_refused_while_a_task_runs(engine: Engine) -> None:
    with transaction(engine) as connection:
        store_dag(connection, "d")
        store_dag(connection, "other")
        start_run(connection, "d", NOW, {"a": "running"})
        start_run(connection, "other", NOW, {"a": "running"})
        with pytest.raises(GuardRefused):
            dags.delete_dag(connection, "d")
        connection.execute(update(task_instance).values(state="success"))
        assert dags.delete_dag(connection, "d") == 1
        assert connection.execute(select(dag_run.c.dag_id)).scalars().all() == ["other"]
        assert connection.execute(select(func.count()).select_from(task_instance)).scalar() == 1
        assert "d.py" not in dag_loads.read_files(connection)


def test_the_timetable_goes_on_from_the_newest_automated_run(engine: Engine) -> None:
    with transaction(engine) as connection:
        store_dag(connection, "d", schedule="@daily")
        assert dag_loads.last_automated(connection, ["d"]) == {}
        for days, kind in ((0, "scheduled"), (1, "backfill"), (2, "manual")):
            runs.trigger(connection, "d", NOW, logical_date=NOW + timedelta(days), run_type=kind)
        found = dag_loads.last_automated(connection, ["d", "unknown"])
        run = runs.get_run(connection, "d", logical_date=NOW + timedelta(1))
        assert found == {"d": (run.data_interval_start, run.data_interval_end)}
