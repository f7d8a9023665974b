"""Rows go in the order that the live schema asks for, in a schema shaped like Airflow's."""

from __future__ import annotations

import pytest
from sqlalchemy import ColumnElement, MetaData, func, select, text

from opskit.core.metastore import foreign_keys
from opskit.core.metastore.engine import Engine, open_engine, reading, transaction

SCHEMA = """
CREATE TABLE dag_version (id INTEGER PRIMARY KEY, at INTEGER);
CREATE TABLE dag_run (id INTEGER PRIMARY KEY, dag_id VARCHAR(50) NOT NULL, run_id VARCHAR(50) NOT NULL, at INTEGER,
  created_dag_version_id INTEGER REFERENCES dag_version(id), UNIQUE (dag_id, run_id));
CREATE TABLE task_instance (id INTEGER PRIMARY KEY, dag_id VARCHAR(50), run_id VARCHAR(50), at INTEGER,
  dag_version_id INTEGER, FOREIGN KEY (dag_id, run_id) REFERENCES dag_run (dag_id, run_id) ON DELETE CASCADE,
  FOREIGN KEY (dag_version_id) REFERENCES dag_version (id));
CREATE TABLE task_reschedule (id INTEGER PRIMARY KEY, ti_id INTEGER, at INTEGER,
  FOREIGN KEY (ti_id) REFERENCES task_instance (id));
CREATE TABLE backfill (id INTEGER PRIMARY KEY, at INTEGER, after_id INTEGER, FOREIGN KEY (after_id)
  REFERENCES backfill (id))
"""


@pytest.fixture
def engine(database_url: str) -> Engine:
    if database_url.startswith("sqlite"):
        open(database_url.removeprefix("sqlite:///"), "w").close()
    opened = open_engine(database_url)
    with transaction(opened) as connection:
        for statement in SCHEMA.split(";"):
            connection.execute(text(statement))
        for number in range(1, 11):
            # Run 3 is old, and a young task instance's reschedule still refers to it by its task instance.
            values = {"n": number, "r": f"r{number}", "at": number}
            connection.execute(text("INSERT INTO dag_version VALUES (:n, :at)"), values)
            connection.execute(text("INSERT INTO dag_run VALUES (:n, 'd', :r, :at, :n)"), values)
            connection.execute(text("INSERT INTO task_instance VALUES (:n, 'd', :r, :at, :n)"), values)
            late = {**values, "at": 99 if number == 3 else number}
            connection.execute(text("INSERT INTO task_reschedule VALUES (:n, :n, :at)"), late)
            connection.execute(
                text("INSERT INTO backfill VALUES (:n, :at, :before)"), {**values, "before": number - 1 or None}
            )
    return opened


def old(reflected: MetaData) -> dict[str, ColumnElement[bool]]:
    return {name: table.c.at <= 5 for name, table in reflected.tables.items()}


def test_rows_that_are_still_referenced_stay_and_are_counted(engine: Engine) -> None:
    done = {one.table: (one.removed, one.referenced) for one in foreign_keys.clear(engine, old, batch_size=2)}
    with reading(engine) as connection:
        left = {
            name: connection.execute(select(func.count()).select_from(text(name))).scalar_one() for name in sorted(done)
        }
    engine.dispose()
    assert done["task_reschedule"] == (4, 0)
    assert done["task_instance"] == (4, 1)
    # The cascade from the run would meet the reschedule that stays.
    assert done["dag_run"] == (4, 1)
    assert done["dag_version"] == (4, 1)
    # The one after the last old one refers to that.
    assert done["backfill"] == (0, 5)
    assert left["task_instance"] == 6


def test_indexes_that_a_deletion_needs_are_missed(engine: Engine) -> None:
    with reading(engine) as connection:
        found = foreign_keys.references(connection)
        missing = foreign_keys.missing_indexes(found, connection.dialect.name)
        kind = connection.dialect.name
    engine.dispose()
    assert {(one.child, one.parent) for one in found} >= {
        ("task_reschedule", "task_instance"), ("task_instance", "dag_run"), ("backfill", "backfill"),
    }  # fmt: skip
    if kind in ("mysql", "mariadb"):
        assert missing == []  # InnoDB makes them itself
    else:
        assert any("ON task_reschedule (ti_id)" in line for line in missing)


def test_a_cascade_over_tables_that_nobody_named_stops_at_a_row_that_can_not_go(engine: Engine) -> None:
    (done,) = foreign_keys.clear(engine, lambda reflected: {"dag_run": reflected.tables["dag_run"].c.at <= 5})
    assert (done.removed, done.referenced) == (0, 5)
    with transaction(engine) as connection:
        connection.execute(text("DELETE FROM task_reschedule WHERE at < 99"))
    (done,) = foreign_keys.clear(engine, lambda reflected: {"dag_run": reflected.tables["dag_run"].c.at <= 5})
    engine.dispose()
    assert (done.removed, done.referenced) == (4, 1)
