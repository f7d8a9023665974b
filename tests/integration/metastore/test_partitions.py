"""History in partitions, on the databases that have them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import func, insert, select, update

from opskit.core.metastore import partitions, runs
from opskit.core.metastore.contents import mysql_contents, postgresql_contents
from opskit.core.metastore.engine import Connection, Engine, open_engine, reading, transaction
from opskit.core.metastore.tables import dag_run, log, task_instance, xcom
from tests.databases import Databases
from tests.integration.metastore.test_retention import OLD, orders, plan, prune
from tests.metastore_rows import NOW, store_dag


@pytest.fixture(params=["postgresql", "mariadb"])
def engine(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Engine]:
    """A metastore with partitions up to the ids 10,000, 20,000 and 30,000."""
    url = databases.migrated(request.param)
    opened = open_engine(url)
    for table in partitions.TABLES:
        for lower in (10_000, 20_000):
            assert partitions.add(opened, table, lower, lower + 10_000, patience_seconds=10)
    yield opened
    opened.dispose()
    databases.drop(url)


def add_runs(connection: Connection, numbers: dict[int, str], *, days: int = 0, dag_id: str = "d") -> None:
    """Runs with these ids and states, as many days after OLD; each with two task instances and an XCom."""
    for number, state in numbers.items():
        at = OLD + timedelta(days=days, seconds=number)
        dates = dict.fromkeys(("logical_date", "data_interval_start", "data_interval_end", "queued_at"), at)
        ended = at if state in ("success", "failed") else None
        values = {"id": number, "dag_id": dag_id, "run_id": f"r{number}", "run_type": "manual", "state": state}
        connection.execute(insert(dag_run).values(**values, conf="{}", end_date=ended, **dates))
        for task_id in ("a", "b"):
            connection.execute(
                insert(task_instance).values(dag_run_id=number, task_id=task_id, map_index=-1, state=state)
            )
        connection.execute(
            insert(xcom).values(dag_run_id=number, task_id="a", map_index=-1, key="k", value=str(number), created_at=at)
        )


def fill(engine: Engine) -> None:
    """Old runs in three partitions, one of them unfinished, and young ones in the last."""
    with transaction(engine) as connection:
        store_dag(connection, "d")
        add_runs(connection, dict.fromkeys((*range(1, 40), *range(10001, 10040)), "success"))
        add_runs(connection, {10_500: "running"})
        add_runs(connection, dict.fromkeys(range(20001, 20040), "success"))
        add_runs(connection, dict.fromkeys(range(30001, 30003), "success"), days=90)


def remaining(engine: Engine) -> dict[str, list[int]]:
    with reading(engine) as connection:
        return {
            table.name: sorted(set(connection.execute(select(column)).scalars()))
            for table, column in (
                (dag_run, dag_run.c.id),
                (task_instance, task_instance.c.dag_run_id),
                (xcom, xcom.c.dag_run_id),
            )
        }


def bounds(engine: Engine, table: str = "task_instance") -> list[int | None]:
    with reading(engine) as connection:
        return [part.upper for part in partitions.read(connection)[table]]


STAY = [10_039, 10_500, 30_001, 30_002]
"""The run before the unfinished one, that one, and the young ones."""


def test_old_partitions_go_whole_and_what_stays_of_them_is_moved(engine: Engine) -> None:
    fill(engine)
    with reading(engine) as connection:
        planned = plan(connection)
    done = prune(engine)
    assert done.rows == planned == {"dag_run": 116, "task_instance": 232, "xcom": 116}
    assert remaining(engine) == {"dag_run": STAY, "task_instance": STAY, "xcom": STAY}
    assert len(done.partitions) == 6
    assert (done.notes, done.left, done.failed) == ([], [], {})
    # What stayed lies together in one small partition.
    assert bounds(engine) == [30_000, None]
    with reading(engine) as connection:
        assert partitions.retired(connection) == []
        assert connection.execute(select(xcom.c.value).where(xcom.c.dag_run_id == 10_039)).scalar_one() == "10039"
    assert prune(engine).rows == {}


def test_a_run_that_stayed_can_still_be_changed_and_deleted(engine: Engine) -> None:
    fill(engine)
    prune(engine)
    with transaction(engine) as connection:
        changed = update(task_instance).where(task_instance.c.dag_run_id == 10_039, task_instance.c.task_id == "a")
        assert connection.execute(changed.values(state="failed")).rowcount == 1
        add_runs(connection, {77: "success"})
        runs.delete_run(connection, "d", "r10039", NOW)
    assert remaining(engine)["task_instance"] == [77, *STAY[1:]]


def test_rows_of_a_table_that_somebody_holds_go_by_key_and_the_report_says_so(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions.replace, "__kwdefaults__", {"patience_seconds": 0.2})
    fill(engine)
    holder = open_engine(engine.url.render_as_string(hide_password=False))
    with reading(holder) as dump:
        dump.execute(select(func.count()).select_from(task_instance))
        done = prune(engine)
    holder.dispose()
    assert remaining(engine)["task_instance"] == STAY
    assert "task_instance" in [note.split()[0] for note in done.notes]
    assert "task_instance" not in {name.split()[0] for name in done.partitions}
    assert bounds(engine) == [10_000, 20_000, 30_000, None]


def test_a_kill_between_two_steps_leaves_what_the_next_call_finishes(engine: Engine) -> None:
    fill(engine)
    with transaction(engine) as connection:
        # The runs have gone, their rows have not; and a table that was taken out was not dropped.
        connection.execute(dag_run.delete().where(dag_run.c.id < 10_000))
        name = "task_instance_retired_5"
        connection.exec_driver_sql(f"CREATE TABLE {name} (x INTEGER)")
        assert partitions.retired(connection) == [name]
    prune(engine)
    assert remaining(engine) == {"dag_run": STAY, "task_instance": STAY, "xcom": STAY}
    with reading(engine) as connection:
        assert partitions.retired(connection) == []


def test_xcoms_may_go_before_their_runs(engine: Engine) -> None:
    fill(engine)
    wanted = orders(OLD - timedelta(days=1), xcom=OLD + timedelta(days=50))
    with reading(engine) as connection:
        planned = plan(connection, wanted)
    assert prune(engine, wanted).rows == planned == {"xcom": 116}
    found = remaining(engine)
    assert found["xcom"] == STAY
    assert len(found["task_instance"]) == 120
    assert bounds(engine, "xcom") == [30_000, None]


def test_partitions_are_made_ahead_of_the_runs_and_only_when_it_is_time(engine: Engine) -> None:
    assert partitions.make_ahead(engine, NOW) == []
    with transaction(engine) as connection:
        store_dag(connection, "d")
        add_runs(connection, {29_000: "running", 31_000: "running"})
    made = partitions.make_ahead(engine, OLD + timedelta(days=1), patience_seconds=10)
    # Partitions of PostgreSQL leave out what is in the last one already.
    lower = 32_000 if engine.dialect.name == "postgresql" else 30_000
    assert len(made) == 3
    with reading(engine) as connection:
        part = partitions.read(connection)["xcom"][-2]
    assert (part.lower, part.upper is not None and part.upper >= lower + 10_000) == (lower, True)
    assert partitions.make_ahead(engine, OLD + timedelta(days=1)) == []
    assert remaining(engine)["xcom"] == [29_000, 31_000]


def test_the_contents_of_a_table_are_all_its_partitions(engine: Engine) -> None:
    with transaction(engine) as connection:
        store_dag(connection, "d")
        add_runs(connection, {1: "success", 10_001: "success", 99_999: "success"})
        connection.execute(insert(log).values(at=NOW, owner="x", event="y", extra="{}"))
    with reading(engine) as connection:
        if engine.dialect.name == "postgresql":
            found = postgresql_contents(connection, "postgresql-record")
        else:
            found = mysql_contents(connection, "mysql-text")
    assert {name: one.rows for name, one in found.items() if one.rows and name != "dag_file"} == {
        "alembic_version": 1, "dag": 1, "dag_run": 3, "dag_version": 1, "log": 1, "slot_pool": 1, "task_instance": 6,
        "xcom": 3,
    }  # fmt: skip
